"""Approving a version of the federation's vocabulary: what a platform's sums are over from then on.

The operator signs a record that names the vocabulary's digest; the vocabulary lies beside it. Both are checked before
anything is changed, and the platform's folder then holds copies of its own: a run over another vocabulary is refused.
The version before is kept: a model that was adopted over it serves until a newer one is there, and what was sent over it
is still known.

| what comes                                                   | outcome              |
|--------------------------------------------------------------|----------------------|
| a record that was changed, or signed by another key          | TamperedError        |
| of another federation, or another vocabulary than the record | WrongPartyError      |
| a damaged vocabulary                                         | CheckpointError      |
| an older version than the one that is approved               | PolicyError          |
"""

from dataclasses import dataclass
from pathlib import Path

from clients.errors import PolicyError
from clients.folder import ClientFolder
from clients.products import older_folder
from federation.files import PUBLIC, read_material, replace
from federation.vocabulary import VocabularyRecord, read_record, recorded_vocabulary

RECORD_LIMIT = 2**24
"""Most bytes of a record."""
LARGEST = 2**31
"""Most bytes of a vocabulary."""


@dataclass(frozen=True)
class Approved:
    """A version that was approved, and whether it is another one than before."""

    record: VocabularyRecord
    new: bool


def approve_vocabulary(folder: ClientFolder, file: Path) -> Approved:
    """Install a version from its signed record (`3.json`, with `3.safetensors` beside it), or from either file."""
    record_file, vocabulary_file = file.with_suffix(".json"), file.with_suffix(".safetensors")
    membership = folder.membership()
    federation, key = membership.kit.card.federation, membership.signing_key
    data = read_material(record_file, RECORD_LIMIT)
    record = read_record(data, str(record_file), federation, key)
    recorded_vocabulary(vocabulary_file, record)
    before = approved_vocabulary(folder)
    if before is not None and record.number < before.number:
        raise PolicyError(
            f"{record_file}: is version {record.number} of the vocabulary, and version {before.number} is approved here. "
            "Ask the operator for the newest one. Nothing was changed.",
            "vocabulary",
        )
    if before is not None and record.digest == before.digest:
        return Approved(record, False)
    if before is not None:
        older = older_folder(folder.vocabulary)
        older.mkdir(exist_ok=True)
        replace(older / f"{before.digest}.safetensors", read_material(folder.vocabulary, LARGEST), PUBLIC)
    replace(folder.vocabulary, read_material(vocabulary_file, LARGEST), PUBLIC)
    replace(folder.vocabulary.with_suffix(".json"), data, PUBLIC)
    return Approved(record, True)


def approved_vocabulary(folder: ClientFolder) -> VocabularyRecord | None:
    """Return the record of the version that is approved here; None before the first."""
    file = folder.vocabulary.with_suffix(".json")
    if not file.exists():
        return None
    membership = folder.membership()
    data = read_material(file, RECORD_LIMIT)
    return read_record(data, str(file), membership.kit.card.federation, membership.signing_key)
