"""What a witness keeps: the signed heads that ledgers sent it, one JSON object a line, appended and never changed.

A ledger that was replaced by an older copy of itself is whole; only somebody who saw a later entry can tell. The
server of a run is that somebody: it keeps the head that came with each update, refuses an update whose head
contradicts what it holds, and an auditor compares the ledger with all of them (``audit verify --witness``).

| head of a platform                        | outcome                                                   |
|-------------------------------------------|-----------------------------------------------------------|
| the first                                 | kept; its key and population are the only ones from now on |
| later entry, or the same one again        | kept                                                      |
| earlier entry, or another hash for one    | refused, kept as proof, and so is every later one         |
| another key or population                 | refused, not kept: nothing shows that the owner signed it |
| another platform's population and key     | kept: they share a ledger; under another key refused      |

After two contradicting heads no copy of the ledger holds all that was released, and heads alone cannot show how
it was mended; so the platform stays out for the rest of the run. A federation's registry applies the same rule
between runs (``server.ledgers``); a simulation has no registry, so there it holds within a run.

Not covered: a copy that was put back and grew past the last head before its next update is sent. The witness
takes its head for a later one; the comparison by ``verify`` finds it, because every head is kept.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from privacy.errors import (
    LedgerError,
    LedgerMismatchError,
    LedgerRolledBackError,
    LedgerTamperedError,
    LedgerUnreadableError,
)
from privacy.ledger.entry import canonical
from privacy.ledger.report import Head

NAME = "witness.jsonl"
"""The file's name in a run's folder."""
_LINE = {"platform": str, "round": int, "head": dict, "refused": bool, "time": str}


@dataclass(frozen=True)
class Kept:
    """One line.

    Args:
        platform: who sent the head; its ledger's population may have a name of its own.
        round: the round of the run in which it came, from 1.
        head: as it was signed; its signature is checked whenever it is read.
        refused: it contradicts an earlier head of its platform.
    """

    platform: str
    round: int
    head: Head
    refused: bool = False


@dataclass(frozen=True)
class WitnessFile:
    """A witness file as it was read.

    Args:
        kept: the lines that hold.
        faults: what is wrong with the others, each with its number.
        cut: how many bytes of an unfinished last line a crash left, which are not counted.
    """

    kept: tuple[Kept, ...]
    faults: tuple[str, ...]
    cut: int = 0


def read_witness_file(path: Path) -> WitnessFile:
    """Read a witness file and check every signature; an absent file holds nothing.

    Raises:
        LedgerUnreadableError: it cannot be read.
    """
    try:
        *lines, tail = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return WitnessFile((), ())
    except OSError as error:
        raise LedgerUnreadableError(f"witness {path} cannot be read: {error.strerror}") from error
    kept: list[Kept] = []
    faults: list[str] = []
    for number, line in enumerate(lines, 1):
        try:
            kept.append(_parse(line))
        except (LedgerError, ValueError, RecursionError) as error:
            faults.append(
                f"witness {path}, line {number}: {error}: it was changed; restore the file from backup"
            )
    try:
        if tail:  # all but its end was written
            kept.append(_parse(tail))
    except (LedgerError, ValueError, RecursionError):
        return WitnessFile(tuple(kept), tuple(faults), len(tail))
    return WitnessFile(tuple(kept), tuple(faults))


def _parse(line: bytes) -> Kept:
    document = json.loads(line.decode())
    if not isinstance(document, dict) or {k: type(v) for k, v in document.items()} != _LINE:
        raise ValueError("it is not a line of a witness")
    kept = Kept(
        document["platform"], document["round"], Head.from_json(document["head"]), document["refused"]
    )
    if kept.round < 1:
        raise ValueError(f"there is no round {kept.round}")
    kept.head.check()
    return kept


class Heads:
    """The heads that were seen of each platform, and the rule by which the next one passes (the module's table)."""

    def __init__(self) -> None:
        self.latest: dict[str, Head] = {}
        self._contradicted: dict[str, tuple[Head, str]] = {}

    def take(self, platform: str, head: Head) -> None:
        """Hold ``head`` as the platform's last one."""
        self.latest[platform] = head

    def contradict(self, platform: str, head: Head, when: str) -> None:
        """Hold ``head`` as proof that the platform's ledger went back, ``when``, such as "in round 2"."""
        self._contradicted.setdefault(platform, (head, when))

    def judge(self, platform: str, head: Head) -> None:
        """Say whether ``head`` fits what is held.

        Raises:
            LedgerRolledBackError: it contradicts an earlier head of its platform.
            LedgerMismatchError: its population is another platform's, which signs with another key.
        """
        for name, theirs in self.latest.items():
            if name != platform and theirs.population == head.population and not head.of_ledger(theirs):
                raise LedgerMismatchError(
                    f"the ledger of {platform!r} names the population {head.population!r}, which {name!r} signs for "
                    "with another key: the same shoppers have one ledger; other shoppers need a population of another "
                    "name"
                )
        held = self.latest.get(platform)
        if held is None:
            return
        if not head.of_ledger(held):
            raise LedgerRolledBackError(
                f"the ledger of {platform!r} has another key or population ({head.population}, "
                f"{head.public_key[:16]}…) than before ({held.population}, {held.public_key[:16]}…): bring that one "
                "back"
            )
        if platform in self._contradicted:
            before, when = self._contradicted[platform]
            raise LedgerRolledBackError(
                f"the ledger of {platform!r} went back to entry {before.seq} {when}: it is left out since then, for "
                "no copy holds all that was released"
            )
        if (head.seq, head.hash) != (held.seq, held.hash) and head.seq <= held.seq:
            what = f"entry {head.seq} came" if head.seq < held.seq else f"another entry {head.seq} came"
            raise LedgerRolledBackError(
                f"the ledger of {platform!r} went back: {what} after entry {held.seq}; an older copy was put back: "
                "restore the newest one, and count what both released"
            )


class Witness:
    """The heads that the server of one run holds, in memory and in the run's file. One process writes.

    Args:
        folder: the run's folder. A last line that a crash left unfinished is removed: its round never counted.

    Raises:
        LedgerTamperedError: a line was changed.
        LedgerUnreadableError: the file cannot be read or mended.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        found = read_witness_file(self._path)
        if found.faults:
            raise LedgerTamperedError(found.faults[0])
        self.cut = found.cut
        self._lines: set[Kept] = set()
        self._heads = Heads()
        for kept in found.kept:
            if not kept.refused:
                self._check_order(kept)
            self._take(kept)
        self._mend()

    @property
    def latest(self) -> Mapping[str, Head]:
        """Platform → its last head that was not refused."""
        return self._heads.latest

    def judge(self, platform: str, head: Head) -> None:
        """Say whether ``head`` fits what is held; raise what ``Heads.judge`` raises."""
        self._heads.judge(platform, head)

    def keep(self, number: int, heads: Mapping[str, Head], refused: Mapping[str, Head] | None = None) -> None:
        """Append a round's heads; when this returns they are on the disk.

        Args:
            number: the round, from 1.
            heads: platform → what ``judge`` let pass.
            refused: platform → what it did not; heads of another ledger than the platform's are left out.

        Raises:
            LedgerUnreadableError: they cannot be written, so the round must not count.
        """
        lines = [Kept(name, number, head) for name, head in heads.items()]
        for name, head in (refused or {}).items():
            if name in self.latest and head.of_ledger(self.latest[name]):
                lines.append(Kept(name, number, head, refused=True))
        new = [kept for kept in lines if kept not in self._lines]
        if not new:
            return
        time = datetime.now(UTC).isoformat()
        text = "".join(canonical(asdict(kept) | {"time": time}) + "\n" for kept in new)
        try:
            with self._path.open("ab") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
            _sync_folder(self._path.parent)
        except OSError as error:
            raise LedgerUnreadableError(
                f"witness {self._path} cannot be written: {error.strerror}: the round does not count; free or "
                "repair the disk and resume"
            ) from error
        for kept in new:
            self._take(kept)

    def require(self, heads: Mapping[str, Head], where: str) -> None:
        """Raise LedgerTamperedError unless the file holds the heads that were written down in ``where`` too."""
        kept = {(line.platform, line.head) for line in self._lines}
        for name, head in heads.items():
            if (name, head) not in kept:
                raise LedgerTamperedError(
                    f"witness {self._path} lacks entry {head.seq} of {name!r}, which {where} holds: it was cut or "
                    "replaced; restore it from backup"
                )

    def _check_order(self, kept: Kept) -> None:
        try:
            self.judge(kept.platform, kept.head)
        except LedgerError as error:
            raise LedgerTamperedError(
                f"witness {self._path}: its lines contradict each other ({error}): lines were moved or removed; "
                "restore the file from backup"
            ) from error

    def _take(self, kept: Kept) -> None:
        self._lines.add(kept)
        if kept.refused:
            self._heads.contradict(kept.platform, kept.head, f"in round {kept.round}")
        else:
            self._heads.take(kept.platform, kept.head)

    def _mend(self) -> None:
        """End the last line, or remove what a crash left of it."""
        try:
            if not self._path.exists():
                return
            with self._path.open("r+b") as file:
                size = file.seek(0, os.SEEK_END)
                if self.cut:
                    file.truncate(size - self.cut)
                elif size:
                    file.seek(-1, os.SEEK_END)
                    if file.read(1) != b"\n":
                        file.write(b"\n")
                os.fsync(file.fileno())
        except OSError as error:
            raise LedgerUnreadableError(f"witness {self._path} cannot be mended: {error.strerror}") from error


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
