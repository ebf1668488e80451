"""What is known of who asks: past events, the events of this session, and typed text, as one history."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from clients.data.ids import one_spelling
from clients.data.sequences import Sequences
from clients.data.split import Split

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Shoppers:
    """The platform's shoppers. `gone` were erased and are unknown from then on."""

    sequences: Sequences
    rows: dict[str, int]
    gone: frozenset[str] = frozenset()

    @classmethod
    def of(cls, sequences: Sequences) -> "Shoppers":
        """Build from sequences."""
        return cls(sequences, {name: row for row, name in enumerate(sequences.user_ids)})

    def find(self, shopper: str) -> int | None:
        """Return a shopper's position; None for one who is not known, or was erased."""
        shopper = one_spelling(shopper)
        return None if shopper in self.gone else self.rows.get(shopper)

    def without(self, shoppers: frozenset[str]) -> "Shoppers":
        """Return the same without some."""
        return replace(self, gone=self.gone | shoppers)


@dataclass(frozen=True, eq=False)
class History:
    """L ≥ 0 events, the oldest first.

    rows : (L,) catalogue rows, −1 for a text. texts : (L,) the text, "" for an item. vectors : (L, F) features.
    ages : (L,) ≥ 1, in baskets back from now. seen : rows of all items ever had, beyond the L.
    """

    rows: Ints
    texts: tuple[str, ...]
    vectors: torch.Tensor
    ages: NDArray[np.float32]
    seen: frozenset[int]

    def __len__(self) -> int:
        return len(self.rows)


def whole(sequences: Sequences) -> Split:
    """Return a split that holds nothing out: serving knows every event."""
    none = np.full(len(sequences), -1, dtype=np.int64)
    return Split(sequences, sequences.offsets[1:], sequences.offsets[1:], none, none)


def past_events(shoppers: Shoppers, shopper: int | None, length: int) -> tuple[Ints, Ints, frozenset[int]]:
    """Return the last `length` rows, their ages, and all distinct rows of a shopper; nothing for None."""
    if shopper is None:
        return np.empty(0, np.int64), np.empty(0, np.int64), frozenset()
    rows, groups = shoppers.sequences.user(shopper)
    ages = groups[-1] + 1 - groups if len(groups) else groups
    return rows[-length:], ages[-length:], frozenset(rows.tolist())


def make_history(
    past: tuple[Ints, Ints, frozenset[int]],
    session: Sequence[int],
    texts: Sequence[str],
    text_vectors: torch.Tensor,
    features: torch.Tensor,
    length: int,
    *,
    one_basket: bool,
) -> History:
    """Join what was with what is: the session is the newest basket, or with `one_basket` false one basket an event.

    Typed texts are the newest of all. At most `length` events stay, the newest.
    """
    rows, ages, seen = past
    here = np.asarray(session, dtype=np.int64)
    typed = len(texts)
    newest = np.ones(len(here)) if one_basket else np.arange(len(here), 0, -1)
    shift = int(newest[0]) if len(here) else 0
    if typed and not len(here):
        shift = 1
    rows = np.concatenate([rows, here, np.full(typed, -1, dtype=np.int64)])[-length:]
    since = np.concatenate([ages + shift, newest, np.ones(typed)])[-length:].astype(np.float32)
    words = [*[""] * (len(rows) - min(typed, len(rows))), *texts[-length:]]
    vectors = features[torch.from_numpy(np.maximum(rows, 0))].float()
    if typed:
        vectors[rows < 0] = text_vectors[-length:].to(vectors)
    return History(rows, tuple(words), vectors, since, seen | frozenset(here.tolist()))
