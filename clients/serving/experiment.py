"""Which arm of an experiment a shopper belongs to: by a hash, so that it stays the same without being stored."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Experiment:
    """shares : arm → its part of the shoppers; they add up to 1. salt : another one draws anew."""

    shares: Mapping[str, float]
    salt: str = ""

    def arm_of(self, unit: str) -> str:
        """Return the arm of a shopper or session."""
        digest = hashlib.sha256(f"{self.salt}\0{unit}".encode()).digest()
        at, total = int.from_bytes(digest[:8], "big") / 2**64, 0.0
        for arm, share in self.shares.items():
            total += share
            if at < total:
                return arm
        return next(reversed(list(self.shares)))
