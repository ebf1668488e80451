"""The store of published models: one folder a version, which never changes, and one signed list.

models/<version>/card.json, card.md, model.safetensors
models/list.json

A version is there when the list names it, and the list is replaced atomically: a crash at any moment leaves the old
list or the new one. What a crash left beside it is removed by the next publication.
"""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from federation.errors import EnrolmentError, FolderError
from federation.files import create, make_folder, replace
from federation.keys import signing_text
from federation.kit import ModelTerms
from federation.lock import turn
from federation.registry.card import (
    CARD_LIMIT,
    ModelCard,
    make_card,
    model_file,
    read_card,
    read_model,
    require_signer,
    version_of,
)
from federation.registry.page import markdown
from federation.registry.versions import LIST_LIMIT, VersionList, make_list, read_list
from federation.validity import moment
from server.enrol import card_of
from server.errors import FederationError
from server.folder import ServerFolder
from server.registry.run import FinishedRun
from server.vocabulary.store import versions
from shared_model.encoders import require_same_identity
from shared_model.errors import ExchangeError
from shared_model.exchange import fingerprint
from shared_model.stages import published

LIST, LOCK, CARD, PAGE, MODEL = "list.json", ".lock", "card.json", "card.md", "model.safetensors"


@dataclass(frozen=True)
class Published:
    """One version."""

    version: str
    card: ModelCard


