"""What is new since the last run that this platform took part in: for its own people alone.

work/trained.json says which events there were when a round last trained: how many had ever been added to the store.
The number is a function of all shoppers, with no noise: nothing that the server or another platform sees may depend on
it, unless a person of the platform decides so. See docs/feedback.md.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clients.data.store import open_store
from clients.errors import SiteError, StoreError
from clients.site import SiteSettings
from federation.errors import FolderError
from federation.files import PRIVATE, replace


@dataclass(frozen=True)
class Fresh:
    """`events` that were ingested after `run`, the last run that trained here, had read the store; all without one."""

    events: int
    run: str | None

    def line(self) -> str:
        """The same for people."""
        since = f"the last run here ({self.run})" if self.run else "the beginning: no run trained here yet"
        return f"{self.events:,} events are new since {since}"


class _Trained(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    run: str
    added: Annotated[int, Field(ge=0)]


def added_so_far(site: SiteSettings) -> int | None:
    """Return how many events were ever added to a platform's store, None where it has no sources; raise StoreError."""
    if not site.sources or not (site.store / "manifest.json").exists():
        return None
    return open_store(site.store).manifest().added


def mark_trained(site: SiteSettings, run: str, added: int | None) -> None:
    """Remember what a round of a run trained on. If that cannot be written, later more seems new than is."""
    if added is not None:
        with contextlib.suppress(FolderError, OSError):
            site.work.mkdir(parents=True, exist_ok=True)
            replace(_file(site), _Trained(run=run, added=added).model_dump_json().encode() + b"\n", PRIVATE)


def fresh_events(site: SiteSettings) -> Fresh:
    """Return what is new; raise SiteError where there are no sources, StoreError if store or mark cannot be read."""
    if not site.sources:
        raise SiteError(
            f"{site.name}: client.toml has no [sources.NAME], so nothing is ingested and what is new cannot be counted."
        )
    added, file = added_so_far(site) or 0, _file(site)
    try:
        last = _Trained.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return Fresh(added, None)
    except (OSError, ValidationError):
        raise StoreError(f"{file}: cannot be read. Delete it: then all events count as new.") from None
    before = last.added if last.added <= added else 0  # a store that was begun anew
    return Fresh(added - before, last.run)


def _file(site: SiteSettings) -> Path:
    return site.work / "trained.json"
