"""The registry through the front door: words, JSON and exit codes; and real processes that are killed."""

import json
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest

from clients import models_cli
from clients.adopt import Adopter
from clients.models import load_adopted
from clients.registry import RegistryClient
from federation.registry.errors import UnreachableError
from federation.validity import now
from server import enrol
from server.registry.store import ModelStore
from tests.front_door import FrontDoor


@pytest.fixture
def run(capfd, root, monkeypatch):
    """Return what runs a command in the copy of `pristine`: exit code, standard output, standard error."""
    monkeypatch.chdir(root)

    return FrontDoor(capfd)


def test_what_is_published_is_listed_and_rolled_back(run, publish):
    assert run.json("server", "models", "--folder", "fed") == {"current": None, "models": []}
    one, two = publish(1), publish(2, taints=["its noise is known"])
    shown = run.json("server", "models", "--folder", "fed")
    assert shown["current"] == two.version
    assert [(m["version"], m["private"]) for m in shown["models"]] == [
        (one.version, True),
        (two.version, False),
    ]
    code, out, _ = run("server", "models", "--folder", "fed")
    assert (code, one.version[:16] in out, "NO" in out, "current" in out) == (0, True, True, True)
    code, out, _ = run("server", "rollback", 1, "--reason", "worse", "--folder", "fed")
    assert (code, "version 1 is current" in out) == (0, True)
    back = run.json("server", "rollback", 2, "--folder", "fed")
    assert (back["current"], back["number"], back["serial"]) == (two.version, 2, 4)


def test_a_card_s_words_steer_no_terminal_and_no_page(run, fed, run_of):
    """Where the noise came from is a member's word, and versions are the server's."""
    made = run_of(1, versions={"x\x1b[2J": "[red]\u202e", "a|b": "<script>"})
    noise = "\x1b]8;;\x9b<img src=x>|[red]"
    made = replace(made, members=[made.members[0].model_copy(update={"noise": noise})])
    ModelStore.open(fed).publish(made, now())
    page = next(fed.models.glob("*/card.md")).read_text()
    assert all(c.isprintable() or c == "\n" for c in page)
    assert "<img" not in page
    assert "<script" not in page
    for command in ("models", "log"):
        code, out, err = run("server", command, "--folder", "fed")
        assert code == 0, err
        assert all(c.isprintable() or c == "\n" for c in out + err)


def test_a_platform_adopts_lists_and_rolls_back(run, publish, served):
    one = publish(1)
    code, out, err = run("client", "adopt", "--folder", "books", "--from", served.address)
    assert code == 0, err
    assert out.startswith("adopted version 1; it is the first\n")
    for said in ("PRIVATE          ε ≤ 8 asked", "books          run ε 7.900 in 2 rounds", one.version):
        assert said in out
    two = publish(2, taints=["its noise is known"])
    code, out, _ = run("client", "adopt", "--folder", "books", "--from", served.address)
    assert "adopted version 2; version 1 was current before" in out
    assert "NOT PRIVATE      do not pass it on as a private model:\n  - its noise is known" in out
    again = run.json("client", "adopt", "--folder", "books", "--from", served.address)
    assert (again["version"], again["before"], again["private"]) == (two.version, two.version, False)
    shown = run.json("client", "models", "--folder", "books")
    assert (shown["current"], shown["damaged"]) == (two.version, [])
    code, out, _ = run("client", "rollback", "--folder", "books")
    assert (code, "version 1 is current" in out, "PRIVATE" in out) == (0, True, True)
    assert run.json("client", "rollback", 2, "--folder", "books")["version"] == two.version
    code, out, _ = run("client", "models", "--folder", "books")
    assert (code, "NO" in out) == (0, True)


def test_the_card_s_registry_is_asked_by_default(run, publish, served, monkeypatch):
    publish(1)
    asked = []
    real = models_cli.RegistryClient
    monkeypatch.setattr(
        models_cli, "RegistryClient", lambda address, m: asked.append(address) or real(served.address, m)
    )
    assert run.json("client", "adopt", "--folder", "books")["number"] == 1
    assert asked == ["localhost:9444"]