class ModelStore:
    """Reads need the federation's public key only; `publish` and `make_current` sign, one process at a time."""

    def __init__(self, folder: ServerFolder, federation: str, signing_key: str) -> None:
        self._folder, self._path = folder, folder.models
        self._federation, self._key = federation, signing_key

    @classmethod
    def open(cls, folder: ServerFolder) -> "ModelStore":
        """Open a federation's store, which may hold nothing yet."""
        return cls(folder, folder.settings().name, signing_text(folder.signing_key()))

    def list_bytes(self) -> bytes:
        """Return the signed list as it is now; nothing before the first version."""
        try:
            return (self._path / LIST).read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise FolderError(f"{self._path / LIST}: cannot be read ({error.strerror}).") from None

    def listing(self) -> VersionList | None:
        """Return the list, None before the first version; raise FolderError if it is damaged."""
        return self.parse(self.list_bytes())

    def parse(self, data: bytes) -> VersionList | None:
        """Return what `list_bytes` holds, checked."""
        if not data:
            self._refuse_lost_list()
            return None
        try:
            listing = read_list(data, str(self._path / LIST))
            require_signer(listing, self._federation, self._key, str(self._path / LIST))
        except EnrolmentError as error:
            raise FolderError(f"{error} Restore {self._path} from a backup.") from None
        return listing

    def _refuse_lost_list(self) -> None:
        """A first publication that was cut off leaves a first version without a list; a later version had one."""
        for file in self._path.glob(f"[!.]*/{CARD}"):
            if self._read(file.parent.name).card.number > 1:
                raise FolderError(f"{self._path / LIST}: is missing; restore {self._path} from a backup.")

    def card_bytes(self, version: str) -> bytes:
        """Return the card of a listed version; raise FolderError if it is not what was published."""
        file = self._path / version / CARD
        try:
            data = file.read_bytes()
        except OSError as error:
            raise FolderError(
                f"{file}: cannot be read ({error.strerror}); restore it from a backup."
            ) from None
        if len(data) > CARD_LIMIT or version_of(data) != version:
            raise FolderError(f"{file}: was changed since it was published; restore it from a backup.")
        return data

    def open_model(self, version: str) -> BinaryIO:
        """Open the model file of a listed version; raise FolderError."""
        file = self._path / version / MODEL
        try:
            return file.open("rb")
        except OSError as error:
            raise FolderError(
                f"{file}: cannot be read ({error.strerror}); restore it from a backup."
            ) from None

    def _read(self, version: str) -> Published:
        return Published(version, read_card(self.card_bytes(version), str(self._path / version / CARD)))

    def all(self) -> list[Published]:
        """Return every version in order, each checked: card, chain and model file; raise FolderError."""
        listing = self.listing()
        found = []
        for number, version in enumerate(listing.versions if listing else [], start=1):
            published = self._read(version)
            where = str(self._path / version)
            try:
                with self.open_model(version) as file:
                    read_model(file.read(), published.card, where)
            except (EnrolmentError, ExchangeError) as error:
                raise FolderError(f"{error} Restore it from a backup.") from None
            if listing and (published.card.number, published.card.parent) != (number, listing.parent(number)):
                raise FolderError(f"{where}: is not version {number} of this list; restore it from a backup.")
            found.append(published)
        return found

    def publish(self, run: FinishedRun, time: datetime) -> Published:
        """Sign and list a run's model as the next version, which becomes current: all of it or nothing.

        Raises FederationError if the run's model is not the federation's, or is published already; EncoderError.
        """
        self.require_terms(run.terms)
        self._require_vocabulary(run)
        key = self._folder.signing_key()
        arrays = published(run.table)
        body = model_file(arrays)
        with self._locked():
            before = self.listing()
            known = list(before.versions) if before else []
            self._refuse_again(run, known)
            data = make_card(
                {
                    "federation": self._federation,
                    "number": len(known) + 1,
                    "parent": known[-1] if known else None,
                    "published": moment(time),
                    "run": run.facts.model_dump(),
                    "model": run.terms.model_dump(),
                    "vocabulary": run.vocabulary,
                    "products": run.table.popularity.size,
                    "edges": run.table.edges.size,
                    "runs": list(run.runs),
                    "shoppers": run.shoppers,
                    "noise": run.noise,
                    "standing_out": run.standing_out,
                    "tensors": fingerprint(arrays),
                    "file": sha256(body).hexdigest(),
                    "size": len(body),
                    "members": [m.model_dump() for m in run.members],
                    "taints": list(run.taints),
                    "evaluation": None
                    if run.evaluation is None
                    else [r.model_dump() for r in run.evaluation],
                },
                key,
            )
            version = version_of(data)
            made = Published(version, read_card(data, CARD))
            serial = before.serial + 1 if before else 1
            listing = make_list(self._federation, key, [*known, version], version, serial, time)

            def fill(new: Path) -> None:
                create(new / MODEL, body)
                create(new / CARD, data)
                create(new / PAGE, markdown(made.card, version).encode())

            self._make(version, fill)
            self._put(listing)
        return made

    def make_current(self, wanted: str, reason: str, time: datetime) -> VersionList:
        """Make a listed version the current one, by its number or name; raise UnknownVersionError."""
        key = self._folder.signing_key()
        with self._locked():
            before = self.listing()
            if before is None:
                raise FederationError(f"{self._path}: nothing is published yet: fedcart server publish RUN.")
            version = before.find(wanted)
            if version == before.current:
                raise FederationError(f"Version {before.number(version)} is current already.")
            self._read(version)
            data = make_list(self._federation, key, before.versions, version, before.serial + 1, time, reason)
            self._put(data)
        return read_list(data, LIST)

    def _put(self, data: bytes) -> None:
        if len(data) > LIST_LIMIT:
            raise FederationError(
                f"The list of versions has {len(data)} bytes; at most {LIST_LIMIT} are served."
            )
        replace(self._path / LIST, data)

    def require_terms(self, terms: ModelTerms) -> None:
        """Raise FederationError or EncoderError if a run's prior is not the federation's."""
        ours = card_of(self._folder).model
        require_same_identity(ours.identities, terms.identities)
        if ours.history_length != terms.history_length:
            raise FederationError(
                f"The run's model has history length {terms.history_length}, the federation's "
                f"{ours.history_length} ([model] in federation.toml): platforms would refuse it."
            )

    def _require_vocabulary(self, run: FinishedRun) -> None:
        ours = versions(self._folder)
        if all(version.record.digest != run.vocabulary for version in ours):
            said = ", ".join(version.record.digest[:12] for version in ours) or "none"
            raise FederationError(
                f"Run {run.facts.id} is over vocabulary {run.vocabulary[:12]}, which this federation does not have (it "
                f"has {said}), so no platform could use its table. Publish a run over the federation's own: fedcart "
                "server run."
            )

    def _refuse_again(self, run: FinishedRun, known: list[str]) -> None:
        made = fingerprint(published(run.table))
        for version in known:
            card = self._read(version).card
            if (card.run.id, card.tensors) == (run.facts.id, made):
                raise FederationError(f"Run {card.run.id} was published as version {card.number} already.")

    def _make(self, version: str, fill: Callable[[Path], None]) -> None:
        """Make the folder of a version that is not listed, and remove what publications that were cut off left."""
        for path in self._path.iterdir():
            if path.name == version or (path.name.startswith(".") and path.name != LOCK):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        make_folder(self._path / version, fill)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._path.mkdir(exist_ok=True)
        except OSError as error:
            raise FolderError(f"{self._path}: cannot be made ({error.strerror}).") from None
        with turn(self._path / LOCK):
            yield
