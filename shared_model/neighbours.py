"""The nearest products by public text: exactly for up to 50,000 products, by an approximate index beyond.

Shapes: V products, F feature width, K neighbours, I items, C rows of a chunk.
"""

from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared_model.attributes import AttributeEncoder
from shared_model.encoders import Encode, Encoder, FloatArray
from shared_model.errors import BadInputError

EXACT_UP_TO = 50_000
"""Products that are compared with each other one by one: V² products of rows."""
CHUNK = 1024
_LINKS, _BUILT_BY = 24, 60
"""Links of a product in the graph, and products that are looked at to choose them."""
_TRAINED_ON = 20_000
"""Rows from which the steps of 8 bits are chosen."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, and for how many of how many products it is."""


def silent(what: str, done: int, of: int) -> None:
    """Show no progress."""


def text_rows(encoders: Sequence[Encoder], catalogue: Sequence[str]) -> Encode:
    """Return what turns texts into unit rows (zero without a known word), with the words' weights of a public catalogue.

    The encoders' rows side by side, each by its weight before training. Encoders of attributes play no part: price
    and image are no part of a published catalogue, and its text holds brand and category. Raises BadInputError where
    no encoder reads text.
    """
    texts = [encoder for encoder in encoders if not isinstance(encoder, AttributeEncoder)]
    if not texts:
        raise BadInputError(
            "None of the federation's encoders reads text, so products have no neighbours by text. "
            "Name one in [model] encoders, such as hashed-words."
        )
    parts = [(encoder.identity.prior_weight, encoder.fitted(catalogue)) for encoder in texts]

    def rows(of: Sequence[str]) -> FloatArray:
        side_by_side = np.concatenate([np.float32(weight) * encode(of) for weight, encode in parts], axis=1)
        lengths = np.linalg.norm(side_by_side, axis=1, keepdims=True)
        return np.divide(side_by_side, lengths, out=np.zeros_like(side_by_side), where=lengths > 0)

    return rows


def near_pairs(
    encode: Encode, texts: Sequence[str], neighbours: int, progress: Progress = silent
) -> NDArray[np.int32]:
    """Return (E, 2) pairs a < b, sorted and unique: each of V products with its `neighbours` nearest by cosine.

    A pair needs a cosine above 0: a text without a known word has no neighbour. More than `EXACT_UP_TO` products are
    looked up in an approximate index, in half precision. Raises BadInputError where that needs faiss and it is not
    installed.
    """
    if len(texts) > EXACT_UP_TO:
        return _pairs(_approximate(encode, texts, neighbours, progress), len(texts))
    return _pairs(_exact(encode, texts, neighbours, progress), len(texts))


def nearest(
    encode: Encode, texts: Sequence[str], among: Sequence[str]
) -> tuple[NDArray[np.int64], FloatArray]:
    """Return for each of I `texts` the nearest of V texts `among`, (I,), the first of equals, and its cosine, (I,).

    Exact; −1 and 0 where there is nothing to choose among. It costs I · V products of rows, in chunks.
    """
    mine = _encoded(encode, texts, np.float32)
    best = np.full(len(texts), -1, dtype=np.int64)
    cosine = np.zeros(len(texts), dtype=np.float32)
    for start in range(0, len(among), CHUNK * 8):
        rows = encode(among[start : start + CHUNK * 8])
        for first in range(0, len(texts), CHUNK):
            part = slice(first, first + CHUNK)
            similar = mine[part] @ rows.T
            top = similar.argmax(axis=1)
            value = similar[np.arange(len(top)), top]
            better = (value > cosine[part]) | (best[part] < 0)
            best[part] = np.where(better, top + start, best[part])
            cosine[part] = np.where(better, value, cosine[part])
    return best, cosine


def _exact(encode: Encode, texts: Sequence[str], neighbours: int, progress: Progress) -> NDArray[np.int32]:
    """Return (V, K + 1) nearest products, itself among them; −1 where the cosine is not above 0."""
    import torch

    size = len(texts)
    rows = torch.from_numpy(_encoded(encode, texts, np.float32, progress))
    near = np.full((size, min(neighbours + 1, size)), -1, dtype=np.int32)
    for start in range(0, size, CHUNK):
        values, found = torch.topk(rows[start : start + CHUNK] @ rows.T, near.shape[1], dim=1)
        near[start : start + CHUNK] = torch.where(values > 0, found, -1).numpy()
        progress("compared", min(start + CHUNK, size), size)
    return near


