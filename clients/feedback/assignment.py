"""Who sees what in an experiment: by a keyed hash, so that it stays the same without being stored."""

import hashlib
import math
from collections.abc import Mapping

from clients.errors import FeedbackError


def assign_arm(shopper: str, arms: Mapping[str, float], key: bytes) -> str:
    """Return the arm of a shopper (or session): the same one always, independent of every other shopper.

    arms : arm → its weight, ≥ 0 and finite, some positive; the chance is weight over the sum. key : the
    experiment's secret, 1 to 64 bytes; another one draws anew. Raises FeedbackError.
    """
    if not 1 <= len(key) <= hashlib.blake2b.MAX_KEY_SIZE:
        raise FeedbackError(f"the key of an experiment has 1 to 64 bytes, not {len(key)}.")
    total = sum(arms.values())
    if not (all(weight >= 0 for weight in arms.values()) and 0 < total < math.inf):
        raise FeedbackError(
            f"arms: {dict(arms)!r} are no weights: numbers from 0, of which some are positive."
        )
    digest = hashlib.blake2b(shopper.encode(), digest_size=8, key=key, person=b"fedcart.arm").digest()
    at = int.from_bytes(digest, "big") / 2**64 * total
    reached, chosen = 0.0, ""
    for arm, weight in arms.items():
        if weight > 0:
            reached, chosen = reached + weight, arm
            if at < reached:
                break
    return chosen
