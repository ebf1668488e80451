"""`fedcart model show`: what the shared table says about a product, in words. Exit codes are those of `fedcart.py`."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from safetensors.numpy import load_file

from clients.folder import ClientFolder
from clients.models import load_adopted
from clients.products import vocabulary_named
from privacy.cli.output import Format, write_json, write_lines, write_table
from shared_model.errors import BadInputError
from shared_model.stages import read_published
from shared_model.table import Counts
from shared_model.vocabulary import Vocabulary
from shared_model.vocabulary_file import load_vocabulary

model = typer.Typer(no_args_is_help=True, help="The shared model: sparse product embeddings.")


@model.callback()
def _group() -> None:
    """Keep `show` a command of its own."""


@model.command()
def show(
    product: Annotated[
        str | None,
        typer.Argument(
            metavar="[PRODUCT]", help="Words of its title, or its key; the strongest edges of all else."
        ),
    ] = None,
    folder: Annotated[
        Path,
        typer.Option(
            envvar="FEDCART_CLIENT",
            help="A platform's folder, or the folder of a simulation's run; the current one.",
        ),
    ] = Path(),
    count: Annotated[int, typer.Option(min=1, max=1000, help="Edges that are shown.")] = 10,
    format: Annotated[Format, typer.Option(help="What is printed on standard output.")] = Format.table,
) -> None:
    """Show a product's row of weights on its neighbours: who takes the one takes the others.

    The numbers are shoppers, as far as the noise lets them be known: posterior means of noised sums, and public.
    """
    vocabulary, counts = _read(folder)
    edges = np.flatnonzero(counts.pairs > 0)
    chosen = None if product is None else _find(vocabulary, product)
    if chosen is not None:
        edges = edges[(vocabulary.edges[edges] == chosen).any(1)]
    best = edges[np.argsort(-counts.pairs[edges], kind="stable")][:count]
    rows = []
    for edge in best.tolist():
        a, b = vocabulary.edges[edge].tolist()
        one, other = (b, a) if b == chosen else (a, b)
        rows.append((one, other, float(counts.pairs[edge])))
    if format is Format.json:
        keys = vocabulary.keys
        write_json(
            {
                "product": None if chosen is None else keys[chosen],
                "popularity": None if chosen is None else float(counts.popularity[chosen]),
                "edges": [{"of": keys[a], "and": keys[b], "shoppers": number} for a, b, number in rows],
            }
        )
        return
    if chosen is not None:
        said = f"about {counts.popularity[chosen]:,.1f} shoppers have it"
        write_lines([f"{_words(vocabulary, chosen)} ({vocabulary.keys[chosen]}): {said}"])
    if not rows:
        write_lines(["no edge stands out of the noise"])
        return
    table = [(_words(vocabulary, a), _words(vocabulary, b), f"{number:.2f}") for a, b, number in rows]
    write_table("Strongest edges", ("people who take", "take", "shoppers, about"), table)


def _read(folder: Path) -> tuple[Vocabulary, Counts]:
    """Return the vocabulary and counts of an adopted model, or of a simulation's run."""
    if (folder / "scenario.json").exists():
        file = folder / "model.safetensors"
        if not file.exists():
            raise BadInputError(f"{folder}: the run has no model yet: fedcart simulate --resume {folder}.")
        vocabulary = load_vocabulary(folder / "vocabulary.safetensors")
        return vocabulary, read_published(load_file(file), str(file)).counts(vocabulary.edges)
    adopted = load_adopted(folder)
    vocabulary = vocabulary_named(ClientFolder(folder).site(), adopted.card.vocabulary)
    return vocabulary, adopted.table.counts(vocabulary.edges)


def _find(vocabulary: Vocabulary, wanted: str) -> int:
    """Return the product that is meant; raise BadInputError that names those it could be."""
    if wanted in vocabulary.keys:
        return vocabulary.keys.index(wanted)
    words = wanted.casefold().split()
    found = [n for n, text in enumerate(vocabulary.texts) if all(word in text.casefold() for word in words)]
    exact = [n for n in found if vocabulary.titles[n].casefold() == wanted.casefold()]
    if len(exact) == 1 or len(found) == 1:
        return (exact or found)[0]
    some = "; ".join(f"{vocabulary.titles[n]} ({vocabulary.keys[n]})" for n in found[:5])
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    raise BadInputError(
        f"{wanted!r}: {len(found)} products have these words{': ' + some + more if found else ''}. Name one by its key, "
        "or with more words."
        if found
        else f"{wanted!r}: no product of the vocabulary has these words, or this key."
    )


def _words(vocabulary: Vocabulary, product: int) -> str:
    return " ".join(filter(None, (vocabulary.titles[product], vocabulary.brands[product])))[:60]
