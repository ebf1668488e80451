"""A shopper's erasure request: out of everything that fedcart keeps on the platform, and kept out.

What was released before stays released: a model trained with differential privacy says about a shopper, at most,
what ε and δ allow, and no release can be recalled. See docs/data.md.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clients.data.columns import split_columns
from clients.data.ids import one_spelling
from clients.data.read import read_interactions
from clients.data.spellings import loosely
from clients.data.store import open_store
from clients.distill.installed import remove_students
from clients.errors import DataError
from clients.feedback.store import FeedbackStore
from clients.folder import ClientFolder
from clients.serving.choices import clear_choices
from clients.site import SiteSettings

_NEAR = 5
"""So many near spellings are named at most."""


@dataclass(frozen=True)
class Erased:
    """How many rows went, and whether students did.

    `files` is where events are read from the platform's own file, which is not touched.
    """

    events: int
    feedback: int
    students: bool
    files: str | None


def erase_shopper(
    folder: ClientFolder, shopper: str, sessions: Sequence[str] = (), *, anyway: bool = False
) -> Erased:
    """Erase a shopper, by any certain spelling of their id. The tombstone is first, so whoever is interrupted erases
    again and nothing comes back.

    Sequences are made from the event store whenever it changed; the outbox holds noised sums only. Students hold what
    shoppers did, without noise: all are deleted, and made anew by `fedcart client distill`; weights of local layers,
    which were chosen on shoppers, are chosen again. anyway : also where shopper or session are not known. Raises
    DataError, before anything changes, for an empty id and one that is not known; StoreError or BusyError where a store
    cannot be written; FolderError where a file cannot be deleted.
    """
    site, shopper = folder.site(), one_spelling(shopper)
    if not shopper:
        raise DataError("SHOPPER is empty: give the shopper's id, as the data has it.")
    if not all(map(one_spelling, sessions)):
        raise DataError("--session is empty: give a session's id, or leave it out.")
    with _feedback(site) as store:
        if not anyway:
            _require_known(site, store, shopper, sessions)
        events = open_store(site.store).erase(shopper, sessions)
        feedback = 0 if store is None else store.erase(shopper, sessions)
    students = remove_students(folder.path)
    clear_choices(folder.path / "serving")
    return Erased(events, feedback, students, None if site.events is None else str(site.events))


@contextmanager
def _feedback(site: SiteSettings) -> Iterator[FeedbackStore | None]:
    """The feedback store; none is made."""
    if "://" not in site.feedback and not Path(site.feedback).exists():
        yield None
        return
    store = FeedbackStore(site.feedback)
    try:
        yield store
    finally:
        store.close()


def _require_known(
    site: SiteSettings, feedback: FeedbackStore | None, shopper: str, sessions: Sequence[str]
) -> None:
    """Refuse ids of which there are no rows, and which were not erased before (an interrupted erasure is run again)."""
    events = open_store(site.store) if (site.store / "manifest.json").exists() else None
    in_file = [] if site.events is None else _in_file(site.events, site)
    if not (
        shopper in in_file
        or (events is not None and (events.erased(shopper) or events.holds(shopper)))
        or (feedback is not None and feedback.holds(shopper))
    ):
        known = {*in_file, *(events.shoppers() if events else ()), *(feedback.shoppers() if feedback else ())}
        near = sorted(name for name in known if loosely(name) == loosely(shopper))[:_NEAR]
        told = f" Near spellings: {', '.join(map(repr, near))}." if near else ""
        raise DataError(
            f"no event and no feedback here is of a shopper {shopper!r}, so nothing was erased.{told} To keep the id out "
            "of later ingests all the same, add --anyway."
        )
    for session in sessions:
        if not (
            (events is not None and events.erased_session(session))
            or (feedback is not None and feedback.holds_session(session))
        ):
            raise DataError(
                f"no feedback here is of a session {session!r}, so nothing was erased. To have it forgotten all the "
                "same, add --anyway."
            )


def _in_file(path: Path, site: SiteSettings) -> list[str]:
    """The shoppers of the platform's own file."""
    table = read_interactions(path, split_columns(site.columns or None)[0])
    return table.frame["user_id"].dropna().unique().tolist()
