"""Where a run judges and keeps the heads of ledgers: its own witness, and before it the registry of members.

| killed …                                  | what the next run, or the resumed one, finds                              |
|-------------------------------------------|---------------------------------------------------------------------------|
| before the registry has a head            | nothing: the round is asked again, and the platform sends what it stored  |
| between the registry and the run's witness| the head in the registry, which the platform sends again                  |
| after both                                | the head in both                                                          |

So the registry never knows less than a run. A simulation's platforms are enrolled nowhere: there only the witness of
the run judges, and nobody compares one run with the next.
"""

from collections.abc import Mapping
from pathlib import Path

from federation.validity import now
from privacy.ledger import Head, Witness
from server.ledgers import MemberLedger
from server.members import Members


class RunWitness:
    """Judges and keeps heads for the run in `folder`; `members` is the registry's file, None in a simulation.

    Raises LedgerTamperedError or LedgerUnreadableError if the run's witness cannot go on, RegistryError.
    """

    def __init__(self, folder: Path, members: Path | None) -> None:
        self.own = Witness(folder)
        self._members = None if members is None else Members.open(folder / members)
        self._asked: Mapping[str, MemberLedger] = {}

    def ask(self) -> None:
        """Note what is known of every member's ledger, before members are asked for a round."""
        if self._members is not None:
            self._asked = self._members.ledgers()

    def judge(self, platform: str, head: Head) -> None:
        """Say whether `head` counts, and keep it in the registry; raise LedgerError if it does not, RegistryError."""
        if self._members is not None:
            self._members.see_head(platform, head, self._asked, now())
        self.own.judge(platform, head)
