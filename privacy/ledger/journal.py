"""A write that did not finish: what SQLite leaves of it, and undoes on the next read.

A process that dies inside a transaction leaves a *hot* rollback journal beside the file, which may be half
overwritten. SQLite then restores the file from the journal without a word; this says so. Nothing that was granted
can be lost by it: a reservation is granted only after its commit, which removes the journal. Servers undo
unfinished transactions by themselves and leave no trace.
"""

from __future__ import annotations

import sqlite3
import time
from datetime import UTC, datetime
from pathlib import Path

_HEADER = bytes.fromhex("d9d505f920a163d7")
"""How a journal begins that still has to be rolled back (https://www.sqlite.org/fileformat.html, section 3)."""
_STILL = 0.05


def undo_unfinished_write(database: Path) -> str | None:
    """Let SQLite restore ``database`` if its last writer died, and say so; None where there is nothing to undo.

    Raises nothing: what cannot be restored is found when the file is read.
    """
    journal = database.with_name(database.name + "-journal")
    found = _look(journal)
    if found is None:
        return None
    time.sleep(_STILL)  # a living writer's journal grows or goes away
    if _look(journal) != found:
        return None
    try:
        connection = sqlite3.connect(database, timeout=0.0, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")  # a living writer still holds this lock
            connection.execute("ROLLBACK")
        finally:
            connection.close()
    except sqlite3.Error:
        return None
    moment = datetime.fromtimestamp(found[1] / 1e9, UTC).isoformat(timespec="seconds")
    return (
        f"a write that did not finish (last touched {moment}) was undone: its entries do not count, and none of them "
        "was ever granted"
    )


def _look(journal: Path) -> tuple[int, int, int] | None:
    """Inode, time and size of a journal that is to be rolled back."""
    try:
        with journal.open("rb") as file:
            hot = file.read(len(_HEADER)) == _HEADER
        state = journal.stat()
    except OSError:
        return None
    return (state.st_ino, state.st_mtime_ns, state.st_size) if hot else None
