"""What a run adds to: the current published table, carried over to the newest vocabulary."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from federation.registry.card import read_model
from server.folder import ServerFolder
from server.registry.store import ModelStore
from server.vocabulary.store import Version
from shared_model.stages import read_published
from shared_model.table import ProductTable
from shared_model.vocabulary import carried, carried_products


@dataclass(frozen=True)
class Start:
    """A published table, and the runs that are in it."""

    table: ProductTable
    runs: tuple[str, ...]


def start_of(folder: ServerFolder, vocabularies: Sequence[Version]) -> Start | None:
    """Return the registry's current table over the newest of `vocabularies`, oldest first; None before the first.

    A table without privacy is never added to: its exact sums would be in every later version. Raises FolderError.
    """
    registry = ModelStore.open(folder)
    listing = registry.listing()
    if listing is None:
        return None
    current = next(version for version in registry.all() if version.version == listing.current)
    made = next((one for one in vocabularies if one.record.digest == current.card.vocabulary), None)
    if made is None or not current.card.private:
        return None
    with registry.open_model(current.version) as file:
        table = read_published(read_model(file.read(), current.card, current.version), current.version)
    if made is not vocabularies[-1]:
        old, new = made.load(), vocabularies[-1].load()
        temper = carried_products(old, new, table.temper)
        if table.temper.any():
            temper[temper == 0] = 1.0  # a product that came since: weighed like one that hardly anybody has
        table = replace(
            table,
            popularity=carried_products(old, new, table.popularity),
            edges=carried(old, new, table.edges),
            temper=temper,
        )
    return Start(table, tuple(current.card.runs))
