"""Optional encoder: any sentence-transformers model that lies on this machine. Nothing is downloaded."""

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shared_model.encoders import Encode, EncoderIdentity, FloatArray
from shared_model.errors import EncoderError

SENTENCE_NAME = re.compile(r"sentence-transformers:(?P<model>[A-Za-z0-9][A-Za-z0-9._-]{0,63})")
FOLDER_VARIABLE = "FEDCART_ENCODERS"


def encoders_folder() -> Path:
    """Return where local models lie: `FEDCART_ENCODERS`, or `XDG_DATA_HOME`/fedcart/encoders."""
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return Path(os.environ.get(FOLDER_VARIABLE) or data / "fedcart" / "encoders")


class SentenceEncoder:
    """The model in folder MODEL of `encoders_folder()`, named `sentence-transformers:MODEL`: unit rows.

    A request can name a folder there and nothing else; code in it is not run. The identity is the hash of its files,
    so that members may call their copies as they like only if they hold the same. Raises EncoderError.
    """

    def __init__(self, name: str, prior_weight: float = 1.0) -> None:
        match = SENTENCE_NAME.fullmatch(name)
        if match is None:
            raise EncoderError(
                f"The encoder {name!r} cannot be used: write sentence-transformers:MODEL, the name of a folder in "
                f"{encoders_folder()} (or set {FOLDER_VARIABLE})."
            )
        folder = encoders_folder() / match["model"]
        if not (folder / "modules.json").is_file():
            raise EncoderError(
                f"{folder}: is no sentence-transformers model (there is no modules.json). Put a copy of the "
                f"federation's model there, or set {FOLDER_VARIABLE} to the folder that holds it."
            )
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise EncoderError(
                f"The encoder {name!r} needs the package {error.name!r}. Install it: pip install "
                "'fedcart[sentence-transformers]'."
            ) from None
        digest = folder_hash(folder)
        try:
            self._model: Any = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
            width = self._model.get_sentence_embedding_dimension()
        except Exception as error:  # whatever a model's files can be made of
            raise EncoderError(
                f"{folder}: cannot be loaded as a sentence-transformers model: {error}."
            ) from None
        if not isinstance(width, int):
            raise EncoderError(f"{folder}: does not say how wide its vectors are.")
        self.identity = EncoderIdentity(name, digest[:12], digest, width, prior_weight)

    def encode(self, texts: Sequence[str], catalogue: Sequence[str]) -> FloatArray:
        """Return (I, F) float32 unit rows; an empty text gives a zero row. `catalogue` plays no part."""
        del catalogue
        rows = np.zeros((len(texts), self.identity.dimension), dtype=np.float32)
        real = [i for i, text in enumerate(texts) if text.strip()]
        if real:
            rows[real] = self._model.encode(
                [texts[i] for i in real], normalize_embeddings=True, show_progress_bar=False
            )
        return rows

    def fitted(self, catalogue: Sequence[str]) -> Encode:
        """Return `encode`; the catalogue plays no part."""
        return lambda texts: self.encode(texts, catalogue)


def folder_hash(folder: Path) -> str:
    """Return the SHA-256 of a folder's files, by relative path, but for those whose names begin with a dot."""
    digest = hashlib.sha256()
    try:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            name = path.relative_to(folder)
            if any(part.startswith(".") for part in name.parts):
                continue
            data = path.read_bytes()
            digest.update(f"{name.as_posix()}\0{len(data)}\0".encode() + data)
    except OSError as error:
        raise EncoderError(f"{folder}: cannot be read ({error.strerror}).") from None
    return digest.hexdigest()
