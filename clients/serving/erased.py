"""Who was erased (`fedcart client erase`): unknown to serving at once, before the data is read again, and kept out."""

import os
from collections.abc import Iterable, Sequence

from clients.data.store import EventStore, Manifest, open_store
from clients.errors import StoreError
from clients.feedback import FeedbackEvent, FeedbackStore, Recorded
from clients.site import SiteSettings


class Tombstones:
    """Whom a platform's event store remembers as erased; read again when it changed. Methods raise StoreError."""

    def __init__(self, site: SiteSettings) -> None:
        self._path = site.store
        self._read: tuple[tuple[int, int], EventStore, Manifest] | None = None

    def shoppers(self, names: Iterable[str]) -> frozenset[str]:
        """Return those of some shoppers who were erased."""
        found = self._now()
        return frozenset() if found is None else _among(found[0], names, found[1].erased)

    def sessions(self, names: Iterable[str]) -> frozenset[str]:
        """Return those of some sessions that were erased with their shopper."""
        found = self._now()
        return frozenset() if found is None else _among(found[0], names, found[1].erased_sessions)

    def _now(self) -> tuple[EventStore, Manifest] | None:
        try:
            status = os.stat(self._path / "manifest.json")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{self._path}: cannot be read ({error.strerror}).") from None
        state = (status.st_ino, status.st_mtime_ns)
        if self._read is None or self._read[0] != state:
            store = open_store(self._path)
            self._read = (state, store, store.manifest())
        return self._read[1:]


def _among(store: EventStore, names: Iterable[str], erased: frozenset[str]) -> frozenset[str]:
    if not erased:
        return frozenset()
    asked = list(names)
    digests = store.digests(asked)
    return frozenset(name for name, digest in zip(asked, digests, strict=True) if digest.hex() in erased)


def erased_shoppers(site: SiteSettings, shoppers: Sequence[str]) -> frozenset[str]:
    """Return those of some shoppers whom the platform's event store remembers as erased; raise StoreError."""
    return Tombstones(site).shoppers(shoppers)


class WithoutErased:
    """A feedback store that takes nothing of erased shoppers and sessions, also while they are being erased."""

    def __init__(self, store: FeedbackStore, tombstones: Tombstones) -> None:
        self._store, self._tombstones = store, tombstones

    def record(self, batch: Sequence[FeedbackEvent]) -> Recorded:
        """Store the others' events durably, each once; raise StoreError and store nothing if that fails."""
        gone, sessions = self._erased(batch)
        left = [event for event in batch if event.shopper not in gone and event.session not in sessions]
        done = self._store.record(left) if left else Recorded(0, 0)
        gone, sessions = self._erased(left)
        if gone or sessions:  # erased since: the erasure may have been before these rows
            for shopper in gone | {""}:
                self._store.erase(shopper, sessions)
        return done

    def _erased(self, batch: Sequence[FeedbackEvent]) -> tuple[frozenset[str], frozenset[str]]:
        shoppers = {event.shopper for event in batch} - {""}
        sessions = {event.session for event in batch} - {""}
        return self._tombstones.shoppers(shoppers), self._tombstones.sessions(sessions)
