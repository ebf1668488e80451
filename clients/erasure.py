"""A shopper's erasure request: out of everything that fedcart keeps on the platform, and kept out.

What was released before stays released: a model trained with differential privacy says about a shopper, at most,
what ε and δ allow, and no release can be recalled. See docs/data.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clients.data.store import open_store
from clients.distill.installed import remove_students
from clients.errors import DataError
from clients.feedback.store import FeedbackStore
from clients.folder import ClientFolder
from clients.serving.choices import clear_choices


@dataclass(frozen=True)
class Erased:
    """How many rows went, and whether students did.

    `files` is where events are read from the platform's own file, which is not touched.
    """

    events: int
    feedback: int
    students: bool
    files: str | None


def erase_shopper(folder: ClientFolder, shopper: str, sessions: Sequence[str] = ()) -> Erased:
    """Erase a shopper. The tombstone is first, so whoever is interrupted erases again and nothing comes back.

    Sequences are made from the event store whenever it changed; the outbox holds noised sums only. Students hold what
    shoppers did, without noise: all are deleted, and made anew by `fedcart client distill`; weights of local layers,
    which were chosen on shoppers, are chosen again. Raises DataError for an empty id, StoreError or BusyError where a
    store cannot be written, FolderError where a file cannot be deleted.
    """
    site, shopper = folder.site(), shopper.strip()
    if not shopper:
        raise DataError("SHOPPER is empty: give the shopper's id, as the data has it.")
    events = open_store(site.store).erase(shopper, sessions)
    feedback = 0
    if "://" in site.feedback or Path(site.feedback).exists():
        store = FeedbackStore(site.feedback)
        try:
            feedback = store.erase(shopper, sessions)
        finally:
            store.close()
    students = remove_students(folder.path)
    clear_choices(folder.path / "serving")
    return Erased(events, feedback, students, None if site.events is None else str(site.events))
