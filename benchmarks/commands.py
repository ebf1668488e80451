"""What the benchmarks' commands share: where the data is, and exit codes.

| exit code       | meaning                                               |
|-----------------|-------------------------------------------------------|
| 0               | done                                                  |
| 2 and the like  | what cannot be used; the error says which code        |
| 70              | a bug; the traceback is shown                         |
| 130             | interrupted; the same command continues               |
"""

import os
import sys
import traceback
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

import typer

from privacy.errors import PrivacyError
from shared_model.errors import BadInputError, FedcartError


class Format(StrEnum):
    """How a report is printed."""

    markdown = "markdown"
    json = "json"


def among(option: str, asked: Sequence[str] | None, known: Sequence[str]) -> Sequence[str]:
    """Return the names that an option asks for, all where it is left out; raise BadInputError for an unknown one."""
    unknown = sorted(set(asked or []) - set(known))
    if unknown:
        raise BadInputError(f"{option} {unknown[0]}: choose among {', '.join(known)}.")
    return asked or known


def data_folder(named: Path | None) -> Path:
    """Return the folder of the data: the named one, or FEDCART_DATA; raise BadInputError without either."""
    folder = named or os.environ.get("FEDCART_DATA")
    if not folder:
        raise BadInputError("there is no data: give --data or set FEDCART_DATA, or try --quick.")
    return Path(folder)


def run(app: typer.Typer, name: str, arguments: Sequence[str]) -> int:
    """Run the command `python -m benchmarks.<name>` and return its exit code."""
    try:
        code = app(args=list(arguments), standalone_mode=False, prog_name=f"python -m benchmarks.{name}")
    except (FedcartError, PrivacyError) as error:
        sys.stderr.write(f"{name}: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write(f"{name}: interrupted; the same command continues\n")
        return 130
    except Exception as error:
        show, exit_code = getattr(error, "show", None), getattr(error, "exit_code", None)
        if show is not None and isinstance(exit_code, int):
            show()
            return exit_code
        traceback.print_exception(error)
        return 70
    return int(code or 0)
