"""The versions of a federation's vocabulary, in its folder.

vocabulary/3.json          the signed record of version 3 (`federation.vocabulary`)
vocabulary/3.safetensors   the vocabulary that it names

A version counts from the moment at which its record is there, which is written last.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from federation.catalogue import LARGEST, ReceivedCatalogue, read_catalogue
from federation.errors import EnrolmentError, FolderError, WrongPartyError
from federation.files import create, read_material, replace
from federation.keys import signing_text
from federation.lock import held
from federation.validity import moment
from federation.vocabulary import Share, VocabularyRecord, make_record, read_record, recorded_vocabulary
from server.errors import FederationError
from server.folder import ServerFolder
from server.members import ADMITTED, Members
from shared_model.encoders import Encoder, identities_to_json
from shared_model.errors import CheckpointError
from shared_model.features import make_encoders
from shared_model.neighbours import Progress, silent
from shared_model.vocabulary import NEIGHBOURS, Vocabulary
from shared_model.vocabulary_file import load_vocabulary, vocabulary_bytes


@dataclass(frozen=True)
class Version:
    """A version that is there: its checked record and its files."""

    record: VocabularyRecord
    record_file: Path
    file: Path

    def load(self) -> Vocabulary:
        """Return the vocabulary; raise CheckpointError, WrongPartyError."""
        return recorded_vocabulary(self.file, self.record)


@dataclass(frozen=True)
class Built:
    """What a build made: the version in force, whether it is new, and which share of each catalogue it knows."""

    version: Version
    new: bool
    coverage: Mapping[str, tuple[int, int]]


def versions(folder: ServerFolder) -> list[Version]:
    """Return all versions, oldest first; raise TamperedError for a record that was changed, FolderError."""
    settings, key = folder.settings(), signing_text(folder.signing_key())
    found = []
    try:
        numbers = sorted(int(file.stem) for file in folder.vocabulary.glob("*.json") if file.stem.isdecimal())
    except OSError as error:
        raise FolderError(f"{folder.vocabulary}: cannot be read ({error.strerror}).") from None
    for number in numbers:
        file = folder.vocabulary / f"{number}.json"
        record = read_record(read_material(file, 2**24), str(file), settings.name, key)
        if record.number != number:
            raise WrongPartyError(
                f"{file}: is the record of version {record.number}. Put the files' names right."
            )
        found.append(Version(record, file, file.with_suffix(".safetensors")))
    return found


def received(folder: ServerFolder, files: Sequence[Path]) -> dict[str, ReceivedCatalogue]:
    """Return the catalogues in files by platform, each signed with the key of the member that it names.

    Raises EnrolmentError for a platform that is no member, WrongPartyError for another key than the member's,
    FederationError for two files of one platform, or what `read_catalogue` raises.
    """
    name = folder.settings().name
    members = {member.name: member for member in Members.open(folder.members_file).all()}
    found: dict[str, ReceivedCatalogue] = {}
    for file in files:
        catalogue = read_catalogue(read_material(file, LARGEST), str(file), name)
        member = members.get(catalogue.platform)
        if member is None or member.state != ADMITTED:
            raise EnrolmentError(
                f"{file}: is of {catalogue.platform!r}, which is no member. Admit it first: fedcart server admit."
            )
        if member.identity_key != catalogue.identity_key:
            raise WrongPartyError(
                f"{file}: is signed with another key than the one in force for {member.name!r}. Ask that platform for "
                "a new one: fedcart client catalogue --out FILE."
            )
        if member.name in found:
            raise FederationError(
                f"{file}: {member.name!r} has another file among these; give its newest alone."
            )
        found[member.name] = catalogue
    return found


def build(
    folder: ServerFolder,
    catalogues: Mapping[str, ReceivedCatalogue],
    time: datetime,
    neighbours: int = NEIGHBOURS,
    progress: Progress = silent,
) -> Built:
    """Make the next version from catalogues, sign and write it; without a new product the newest stays.

    Raises FederationError where there is nothing to make a first version of, BusyError where another one is made.
    """
    with held(folder.vocabulary / "lock", "A build of the vocabulary"):
        return _build(folder, catalogues, time, neighbours, progress)


def take_over(folder: ServerFolder, run: Path, digest: str, time: datetime) -> Version | None:
    """Make the vocabulary of a simulation's run the federation's first version; None where the federation has one.

    `run` is the run's folder, and `digest` what its table is over. No member published a catalogue for it, so its
    `shares` are empty. Raises FederationError where the run brings no such vocabulary, BusyError where one is being made.
    """
    with held(folder.vocabulary / "lock", "A build of the vocabulary"):
        if versions(folder):
            return None
        file = run / "vocabulary.safetensors"
        try:
            vocabulary, scenario = load_vocabulary(file), json.loads((run / "scenario.json").read_bytes())
            neighbours = int(scenario["model"]["neighbours"])
        except (CheckpointError, OSError, ValueError, KeyError, TypeError) as error:
            raise FederationError(
                f"{folder.path}: has no vocabulary yet, and {run} brings none of a simulation ({error}). Make one from "
                "the members' catalogues: fedcart server vocabulary build FILES."
            ) from None
        if (vocabulary.digest, vocabulary.number) != (digest, 1):
            raise FederationError(
                f"{file}: is version {vocabulary.number} of vocabulary {vocabulary.digest[:12]}, and the run's table is "
                f"over {digest[:12]}, which would be version 1. Restore the run's folder from a backup."
            )
        encoders = make_encoders(folder.settings().model.encoders)
        return _write(folder, vocabulary, encoders, max(neighbours, 1), time, {})


def _build(
    folder: ServerFolder,
    catalogues: Mapping[str, ReceivedCatalogue],
    time: datetime,
    neighbours: int,
    progress: Progress,
) -> Built:
    before = versions(folder)
    old = before[-1].load() if before else Vocabulary.empty()
    encoders = make_encoders(folder.settings().model.encoders)
    grown = old.grown(
        [catalogues[name].catalogue for name in sorted(catalogues)], encoders, neighbours, progress
    )
    coverage = {
        name: (int((grown.products(received.catalogue.keys) >= 0).sum()), len(received.catalogue))
        for name, received in catalogues.items()
    }
    if grown is old:
        if not before:
            raise FederationError("The catalogues have no product, so there is no vocabulary to make.")
        return Built(before[-1], False, coverage)
    shares = dict(before[-1].record.shares) if before else {}
    shares |= {
        name: Share(catalogue=one.digest, issued=one.issued, products=len(one.catalogue))
        for name, one in catalogues.items()
    }
    return Built(_write(folder, grown, encoders, neighbours, time, shares), True, coverage)


def _write(
    folder: ServerFolder,
    vocabulary: Vocabulary,
    encoders: Sequence[Encoder],
    neighbours: int,
    time: datetime,
    shares: dict[str, Share],
) -> Version:
    """Sign and write a version."""
    record = VocabularyRecord(
        federation=folder.settings().name,
        number=vocabulary.number,
        parent=vocabulary.parent,
        digest=vocabulary.digest,
        products=len(vocabulary),
        edges=len(vocabulary.edges),
        neighbours=neighbours,
        encoders=identities_to_json([encoder.identity for encoder in encoders]),
        issued=moment(time),
        shares=shares,
    )
    file = folder.vocabulary / f"{vocabulary.number}.json"
    replace(
        file.with_suffix(".safetensors"), vocabulary_bytes(vocabulary)
    )  # one left by a crash does not count
    create(file, make_record(record, folder.signing_key()))
    return Version(record, file, file.with_suffix(".safetensors"))
