"""The front door: every command is there, and none waits for what only another needs."""

import subprocess
import sys

import pytest

import fedcart

ASK = """
import sys
import fedcart
code = fedcart.run(sys.argv[1:])
print(*sorted({"torch", "flwr", "opacus", "pandas", "dp_accounting"} & set(sys.modules)))
sys.exit(code)
"""


@pytest.mark.parametrize(("group", "kind"), [((), fedcart.FrontDoor), (("client",), fedcart.Client)])
def test_help_lists_every_command(capfd, group, kind):
    assert fedcart.run([*group, "--help"]) == 0
    shown = capfd.readouterr().out
    assert all(f" {name} " in shown for name in kind.places)


@pytest.mark.parametrize("name", ["simulate", "client", "server", "audit", "audit empirical", "audit verify"])
def test_every_command_explains_itself(capfd, name):
    assert fedcart.run([*name.split(), "--help"]) == 0
    shown = capfd.readouterr().out
    assert f"fedcart {name}" in shown
    assert "completion" not in shown


def test_an_unknown_command_is_bad_input(capfd):
    assert fedcart.run(["trian"]) == 2
    assert "trian" in capfd.readouterr().err
    assert fedcart.run(["audit", "verfy"]) == 2


@pytest.mark.parametrize(
    ("asked", "meant"), [("clinet", "client"), ("client serv", "serve"), ("audit empiricl", "empirical")]
)
def test_a_misspelt_command_is_told_what_it_may_be(capfd, asked, meant):
    assert fedcart.run(asked.split()) == 2
    assert f"Did you mean '{meant}'?" in capfd.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--version"], ["audit", "explain"], ["audit", "head", "no-such-ledger"]]
)
def test_the_audit_waits_for_no_training_library(arguments):
    done = subprocess.run(
        [sys.executable, "-c", ASK, *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == (4 if "head" in arguments else 0), done.stderr
    assert done.stdout.splitlines()[-1] == ""


@pytest.mark.parametrize("command", ["serve", "recommend"])
def test_what_serves_waits_for_nothing_that_only_training_needs(command, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", ASK, "client", command, "--folder", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout.splitlines()[-1] == "pandas torch"
