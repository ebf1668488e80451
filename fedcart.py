"""The front door: composes the command groups and turns errors into messages and exit codes.

| exit code | meaning                                                          |
|-----------|------------------------------------------------------------------|
| 0         | done                                                             |
| 1         | the run or the check failed                                      |
| 2         | input that cannot be used: option, file, scenario, encoder       |
| 3         | a ledger that was tampered with, or is not this population's;    |
|           | an attack that proves more than is claimed                       |
| 4         | a ledger, key, checkpoint … that cannot be read or written       |
| 5         | refused by budget, platform's policy, or rules of enrolment      |
| 6         | a mechanism refused to release (non-finite sums)                 |
| 70        | a bug; the traceback is shown, please report it                  |
| 130       | interrupted; the run can be resumed                              |
"""

import sys
import traceback

import typer

from clients.cli import client
from privacy.cli import audit
from privacy.errors import PrivacyError
from server.cli import server
from shared_model.errors import FedcartError
from shared_model.version import VERSION
from simulations.cli import simulate
from simulations.empirical import empirical

app = typer.Typer(
    name="fedcart",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Federated, privacy-preserving, cross-platform recommendations.",
)
app.command()(simulate)
app.add_typer(client, name="client")
app.add_typer(server, name="server")
audit.command()(empirical)
app.add_typer(audit, name="audit")


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
        sys.stderr.write(f"fedcart: {error}\n")
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
    traceback.print_exception(error)
    sys.stderr.write("fedcart: this is a bug; please report it with the lines above.\n")
    return 70


if __name__ == "__main__":
    main()
