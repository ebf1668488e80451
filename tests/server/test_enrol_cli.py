"""Enrolment through the front door: both sides, their words, and their exit codes."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from federation.keys import spoken
from tests.front_door import FrontDoor


@pytest.fixture
def run(capfd, monkeypatch, tmp_path):
    """Return what runs a command in an empty folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    return FrontDoor(capfd)


CLIENT = ("--events", "e.csv", "--items", "i.csv", "--population-size", 2000, "--epsilon-cap", 8)


@pytest.fixture
def federation(run):
    """Return a federation in `fed` and a platform's request in `books`."""
    made = run.json("server", "init", "fed", "--name", "groceries", "--address", "localhost:9443")
    run.json("client", "init", "books", "--name", "books", "--federation", "groceries", *CLIENT)
    asked = run.json("client", "request", "--folder", "books", "--contact", "anna@books.example")
    return SimpleNamespace(
        fingerprint=made["fingerprint"], request=asked["request"], platform=asked["fingerprint"]
    )


def test_from_nothing_to_a_member(run, federation):
    code, out, err = run(
        "server", "admit", federation.request, "--folder", "fed", "--fingerprint", federation.platform
    )
    assert code == 0, err
    assert "anna@books.example" in out
    assert spoken(federation.platform) in out
    assert out.rstrip().endswith("Send it fed/kits/books-1.kit.json")
    code, out, err = run(
        "client",
        "join",
        "fed/kits/books-1.kit.json",
        "--folder",
        "books",
        "--fingerprint",
        spoken(federation.fingerprint),
    )
    assert code == 0, err
    assert "books is a member of groceries; kit 1 is in force." in out
    listed = run.json("server", "members", "--folder", "fed")["members"]
    assert [(m["name"], m["state"], m["node"]) for m in listed] == [("books", "admitted", "registered")]
    code, out, _ = run("server", "members", "--folder", "fed")
    assert (code, "anna@books.example" in out) == (0, True)
    rotated = run.json("client", "request", "--folder", "books", "--rotate")
    kit = run.json("server", "admit", rotated["request"], "--folder", "fed")
    assert kit["rotated"]
    assert kit["member"]["contact"] == "anna@books.example"
    assert run.json("client", "join", kit["kit"], "--folder", "books")["kit"] == 2
    another = run.json("server", "kit", "books", "--folder", "fed")["kit"]
    assert run.json("client", "join", another, "--folder", "books")["kit"] == 3
    assert (
        run.json("server", "revoke", "books", "--reason", "test", "--folder", "fed")["member"]["state"]
        == "revoked"
    )
    listed = run.json("server", "members", "--folder", "fed")["members"]
    assert [(m["name"], m["state"], m["node"]) for m in listed] == [("books", "revoked", "–")]


def test_without_a_terminal_a_fingerprint_must_be_given(run, federation):
    code, out, err = run("server", "admit", federation.request, "--folder", "fed")
    assert code == 5
    assert "--fingerprint" in err
    assert "request to join" in out
    kit = run.json(
        "server", "admit", federation.request, "--folder", "fed", "--fingerprint", federation.platform
    )
    code, _, err = run("client", "join", kit["kit"], "--folder", "books")
    assert code == 5
    assert "--fingerprint" in err


@pytest.mark.parametrize(("answer", "expected"), [(True, 0), (False, 5)])
def test_at_a_terminal_a_person_is_asked(run, federation, monkeypatch, answer, expected):
    questions = []
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(typer, "confirm", lambda text, **_: questions.append(text) or answer)
    code, _, err = run("server", "admit", federation.request, "--folder", "fed")
    assert code == expected
    assert spoken(federation.platform) in err
    assert len(questions) == 1
    if answer:
        code, _, err = run("client", "join", "fed/kits/books-1.kit.json", "--folder", "books")
        assert code == 0
        assert spoken(federation.fingerprint) in err