def test_each_refusal_has_words_and_a_code(run, fed, root, publish, served):
    one, two = publish(1), publish(2)
    place = fed.models / one.version
    adopt = ("client", "adopt", "--folder", "books", "--from")
    copy = root / "copy"
    copy.mkdir()
    (copy / "card.json").write_bytes((place / "card.json").read_bytes())
    (copy / "model.safetensors").write_bytes((place / "model.safetensors").read_bytes()[:-1])
    assert run(*adopt, served.address)[0] == 0
    cases = [
        ((*adopt, copy), 5, "Version 2 was adopted here"),
        ((*adopt, copy, "--allow-older"), 5, "is not the model of version 1"),
        ((*adopt, "nowhere"), 2, "no file or folder here, and no address either"),
        ((*adopt, "localhost:1"), 1, "cannot be reached"),
        ((*adopt, served.address, "--version", 3), 2, "There is no version '3'"),
        ((*adopt, served.address, "--version", 1), 5, "--allow-older"),
        ((*adopt, place, "--version", 2), 2, "holds version 1"),
        ((*adopt, place, "--wait"), 2, "--wait needs a registry"),
        ((*adopt, served.address, "--wait", "--version", 2), 2, "leave --version out"),
        (("client", "adopt", "--folder", "fed"), 2, "fedcart client init"),
        (("client", "models", "--folder", "fed"), 2, "fedcart client init"),
        (("client", "rollback", "--folder", "fed"), 2, "fedcart client init"),
        (("client", "rollback", "--folder", "books"), 2, "no version from before"),
        (("client", "rollback", 1, "--folder", "books"), 2, "No version '1' is installed here"),
        (("server", "publish", "fed", "--folder", "fed"), 2, "'fed' is no run of fed"),
        (("server", "models", "--folder", "books"), 2, "fedcart server init"),
        (("server", "rollback", 2, "--folder", "fed"), 2, "is current already"),
        (("server", "rollback", 7, "--folder", "fed"), 2, "There is no version '7'"),
        (("server", "registry", "--folder", "books"), 2, "fedcart server init"),
    ]
    for arguments, expected, said in cases:
        code, _, err = run(*arguments)
        assert (code, said in err) == (expected, True), (arguments, code, err)
    enrol.revoke(fed, "books", "test", now())
    code, _, err = run(*adopt, served.address)
    assert (code, "was revoked" in err) == (5, True)
    (root / "books" / "models" / two.version / "model.safetensors").unlink()
    code, out, err = run("client", "models", "--folder", "books", "--format", "json")
    assert (code, json.loads(out)["damaged"]) == (4, [two.version])
    assert "was changed since it was installed" in err


@contextmanager
def process(root, *arguments, wait_for):
    """Run the command line in a process of its own until a line is seen; kill it afterwards."""
    command = [sys.executable, "-m", "fedcart", *map(str, arguments)]
    log = root / "process.log"
    with log.open("ab") as output:
        running = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + 180
        while wait_for not in log.read_text():
            assert running.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        yield SimpleNamespace(process=running, log=log)
    finally:
        running.kill()
        running.wait()


@pytest.mark.slow
def test_a_registry_that_is_killed_and_started_again_goes_on(root, fed, books, publish):
    """Real processes: kill -9, then the same port again, then an orderly end."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    address = f"localhost:{port}"
    publish(1)
    arguments = ("server", "registry", "--folder", fed.path, "--port", port)

    def adopt():
        adopter = Adopter(books)
        with RegistryClient(address, adopter.membership) as client:
            return adopter.from_registry(client, address).version.card.number

    with process(root, *arguments, wait_for="serving the models") as registry:
        assert adopt() == 1
        publish(2)
        with RegistryClient(address, books.membership()) as client:
            lists = client.watch(0)
            assert next(lists) == ModelStore.open(fed).list_bytes()
            registry.process.send_signal(signal.SIGKILL)
            registry.process.wait()
            with pytest.raises(UnreachableError):
                next(lists)
        with pytest.raises(UnreachableError):
            adopt()
    assert load_adopted(books.path).card.number == 1
    registry.log.unlink()
    with process(root, *arguments, wait_for="serving the models") as registry:
        assert adopt() == 2
        registry.process.send_signal(signal.SIGTERM)
        assert registry.process.wait(60) == 0
        assert '"event": "get"' in registry.log.read_text()
