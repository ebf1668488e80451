"""Item features: named encoders concatenated, and a cache keyed by what went in."""

import hashlib
import io
import os
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from shared_model.attributes import (
    AttributeEncoder,
    Attributes,
    HashedAttributeEncoder,
    ImageEncoder,
    PriceEncoder,
    brand_tokens,
    category_tokens,
)
from shared_model.e5 import MultilingualE5Encoder
from shared_model.encoders import Encoder, EncoderIdentity, FloatArray, HashedWordsEncoder
from shared_model.errors import EncoderError
from shared_model.isolation import isolation
from shared_model.minilm import MiniLMEncoder
from shared_model.model import ModelSpec
from shared_model.sentence import SentenceEncoder

ENCODERS: dict[str, Callable[[], Encoder]] = {
    "hashed-words": HashedWordsEncoder,
    "minilm": MiniLMEncoder,
    "multilingual-e5": MultilingualE5Encoder,
    "brand": lambda: HashedAttributeEncoder("brand", lambda a: a.brands, brand_tokens, 128, 0.3),
    "category": lambda: HashedAttributeEncoder("category", lambda a: a.categories, category_tokens, 256, 0.1),
    "price": PriceEncoder,
}
"""What has a name of its own. The weights before training were chosen on validation shoppers (docs/model.md)."""
KINDS: dict[str, Callable[[str], Encoder]] = {
    "image": ImageEncoder.named,
    "sentence-transformers": SentenceEncoder,
}
"""What is named KIND:…, by kind."""
_HEADER = 2**16 + 10
"""Most bytes of the header of a plain .npy."""


def is_encoder(name: str) -> bool:
    """Whether an encoder can have this name; whether it can be made here, `make_encoders` finds out."""
    return name in ENCODERS or name.partition(":")[0] in KINDS


def encoder_choices() -> str:
    """Return what an encoder can be called, for messages."""
    return f"{sorted(ENCODERS)}, image:MODEL:WIDTH, sentence-transformers:MODEL"


def make_encoders(names: Sequence[str]) -> tuple[Encoder, ...]:
    """Return the encoders with these names, in order; raise EncoderError for an unknown name or a missing extra."""
    if not names or not all(map(is_encoder, names)) or len(set(names)) != len(names):
        raise EncoderError(
            f"[model] encoders = {list(names)!r} cannot be used: name each of {encoder_choices()} at most once, "
            "and at least one."
        )
    return tuple(_encoder(name) for name in names)


@cache
def _encoder(name: str) -> Encoder:
    """Return the one instance of an encoder in this process: weights are read once."""
    return ENCODERS[name]() if name in ENCODERS else KINDS[name.partition(":")[0]](name)


class FeatureCache:
    """What is computed from a whole catalogue, on disk, keyed by a hash of all it comes from: checksum, then `.npy`.

    A file that is missing, cut off, altered or of another shape is computed again. Writes are atomic.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def features(self, encoder: Encoder, texts: Sequence[str]) -> FloatArray:
        """Return `encoder.encode(texts, texts)`, (I, F) float32, from the cache where it is there."""
        shape = (len(texts), encoder.identity.dimension)
        return self.kept(_content_hash(encoder.identity, texts), shape, lambda: encoder.encode(texts, texts))

    def kept(self, key: str, shape: tuple[int, ...], make: Callable[[], FloatArray]) -> FloatArray:
        """Return what `make` returns, float32 and finite, from the cache where it is there; `key` names the content."""
        path = self._folder / f"{key}.features"
        rows = _read(path)
        if rows is not None and rows.shape == shape and rows.dtype == np.float32 and np.isfinite(rows.sum()):
            return rows  # a sum is not finite if any number is not, and makes no second array
        rows = make()
        self._folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=self._folder, suffix=".tmp")
        body = io.BytesIO()
        np.save(body, rows)
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(body.getbuffer()).digest())
            file.write(body.getbuffer())
        os.replace(temporary, path)
        return rows


def _read(path: Path) -> FloatArray | None:
    """Return the rows in a file whose checksum is right, else None."""
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError:
        return None
    if hashlib.sha256(data.data[32:]).digest() != data[:32].tobytes():
        return None
    return _array(data[32:])


def _array(data: npt.NDArray[np.uint8]) -> FloatArray:
    """Return the array in the bytes of an .npy, not copied; what is no plain one is numpy's to read."""
    file = io.BytesIO(data[:_HEADER].tobytes())
    if np.lib.format.read_magic(file) == (1, 0):
        shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
        if not by_columns and not dtype.hasobject:
            return np.frombuffer(data, dtype, int(np.prod(shape)), file.tell()).reshape(shape)
    return np.load(io.BytesIO(data.tobytes()), allow_pickle=False)


def encode_catalogue(
    encoders: Sequence[Encoder],
    texts: Sequence[str],
    cache: FeatureCache | None = None,
    attributes: Attributes | None = None,
) -> FloatArray:
    """Return (I, F) float32 for a catalogue: the encoders' rows side by side, F their widths' sum.

    A row of an encoder is a unit row, or zero where the item has nothing for it; an attribute that the platform does
    not have at all is a block of zeros. Raises EncoderError for attributes that cannot be used.
    """
    known = attributes or Attributes()
    blocks = [_block(encoder, texts, cache, known) for encoder in encoders]
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=1)


def catalogue_isolation(
    encoders: Sequence[Encoder],
    texts: Sequence[str],
    spec: ModelSpec,
    features: torch.Tensor,
    norms: torch.Tensor,
    cache: FeatureCache,
) -> torch.Tensor:
    """Return `isolation` (I,) of what `encode_catalogue` gave, where `features` are; from the cache if it is there."""
    digest = hashlib.sha256(f"isolation 2 {spec}".encode())
    for encoder, block in zip(encoders, features.split(spec.encoder_dimensions, -1), strict=True):
        if isinstance(encoder, AttributeEncoder):
            digest.update(np.ascontiguousarray(block.cpu().numpy()).data)
        else:
            digest.update(_content_hash(encoder.identity, texts).encode())
    rows = cache.kept(
        digest.hexdigest(), (len(features),), lambda: isolation(spec, features, norms).cpu().numpy()
    )
    return torch.from_numpy(rows).to(features.device)


def _block(
    encoder: Encoder, texts: Sequence[str], cache: FeatureCache | None, attributes: Attributes
) -> FloatArray:
    if isinstance(encoder, AttributeEncoder):  # quick, so not kept
        rows = encoder.encode_attributes(attributes)
        return encoder.encode(texts, texts) if rows is None else rows
    return cache.features(encoder, texts) if cache else encoder.encode(texts, texts)


def _content_hash(identity: EncoderIdentity, texts: Sequence[str]) -> str:
    digest = hashlib.sha256(repr(identity).encode())
    for text in texts:
        data = text.encode()
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()
