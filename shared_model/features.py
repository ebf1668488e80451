"""Item features: named encoders concatenated, and a cache keyed by what went in."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from shared_model.encoders import Encoder, EncoderIdentity, FloatArray, HashedWordsEncoder
from shared_model.errors import EncoderError
from shared_model.minilm import MiniLMEncoder

ENCODERS: dict[str, Callable[[], Encoder]] = {"hashed-words": HashedWordsEncoder, "minilm": MiniLMEncoder}


def make_encoders(names: Sequence[str]) -> tuple[Encoder, ...]:
    """Return the encoders with these names, in order; raise EncoderError for an unknown name or a missing extra."""
    unknown = [name for name in names if name not in ENCODERS]
    if unknown or not names or len(set(names)) != len(names):
        raise EncoderError(
            f"[model] encoders = {list(names)!r} cannot be used: name each of {sorted(ENCODERS)} at most once, "
            "and at least one."
        )
    return tuple(ENCODERS[name]() for name in names)


class FeatureCache:
    """Features of a whole catalogue on disk, keyed by a hash of encoder identity and texts, as `.npy`.

    A file that is missing, cut off or of another shape is computed again. Writes are atomic.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def features(self, encoder: Encoder, texts: Sequence[str]) -> FloatArray:
        """Return `encoder.encode(texts, texts)`, (I, F) float32, from the cache where it is there."""
        path = self._folder / f"{_content_hash(encoder.identity, texts)}.npy"
        shape = (len(texts), encoder.identity.dimension)
        try:
            rows = np.load(path, allow_pickle=False)
            if rows.shape == shape and rows.dtype == np.float32 and np.isfinite(rows).all():
                return rows
        except (OSError, ValueError, EOFError):
            pass
        rows = encoder.encode(texts, texts)
        self._folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=self._folder, suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            np.save(file, rows)
        os.replace(temporary, path)
        return rows


def encode_catalogue(
    encoders: Sequence[Encoder], texts: Sequence[str], cache: FeatureCache | None = None
) -> FloatArray:
    """Return (I, F) float32 for a catalogue's texts: the encoders' unit rows side by side, F their widths' sum."""
    parts = [cache.features(e, texts) if cache else e.encode(texts, texts) for e in encoders]
    return np.concatenate(parts, axis=1)


def _content_hash(identity: EncoderIdentity, texts: Sequence[str]) -> str:
    digest = hashlib.sha256(repr(identity).encode())
    for text in texts:
        data = text.encode()
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()
