"""The account with the most events: where no one person shops like that, it is a robot or a till that many share.

Its name is for the platform's own people; it is in no JSON and in nothing that leaves.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from clients.data.distinct import codes_of

SUSPICIOUS = 50
"""So many times the events of an average account."""
_NAME = 60


@dataclass(frozen=True, order=True)
class Busiest:
    """How many events the account has, and its id. Of several parts' busiest, the greatest is that of the whole."""

    events: int = 0
    account: str = field(default="", repr=False)

    @classmethod
    def of(cls, ids: "pd.Series[Any]") -> "Busiest":
        """Return the busiest of the accounts that these events are of; the first of equals."""
        codes, names = codes_of(ids)
        counts = np.bincount(codes[codes >= 0])
        if not counts.size:
            return cls()
        most = int(counts.argmax())
        return cls(int(counts[most]), str(names[most]))

    def suspicious(self, events: int, accounts: int) -> bool:
        """Return whether it has more than `SUSPICIOUS` times the average of so many events of so many accounts."""
        return self.events * accounts > SUSPICIOUS * events

    def line(self, events: int, accounts: int) -> str:
        """Return how much of the events it has; with its id, printable and cut off, where that is suspicious."""
        text = f"the busiest account has {self.events:,} of {events:,} events ({self.events / max(events, 1):.1%})"
        if not self.suspicious(events, accounts):
            return text
        times = self.events * accounts / events
        return (
            f"{text}, {times:,.0f} times the average: {self.account[:_NAME]!a}. If that is no person, keep it "
            "out: fedcart client erase."
        )
