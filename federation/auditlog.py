"""The audit log of a folder: who did what, one JSON object a line, each with the hash of the line before.

    audit.jsonl   {"action":"admit","facts":{"platform":"toys"},"prev":"…","seq":7,"stage":"done","time":"…","who":"mia"}

An action that changes something is written twice: "begun" before it, and "done" or "failed" after it. What was begun
and never ended was killed. A line counts once it is on the disk, and an action that cannot be written down is not begun.

| what happened to the file                 | what is found                                                        |
|-------------------------------------------|----------------------------------------------------------------------|
| a line was changed, moved, added, removed | that line does not fit its place: broken                             |
| the first lines, or all, were removed     | it does not begin with "init": broken; a missing file is, too        |
| the last lines were removed               | whole by itself: compare with a head that was noted elsewhere        |
| a writer was killed in the middle         | the unfinished line is removed at the next write; it was never said  |

The chain is not signed: it shows what was changed to whoever has an earlier head, and so does not trust the key of
somebody who could rewrite it. Facts are names, versions, reasons and codes; nothing of a platform's data is among them.
"""

import contextlib
import getpass
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from federation.errors import FolderError, LogBrokenError
from federation.files import sync_folder
from federation.lock import turn
from privacy.ledger.entry import GENESIS, canonical, digest, stamp
from shared_model.errors import FedcartError

NAME = "audit.jsonl"
FIRST = "init"
_LINE = {"action": str, "facts": dict, "prev": str, "seq": int, "stage": str, "time": str, "who": str}
_MOST = 500
"""Characters of a fact that are kept."""

Facts = dict[str, str | int | float]


@dataclass(frozen=True)
class LogFile:
    """An audit log as it was read: whole lines that can be read, what is wrong, and how many bytes hang over.

    `hashes` are those of all whole lines, in order: the last one is the head.
    """

    entries: tuple[Mapping[str, Any], ...]
    hashes: tuple[str, ...]
    faults: tuple[str, ...]
    cut: int

    @property
    def head(self) -> str:
        """The hash of the last line."""
        return self.hashes[-1] if self.hashes else GENESIS


def read_log(folder: Path) -> LogFile:
    """Read and check a folder's log; raise FolderError if it cannot be read. A missing one is broken."""
    path = folder / NAME
    try:
        *lines, tail = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return LogFile((), (), (f"{path}: is missing: restore it from a backup",), 0)
    except OSError as error:
        raise FolderError(f"{path}: cannot be read ({error.strerror}).") from None
    entries, hashes, faults, prev = [], [], [], GENESIS
    for seq, line in enumerate(lines):
        found = _entry(line)
        here = digest(line.decode("utf-8", "replace"))
        if found is None:
            faults.append(f"{path}, line {seq + 1}: cannot be read")
        else:
            entries.append(found)
            if (found["seq"], found["prev"]) != (seq, prev):
                faults.append(f"{path}, line {seq + 1}: does not follow the line before it")
            elif seq == 0 and found["action"] != FIRST:
                faults.append(f"{path}: does not begin with {FIRST!r}: it was removed and begun anew")
        hashes.append(here)
        prev = here
    if not lines:
        faults.append(f"{path}: is empty: restore it from a backup")
    return LogFile(tuple(entries), tuple(hashes), tuple(faults), len(tail))


def _entry(line: bytes) -> Mapping[str, Any] | None:
    """Return a line's entry if it is exactly what `AuditLog` writes, else None."""
    try:
        found = json.loads(line)
        if {key: type(value) for key, value in found.items()} != _LINE:
            return None
        return found if canonical(found).encode() == line else None
    except (ValueError, AttributeError, RecursionError):
        return None


class AuditLog:
    """Appends to the log of `folder`; any number of processes may, one after the other."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME

    def record(self, action: str, facts: Mapping[str, str | int | float], stage: str = "done") -> None:
        """Append one line, durably.

        Raises LogBrokenError if the last line was changed, FolderError if the file cannot be written.
        """
        with turn(self._path.with_name(f".{NAME}.lock")):
            try:
                with self._path.open("a+b") as file:
                    self._append(file.fileno(), action, facts, stage)
                sync_folder(self._path.parent)
            except OSError as error:
                raise FolderError(
                    f"{self._path}: cannot be written ({error.strerror}), so nothing was done that must stand there."
                ) from None

    def _append(self, file: int, action: str, facts: Mapping[str, Any], stage: str) -> None:
        *lines, tail = self._path.read_bytes().split(b"\n")
        if tail:  # a writer was killed: what it began to write was never said to be there
            os.ftruncate(file, sum(len(line) + 1 for line in lines))
        if lines and _entry(lines[-1]) is None:
            raise LogBrokenError(f"{self._path}: its last line was changed. See --verify, and restore it.")
        entry = {
            "seq": len(lines),
            "time": stamp(datetime.now(UTC)),
            "who": _who(),
            "action": action,
            "stage": stage,
            "facts": {key: v[:_MOST] if isinstance(v, str) else v for key, v in facts.items()},
            "prev": digest(lines[-1].decode()) if lines else GENESIS,
        }
        text = canonical(entry).encode() + b"\n"
        if os.write(file, text) != len(text):
            raise OSError(28, "the disk is full")
        os.fsync(file)

    @contextlib.contextmanager
    def act(self, action: str, **facts: str | float) -> Iterator[Facts]:
        """Write down that an action begins, and how it ends; what is put into the yielded facts stands at its end."""
        self.record(action, facts, "begun")
        more: Facts = dict(facts)
        try:
            yield more
        except BaseException as error:
            with contextlib.suppress(FedcartError):  # the action's own error says more
                code = str(getattr(error, "code", type(error).__name__))
                self.record(action, facts | {"code": code}, "failed")
            raise
        self.record(action, more, "done")


def _who() -> str:
    """The account of whoever acts, by the system."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
