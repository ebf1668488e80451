"""The front door: composes the command groups and turns errors into messages and exit codes.

| exit code | meaning                                                          |
|-----------|------------------------------------------------------------------|
| 0         | done                                                             |
| 1         | the run or the check failed                                      |
| 2         | input that cannot be used: option, file, scenario, encoder       |
| 3         | a ledger that was tampered with, or is not this population's;    |
|           | an attack that proves more than is claimed                       |
| 4         | a ledger, key, checkpoint … that cannot be read or written       |
| 5         | refused by budget, policy, rules of enrolment; model not trusted |
| 6         | a mechanism refused to release (non-finite sums)                 |
| 70        | a bug; the traceback is shown, please report it                  |
| 130       | interrupted; the run can be resumed                              |
"""

import sys
import traceback
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import ClassVar

import click
import typer
from typer.core import TyperGroup

from privacy.errors import PrivacyError
from privacy.plain import plain
from shared_model.collector import collector_off
from shared_model.errors import FedcartError
from shared_model.version import VERSION


class Later(TyperGroup):
    """A group of which some commands are imported when asked for: a ledger can be seen without torch."""

    places: ClassVar[Mapping[str, str]] = {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return [*super().list_commands(ctx), *self.places]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is asked for, or say which is nearly called so."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            if near := get_close_matches(args[0], self.places):
                said = f"{error.message.rstrip('.')}. Did you mean {' or '.join(map(repr, near))}?"
                raise click.UsageError(said, error.ctx) from None
            raise

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return one command, or None."""
        if cmd_name not in self.places:
            return super().get_command(ctx, cmd_name)
        module, attribute = self.places[cmd_name].split(":")
        with collector_off():
            found = getattr(import_module(module), attribute)
        if isinstance(found, typer.Typer):
            found.info.cls = GROUPS.get(cmd_name, TyperGroup)
            command: click.Command = typer.main.get_group(found)
        else:
            alone = typer.Typer(add_completion=False)
            alone.command(cmd_name)(found)
            command = typer.main.get_command(alone)
        command.name = cmd_name
        return command


class Audit(Later):
    """`fedcart audit`: the commands that read ledgers, and the one that trains."""

    places: ClassVar[Mapping[str, str]] = {"empirical": "simulations.empirical:empirical"}


class Client(Later):
    """`fedcart client`."""

    places: ClassVar[Mapping[str, str]] = {
        "init": "clients.member_cli:init",
        "request": "clients.member_cli:request",
        "join": "clients.member_cli:join",
        "approve": "clients.member_cli:approve",
        "cap": "clients.member_cli:cap",
        "doctor": "clients.member_cli:doctor",
        "log": "clients.member_cli:log",
        "start": "clients.member_cli:start",
        "status": "clients.member_cli:status",
        "adopt": "clients.models_cli:adopt",
        "models": "clients.models_cli:list_models",
        "rollback": "clients.models_cli:rollback",
        "serve": "clients.serving.cli:serve",
        "recommend": "clients.serving.cli:recommend",
        "ingest": "clients.data_cli:ingest_command",
        "fresh": "clients.data_cli:fresh",
        "erase": "clients.data_cli:erase",
        "report": "clients.data_cli:report",
        "catalogue": "clients.catalogue_cli:catalogue",
        "distill": "clients.distill.cli:distill",
    }


class FrontDoor(Later):
    """`fedcart`."""

    places: ClassVar[Mapping[str, str]] = {
        "simulate": "simulations.cli:simulate",
        "client": "clients.cli:client",
        "server": "server.cli:server",
        "audit": "privacy.cli:audit",
    }


GROUPS: Mapping[str, type[TyperGroup]] = {"audit": Audit, "client": Client}

app = typer.Typer(
    name="fedcart",
    cls=FrontDoor,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Federated, privacy-preserving, cross-platform recommendations.",
)


@app.callback(invoke_without_command=True)
def root(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    """Federated, privacy-preserving, cross-platform recommendations."""
    if version:
        sys.stdout.write(f"fedcart {VERSION}\n")
        raise typer.Exit


def main() -> None:
    """Run the command line and exit with a documented code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; messages go to standard error."""
    try:
        code = app(args=arguments, standalone_mode=False, prog_name="fedcart")
    except (FedcartError, PrivacyError) as error:
        sys.stderr.write(f"fedcart: {plain(error)}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        return _other(error)
    return code if isinstance(code, int) else 0


def _other(error: Exception) -> int:
    """Return the exit code of an error of the command-line parser, or of a bug."""
    show, code = getattr(error, "show", None), getattr(error, "exit_code", None)
    if isinstance(code, int):
        if show is not None:
            show()
        elif type(error).__name__ == "Abort":
            return 130
        return code
    for lines in traceback.format_exception(error):
        sys.stderr.writelines(f"{plain(line)}\n" for line in lines.splitlines())
    sys.stderr.write("fedcart: this is a bug; please report it with the lines above.\n")
    return 70


if __name__ == "__main__":
    main()
