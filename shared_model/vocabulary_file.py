"""A vocabulary in one file: safetensors with its edges and texts, and a header with its number, parent and digest."""

import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from shared_model.errors import BadInputError, CheckpointError
from shared_model.vocabulary import Vocabulary

FORMAT = "fedcart-vocabulary/1"
_COLUMNS = ("keys", "titles", "brands", "categories")


def vocabulary_bytes(vocabulary: Vocabulary) -> bytes:
    """Return the bytes of the file. The texts are UTF-8, one a line."""
    columns = {name: "\n".join(getattr(vocabulary, name)).encode() for name in _COLUMNS}
    tensors = {name: np.frombuffer(text, dtype=np.uint8) for name, text in columns.items()}
    header = {
        "format": FORMAT,
        "number": vocabulary.number,
        "parent": vocabulary.parent,
        "products": len(vocabulary),
        "digest": vocabulary.digest,
    }
    said = json.dumps(header, sort_keys=True)  # one entry: safetensors writes several in any order
    return save({"edges": vocabulary.edges, **tensors}, {"header": said})


def load_vocabulary(path: Path) -> Vocabulary:
    """Read a vocabulary; raise CheckpointError where the file is missing, damaged, altered or of another version.

    What it says of itself is checked against its content. Whose it is, its digest's signature says.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {}).get("header", "{}"))
            if header.get("format") != FORMAT:
                raise CheckpointError(
                    f"{path}: is a file of format {header.get('format')!r}, not {FORMAT}. Use the fedcart that wrote it."
                )
            count = header["products"]
            columns = [file.get_tensor(name).tobytes().decode() for name in _COLUMNS]
            keys, titles, brands, categories = (tuple(c.split("\n")) if count else () for c in columns)
            edges = file.get_tensor("edges")
            vocabulary = Vocabulary(
                header["number"], header["parent"], keys, titles, brands, categories, edges
            )
            whole = vocabulary.digest == header["digest"] and len(vocabulary) == count
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error}).") from None
    except (SafetensorError, BadInputError, KeyError, ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{path}: is no whole vocabulary ({reason}). Copy or download it again."
        ) from None
    if not whole:
        raise CheckpointError(
            f"{path}: does not have the digest that it names, so it was altered. Copy or download it again."
        )
    return vocabulary
