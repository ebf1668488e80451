"""What a vocabulary costs, and how many of the exact neighbours it has where an index finds them.

    python -m benchmarks.vocabulary [--products 100000] [--neighbours 50] [--titles DATA/s3rec_toys …] [--format json]

Titles are those of the catalogues named, each once. Where more products are asked for than there are titles, further
ones are put together from the first half of one and the second half of another; without catalogues, all are of words
drawn by Zipf's law.
"""

import resource
import sys
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.commands import run
from benchmarks.report import Format, Row, measure, setting, show
from clients.data.catalogue import build_catalogue
from clients.data.read import read_items
from privacy.cli.output import say
from shared_model.encoders import Encode
from shared_model.features import make_encoders
from shared_model.neighbours import packed, text_rows
from shared_model.vocabulary import PublicCatalogue, Vocabulary
from shared_model.vocabulary_file import vocabulary_bytes

_CHUNK = 8192
app = typer.Typer(add_completion=False)


def made_up(rng: np.random.Generator, titles: list[str], products: int) -> list[str]:
    """Return `products` different titles: those given, then halves of two of them put together."""
    words = [f"word{n}".translate(str.maketrans("0123456789", "abcdefghij")) for n in range(20_000)]
    drawn = np.minimum(rng.zipf(1.3, (0 if titles else products, 8)), len(words)) - 1
    found = dict.fromkeys([*titles, *(" ".join(words[n] for n in row) for row in drawn)])
    halves = [title.split() for title in found]
    while len(found) < products:
        for a, b in rng.integers(0, len(halves), (products - len(found), 2)):
            first, second = halves[a], halves[b]
            found[" ".join([*first[: len(first) // 2 + 1], *second[len(second) // 2 :]])] = None
    return list(found)[:products]


def nearest_of(
    encode: Encode, texts: list[str], sample: NDArray[np.int64], neighbours: int
) -> NDArray[np.int64]:
    """Return (S, K): the exact nearest products of S sampled ones, without themselves."""
    rows = encode([texts[n] for n in sample])
    best = np.full((len(sample), 0), 0, dtype=np.int64)
    values = np.zeros((len(sample), 0), dtype=np.float32)
    for start in range(0, len(texts), _CHUNK):
        similar = rows @ encode(texts[start : start + _CHUNK]).T
        inside = np.flatnonzero((sample >= start) & (sample < start + _CHUNK))
        similar[inside, sample[inside] - start] = -1
        values = np.concatenate([values, similar], axis=1)
        numbers = np.broadcast_to(np.arange(start, start + similar.shape[1]), similar.shape)
        best = np.concatenate([best, numbers], axis=1)
        top = np.argpartition(-values, min(neighbours, values.shape[1] - 1), axis=1)[:, :neighbours]
        values, best = np.take_along_axis(values, top, 1), np.take_along_axis(best, top, 1)
    return best


def peak() -> float:
    """Most memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


@app.command()
def vocabulary(
    products: Annotated[int, typer.Option(min=10, help="V.")] = 100_000,
    neighbours: Annotated[int, typer.Option(min=1, help="K.")] = 50,
    titles: Annotated[
        list[Path] | None, typer.Option(help="A folder with items.parquet; may be repeated.")
    ] = None,
    sample: Annotated[
        int, typer.Option(min=1, help="Products whose neighbours are also found exactly.")
    ] = 500,
    seed: Annotated[int, typer.Option(help="Seed of what is made up and sampled.")] = 0,
    format: Annotated[Format, typer.Option(help="What is printed on standard output.")] = Format.table,
) -> None:
    """Measure the making of a vocabulary, and its neighbours against exact ones."""
    rng, encoders = np.random.default_rng(seed), make_encoders(["hashed-words"])
    real = [
        title
        for folder in titles or []
        for title in build_catalogue(read_items(folder / "items.parquet"))[0].titles
    ]
    texts = made_up(rng, real, products)
    keys = [f"code:{n:08}" for n in range(products)]
    catalogue = PublicCatalogue.of(keys, texts, [""] * products, [""] * products)
    started, stages = time.monotonic(), dict[str, float]()

    def progress(what: str, done: int, of: int) -> None:
        if done == of:
            stages[what] = round(time.monotonic() - started, 1)
            say(f"{what} {of:,} products after {stages[what]} s")

    before = peak()
    spent, made = measure(lambda: Vocabulary.empty().grown([catalogue], encoders, neighbours, progress))
    elapsed, most = time.monotonic() - started, peak()
    writing, data = measure(lambda: vocabulary_bytes(made))
    chosen = np.sort(rng.choice(products, size=min(sample, products), replace=False))
    exact = nearest_of(text_rows(encoders, made.texts), made.texts, chosen, neighbours)
    a, b = np.repeat(chosen, exact.shape[1]), exact.ravel()
    found = np.isin(packed(np.minimum(a, b), np.maximum(a, b)), packed(made.edges[:, 0], made.edges[:, 1]))
    found_part = float(found.mean())
    rows = [
        Row(
            f"vocabulary of {products:,} products, {neighbours} neighbours, {len(made.edges):,} edges", spent
        ),
        Row(f"the same as a file of {len(data) / 2**20:,.0f} MB", writing),
    ]
    what = setting(("fedcart", "numpy", "torch", "faiss-cpu"), seed) | {
        "real_titles": len(set(real)),
        "seconds": round(elapsed, 1),
        "stages": stages,
        "edges": len(made.edges),
        "recall": round(found_part, 4),
        "most_memory_gb": round(most, 2),
        "of_it_texts_and_libraries_gb": round(before, 2),
    }
    show("Vocabulary", rows, what, format)
    if format is Format.table:
        sys.stdout.write(
            f"{elapsed:.0f} s by the clock, {most:.2f} GB at most ({before:.2f} GB before), {found_part:.1%} of the "
            f"{neighbours} exact neighbours of {len(chosen)} products\n"
        )


if __name__ == "__main__":
    sys.exit(run(app, "vocabulary", sys.argv[1:]))