def test_each_refusal_has_words_and_a_code(run, federation, tmp_path):
    admit = ("server", "admit", "--folder", "fed", "--fingerprint", federation.platform)
    whole = (tmp_path / federation.request).read_bytes()
    (tmp_path / "changed").write_bytes(whole.replace(b'"books"', b'"cooks"'))
    cases = [
        ((*admit, "changed"), 5, "refused as tampered: changed: "),
        ((*admit, "missing"), 2, "cannot be read"),
        (
            ("server", "admit", "--folder", "fed", "--fingerprint", "00", federation.request),
            5,
            "another fingerprint",
        ),
        (
            ("server", "admit", "--folder", "books", "--fingerprint", "00", federation.request),
            2,
            "fedcart server init",
        ),
        (("client", "request", "--folder", "fed"), 2, "fedcart client init"),
        (
            ("client", "join", federation.request, "--folder", "books", "--fingerprint", "00"),
            5,
            "takes fedcart-kit/1",
        ),
        (("server", "init", "fed", "--name", "g", "--address", "a:1"), 2, "is not overwritten"),
        (("server", "init", "two", "--name", "g", "--address", "here"), 2, "write host:port"),
        (("client", "init", "books", "--name", "b", "--federation", "g", *CLIENT), 2, "is not overwritten"),
        (("client", "init", "two", "--name", "b b", "--federation", "g", *CLIENT), 2, "name = 'b b'"),
        (("server", "revoke", "books", "--reason", "x", "--folder", "fed"), 2, "There is no member 'books'"),
        (("server", "rotate-authority", "--finish", "--folder", "fed"), 2, "without --finish"),
    ]
    for arguments, expected, said in cases:
        code, _, err = run(*arguments)
        assert (code, said in err) == (expected, True), (arguments, code, err)
    assert not (tmp_path / "two").exists()
    assert run.json("server", "members", "--folder", "fed") == {"members": []}
    (tmp_path / "fed" / "keys" / "signing.key").chmod(0o644)
    code, _, err = run(*admit, federation.request)
    assert (code, "chmod 600" in err) == (4, True)
    assert run.json("server", "members", "--folder", "fed") == {"members": []}


def test_certificates_are_renewed_and_exchanged(run, federation, tmp_path):
    run("server", "admit", federation.request, "--folder", "fed", "--fingerprint", federation.platform)
    run(
        "client",
        "join",
        "fed/kits/books-1.kit.json",
        "--folder",
        "books",
        "--fingerprint",
        federation.fingerprint,
    )
    assert run("server", "renew", "--folder", "fed")[0] == 0
    code, out, _ = run("server", "rotate-authority", "--folder", "fed")
    assert (code, "fed/kits/books-2.kit.json" in out) == (0, True)
    card = run.json("client", "join", "fed/kits/books-2.kit.json", "--folder", "books")["card"]
    assert card["certificates"].count("BEGIN CERTIFICATE") == 2
    assert run("server", "rotate-authority", "--finish", "--folder", "fed")[0] == 0


def test_a_folder_can_come_from_the_environment(run, federation, monkeypatch):
    monkeypatch.setenv("FEDCART_SERVER", "fed")
    monkeypatch.setenv("FEDCART_CLIENT", "books")
    assert run.json("server", "members") == {"members": []}
    assert run("client", "request")[0] == 0


def test_no_output_can_steer_a_terminal(run, federation):
    """A platform's contact is a stranger's text."""
    code, _, err = run("client", "request", "--folder", "books", "--contact", "x\x1b[2J")
    assert (code, "contact" in err) == (2, True)
    assert "\x1b" not in err


@pytest.mark.parametrize("group", ["client", "server"])
def test_help_names_every_command(run, group):
    code, out, _ = run(group, "--help")
    assert code in (0, 2)
    names = {
        "client": ("init", "request", "join", "approve", "cap"),
        "server": ("init", "admit", "kit", "revoke", "members", "renew", "bundle"),
    }
    for name in names[group]:
        assert f" {name} " in out
        assert run(group, name, "--help")[0] == 0


def test_every_command_and_policy_setting_is_documented():
    from clients.member_cli import member_commands
    from clients.site import PolicySettings
    from server.cli import server

    text = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text("utf-8")
    for group, commands in (("client", member_commands), ("server", server)):
        for command in commands.registered_commands:
            name = (command.name or command.callback.__name__).replace("_", "-")
            if name != "members":
                assert f"{group} {name}" in text, f"{group} {name}"
    for key in PolicySettings.model_fields:
        assert f"`{key}`" in text, key
