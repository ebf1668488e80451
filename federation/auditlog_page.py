"""`fedcart server log` and `fedcart client log`: the audit log for people and programs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from federation.auditlog import read_log
from federation.errors import LogBrokenError
from privacy.cli.output import Format, write_json, write_lines

VerifyOption = Annotated[
    bool, typer.Option("--verify", help="Say whether it is whole, and its head; exit code 3 if it is broken.")
]
HeadOption = Annotated[
    str | None,
    typer.Option("--head", help="A head that was noted before, which must be in it. Implies --verify."),
]


def show_log(folder: Path, *, verify: bool, head: str | None, format: Format) -> None:
    """Print the log of a folder; raise LogBrokenError, after it was printed, if it is not whole."""
    found = read_log(folder)
    faults = list(found.faults)
    if head is not None and head.lower() not in found.hashes:
        faults.append(f"the head {head[:16]}… is not in it: lines were removed or changed since it was noted")
    verify = verify or head is not None
    if format is Format.json:
        document = {"whole": not faults, "faults": faults, "lines": len(found.hashes), "head": found.head}
        write_json(
            document | {"unfinished_bytes": found.cut} | ({} if verify else {"entries": list(found.entries)})
        )
    elif verify:
        write_lines(
            [f"{'BROKEN' if faults else 'WHOLE'}  {len(found.hashes)} lines", *(f"  - {f}" for f in faults)]
        )
        if not faults:
            write_lines([f"  head: {found.head}", "  note it elsewhere, and give it next time: --head"])
        if found.cut:
            write_lines([f"  {found.cut} bytes of a line that a crash left unfinished do not count"])
    else:
        write_lines([_line(entry) for entry in found.entries])
    if faults:
        raise LogBrokenError(f"{folder}: the audit log is broken: {faults[0]}.")


def _line(entry: Mapping[str, Any]) -> str:
    facts = ", ".join(f"{key} {value}" for key, value in sorted(entry["facts"].items()))
    return f"{entry['time'][:19]}  {entry['who']}  {entry['action']} {entry['stage']}  {facts}".rstrip()
