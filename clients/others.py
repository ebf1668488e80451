"""What a federation's other members know, for one platform: the published table without what the platform sent itself.

A platform knows its own noised sums exactly, for they lie in its outbox. It takes them off, noise and all, and adds its
own exact counts instead (`clients.memory`): nothing of its own shoppers counts twice.

| case                                                   | what happens                                        |
|--------------------------------------------------------|-----------------------------------------------------|
| a platform that sent nothing (a newcomer)              | the table as it is                                  |
| a run of it that the table does not hold               | is not taken off                                    |
| an update that the ledger knows and the outbox lost    | stays in: its own shoppers count a little twice     |
| a run over an older vocabulary                         | is carried over; stays in where that version is gone |
| no item is a product of the vocabulary                 | others know nothing: zeros                          |
"""

from collections.abc import Collection

from numpy.typing import NDArray

from clients.memory import Memory, spread
from clients.outbox import Outbox
from clients.own_ledger import open_ledger
from clients.products import Products, older_vocabularies
from clients.site import SiteSettings
from privacy.events import event_from_json
from privacy.ledger.entry import Kind
from shared_model.stages import Stage, TableShape, part_of
from shared_model.table import ProductTable
from shared_model.vocabulary import Vocabulary, carried, carried_products


def others_memory(table: ProductTable, products: Products) -> Memory:
    """Return what a table says about a platform's items."""
    return spread(table.counts(products.vocabulary.edges), products.vocabulary.edges, products.of_item)


def sent_table(site: SiteSettings, vocabulary: Vocabulary, runs: Collection[str]) -> ProductTable:
    """Return what a platform sent in these runs, noise and its variance included, carried over to `vocabulary`.

    Raises LedgerError, OutboxError, CheckpointError.
    """
    shape = TableShape(len(vocabulary), len(vocabulary.edges))
    total, outbox = ProductTable.empty(shape.products, shape.edges), Outbox(site.work / "outbox")
    for entry in open_ledger(site).history():
        if entry.kind is not Kind.RESERVE or entry.body["run"] not in runs:
            continue
        answer = outbox.get(entry.body["key"])
        stage = next((stage for stage in Stage if answer is not None and set(answer) == {stage.value}), None)
        if answer is None or stage is None:
            continue
        answer = _carried(site, stage, answer, vocabulary)
        if answer is None:
            continue
        shape.answer(stage).validate(answer, "from the outbox")
        variance = event_from_json(entry.body["event"]).noise_multiplier ** 2
        total = total.plus(part_of(shape, stage, answer, variance))
    return total


def _carried(
    site: SiteSettings, stage: Stage, answer: dict[str, NDArray], vocabulary: Vocabulary
) -> dict[str, NDArray] | None:
    """Return an answer over `vocabulary`; None if the older version that it was over is not here any more.

    Each version has more products than the one before, and an equal number of edges means the same edges: so the
    length of an answer names its version.
    """
    values = answer[stage.value]

    def fits(version: Vocabulary) -> bool:
        return len(values) == (len(version) if stage is Stage.POPULARITY else len(version.edges))

    if fits(vocabulary):
        return answer
    carry = carried_products if stage is Stage.POPULARITY else carried
    made = next((older for older in older_vocabularies(site) if fits(older)), None)
    return None if made is None else {stage.value: carry(made, vocabulary, values)}
