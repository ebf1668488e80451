"""Notices a new model, catalogue, purchases or stock, and exchanges the snapshot; what cannot be read is said, and
the old one goes on serving."""

import asyncio
from pathlib import Path

import structlog

from clients.folder import ClientFolder
from clients.models import RECORD
from clients.serving.current import Current
from clients.serving.erased import Tombstones
from clients.serving.load import load_snapshot
from clients.serving.snapshot import Snapshot
from clients.serving.steady import warm
from privacy.errors import PrivacyError
from shared_model.errors import FedcartError

WATCH_SECONDS = 1.0
_log = structlog.get_logger("fedcart.serving")
State = tuple[tuple[str, int, int], ...]


def state_of(folder: ClientFolder) -> State:
    """Return size and time of every file that a snapshot is made of."""
    site = folder.site()
    places = [folder.site_file, folder.path / "models" / RECORD, folder.record]
    places.append(site.store / "manifest.json")  # an ingest, or an erasure
    for data in filter(None, (site.events, site.items, *site.images.values())):
        places += sorted(data.rglob("*")) if data.is_dir() else [data]
    if site.serving.out_of_stock is not None:
        places.append(site.serving.out_of_stock)
    return tuple((str(place), *_status(place)) for place in places)


def _status(place: Path) -> tuple[int, int]:
    try:
        status = place.stat()
    except OSError:
        return (0, 0)
    return (status.st_size, status.st_mtime_ns)


async def keep_current(
    folder: ClientFolder, current: Current, seen: State, every: float = WATCH_SECONDS
) -> None:
    """Exchange the snapshot whenever what it was made of changed. Runs until cancelled."""
    while True:
        await asyncio.sleep(every)
        current.sessions.rest()
        try:
            state = await asyncio.to_thread(state_of, folder)
            if state == seen:
                continue
            seen = state  # what cannot be read is tried again when it changes again
            await asyncio.to_thread(_erase, folder, current)
            snapshot = await asyncio.to_thread(_load, folder)
            current.swap(snapshot)
            _log.info("swapped", version=snapshot.version, number=snapshot.number)
        except (FedcartError, PrivacyError, OSError) as error:
            # Messages quote data, and a log goes places: `fedcart client doctor` says them to who sits there.
            _log.error("not-swapped", code=getattr(error, "code", "os"), see="fedcart client doctor")
        except Exception as error:
            _log.error("not-swapped", code="bug", kind=type(error).__name__)


def _load(folder: ClientFolder) -> Snapshot:
    snapshot = load_snapshot(folder)
    warm(snapshot)
    return snapshot


def _erase(folder: ClientFolder, current: Current) -> None:
    """Forget who was erased; reading the data again takes longer."""
    known, erased = current.snapshot.shoppers.sequences.user_ids, Tombstones(folder.site())
    gone = erased.shoppers([*known, *current.sessions.shoppers()])
    sessions = erased.sessions(current.sessions.names())
    if gone or sessions:
        current.erase(gone, sessions)