def _approximate(
    encode: Encode, texts: Sequence[str], neighbours: int, progress: Progress
) -> NDArray[np.int32]:
    """Return what `_exact` does, as far as a graph over 8-bit rows finds it (HNSW, Malkov & Yashunin 2018).

    The graph is built by one thread, for several would build another one each time.
    """
    faiss = _require_faiss(len(texts))
    rows = _encoded(encode, texts, np.float16, progress)
    index = faiss.IndexHNSWSQ(
        rows.shape[1], faiss.ScalarQuantizer.QT_8bit, _LINKS, faiss.METRIC_INNER_PRODUCT
    )
    index.hnsw.efConstruction, index.hnsw.efSearch = _BUILT_BY, 2 * neighbours
    index.train(rows[:: max(1, len(rows) // _TRAINED_ON)].astype(np.float32))
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        for start, chunk in _chunks(rows):
            index.add(chunk)
            progress("placed", start + len(chunk), len(rows))
    finally:
        faiss.omp_set_num_threads(threads)
    near = np.full((len(rows), neighbours + 1), -1, dtype=np.int32)
    for start, chunk in _chunks(rows):
        values, found = index.search(chunk, near.shape[1])
        near[start : start + CHUNK] = np.where(values > 0, found, -1)
        progress("compared", start + len(chunk), len(rows))
    return near


def _chunks(rows: NDArray[np.float16]) -> Iterator[tuple[int, FloatArray]]:
    """Yield where each chunk begins, and its rows in single precision."""
    for start in range(0, len(rows), CHUNK):
        yield start, rows[start : start + CHUNK].astype(np.float32)


def _require_faiss(size: int) -> ModuleType:
    try:
        import faiss
    except ImportError:
        raise BadInputError(
            f"The neighbours of {size:,} products need an approximate index (more than {EXACT_UP_TO:,}), and faiss is "
            "not installed: pip install 'fedcart[index]'."
        ) from None
    return faiss


def _encoded(encode: Encode, texts: Sequence[str], dtype: type, progress: Progress = silent) -> NDArray[Any]:
    """Return (V, F) rows, encoded in chunks so that nothing but the rows is held as a whole."""
    rows: NDArray[Any] = np.zeros((len(texts), 0), dtype=dtype)
    for start in range(0, len(texts), CHUNK):
        chunk = encode(texts[start : start + CHUNK])
        if not start:
            rows = np.empty((len(texts), chunk.shape[1]), dtype=dtype)
        rows[start : start + CHUNK] = chunk
        progress("encoded", start + len(chunk), len(texts))
    return rows


def _pairs(near: NDArray[np.int32], size: int) -> NDArray[np.int32]:
    """Return the unordered pairs in (V, K') rows of neighbours, sorted and unique, (E, 2)."""
    numbers = np.empty(near.shape, dtype=np.int64)
    for start in range(0, size, CHUNK):
        b = near[start : start + CHUNK]
        a = np.arange(start, start + len(b), dtype=np.int32)[:, None]
        real = (b >= 0) & (a != b)
        numbers[start : start + CHUNK] = np.where(real, packed(np.minimum(a, b), np.maximum(a, b)), -1)
    flat = numbers.ravel()
    flat.sort()  # in place: no second array of this size
    return unpacked(flat[(flat >= 0) & (np.diff(flat, prepend=-1) > 0)])


def packed(low: NDArray[np.integer], high: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return one number a pair, in the order of pairs, whatever V is; products are below 2³¹."""
    return low.astype(np.int64) << 31 | high.astype(np.int64)


def unpacked(numbers: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return (E, 2) pairs of what `packed` made."""
    pairs = np.empty((len(numbers), 2), dtype=np.int32)
    pairs[:, 0], pairs[:, 1] = numbers >> 31, numbers & (2**31 - 1)
    return pairs
