"""How answers are printed: JSON for programs, tables and lines for people."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from privacy.plain import plain


class Format(StrEnum):
    """How a result is printed."""

    table = "table"
    json = "json"


def number(value: float | None, digits: int = 3) -> str:
    """A number for people; a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:.{digits}f}" if math.isfinite(value) else "unbounded"


def _finite(value: Any) -> Any:
    """The same with None for what JSON has no number for."""
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def to_json(document: Any) -> str:
    """One JSON document; numbers that JSON does not have become null."""
    return json.dumps(_finite(document), indent=2, allow_nan=False) + "\n"


def write_json(document: Any) -> None:
    """Print one JSON document on standard output."""
    sys.stdout.write(to_json(document))


def write_lines(lines: Sequence[str]) -> None:
    """Print lines on standard output, as plain text."""
    sys.stdout.write("".join(f"{plain(line)}\n" for line in lines))


def write_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the first column is text, the others are numbers."""
    table = Table(title=Text(plain(title)), title_justify="left")
    for place, column in enumerate(columns):
        table.add_column(Text(plain(column)), justify="right" if place else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(table)


def say(line: str) -> None:
    """Print a line of progress on standard error, as plain text."""
    sys.stderr.write(f"{plain(line)}\n")
    sys.stderr.flush()


def warn(message: str) -> None:
    """Print a remark on standard error."""
    sys.stderr.write(f"fedcart: {plain(message)}\n")
