"""Published models on a platform: what is adopted, checked again whenever it is used.

models/<version>/card.json, card.md, model.safetensors   never changed
models/adopted.json                                      which version is current, and what was seen of the federation

A version is adopted when `adopted.json` names it, and that file is replaced atomically.
"""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clients.errors import SiteError
from clients.folder import ClientFolder
from federation.errors import EnrolmentError, FolderError
from federation.files import create, make_folder, replace
from federation.lock import turn
from federation.registry.card import CARD_LIMIT, ModelCard, Sha256, read_card, read_model, version_of
from federation.registry.errors import HistoryError, OlderModelError, UnknownVersionError
from federation.registry.page import markdown
from federation.registry.versions import VersionList
from federation.signed import digest
from shared_model.encoders import EncoderIdentity, require_same_identity
from shared_model.errors import ExchangeError
from shared_model.features import is_encoder, make_encoders
from shared_model.model import ModelSpec
from shared_model.stages import read_published
from shared_model.table import ProductTable

CARD, PAGE, MODEL, RECORD, LOCK = "card.json", "card.md", "model.safetensors", "adopted.json", ".lock"


class AdoptedRecord(BaseModel):
    """`adopted.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    current: Sha256 | None = None
    before: tuple[Sha256, ...] = ()
    """What was current before, the last one last: where `rollback` goes."""
    newest: Annotated[int, Field(ge=0)] = 0
    """The highest number that was ever adopted here."""
    serial: Annotated[int, Field(ge=0)] = 0
    """The highest serial number of a list that was ever accepted here."""
    digest: Sha256 | None = None
    """SHA-256 of that list."""


@dataclass(frozen=True)
class Version:
    """An installed version."""

    name: str
    card: ModelCard


@dataclass(frozen=True)
class VersionFiles:
    """The bytes of a version, which nobody has checked."""

    card: bytes
    model: bytes


@dataclass(frozen=True)
class SeenList:
    """A list that was checked to be of this federation, and its bytes."""

    listing: VersionList
    data: bytes


@dataclass(frozen=True, eq=False)
class AdoptedModel:
    """The current version: what the federation's members know together, before a platform takes its own part off."""

    version: str
    card: ModelCard
    table: ProductTable

    @property
    def spec(self) -> ModelSpec:
        """The shape of the model."""
        return self.card.model.spec

    @property
    def encoder_names(self) -> tuple[str, ...]:
        """The encoders that make its features, in order."""
        return self.card.model.encoder_names


def load_adopted(folder: Path) -> AdoptedModel:
    """Return a platform's current model, every byte checked against what was adopted.

    Raises SiteError if none is adopted, EncoderError if the encoders here are not the card's (any more),
    FolderError if anything that is installed was changed or cannot be read.
    """
    place = ClientFolder(folder)
    place.site()
    models = InstalledModels(place)
    record = models.record()
    if record.current is None:
        raise SiteError(f"{folder}: no model is adopted yet: fedcart client adopt.")
    version = models.read(record.current)
    require_encoders(version.card)
    return AdoptedModel(version.name, version.card, models.table(version))


def require_encoders(card: ModelCard) -> None:
    """Raise EncoderError, naming both sides' identities, unless the encoders here are the card's."""
    names = [name for name in card.model.encoder_names if is_encoder(name)]
    ours: list[EncoderIdentity] = [e.identity for e in make_encoders(names)] if names else []
    require_same_identity(ours, card.model.identities)


class InstalledModels:
    """The models of one platform's folder; changes are made by one process at a time."""

    def __init__(self, folder: ClientFolder) -> None:
        self._path = folder.path / "models"

    def record(self) -> AdoptedRecord:
        """Return what is adopted; raise FolderError if that cannot be read."""
        file = self._path / RECORD
        try:
            return AdoptedRecord.model_validate_json(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return AdoptedRecord()
        except (OSError, UnicodeDecodeError, ValidationError):
            raise FolderError(
                f"{file}: cannot be read. Restore it from a backup, or remove it and adopt again."
            ) from None

    def read(self, version: str) -> Version:
        """Return an installed version; raise FolderError unless its card is what was installed."""
        file = self._path / version / CARD
        try:
            data = file.read_bytes()
        except OSError as error:
            raise FolderError(
                f"{file}: cannot be read ({error.strerror}); adopt the version again."
            ) from None
        if len(data) > CARD_LIMIT or version_of(data) != version:
            raise FolderError(f"{file}: was changed since it was installed; adopt the version again.")
        try:
            return Version(version, read_card(data, str(file)))
        except EnrolmentError as error:
            raise FolderError(f"{error} Adopt the version again.") from None

    def table(self, version: Version) -> ProductTable:
        """Return a version's table; raise FolderError unless the file is what was installed."""
        file = self._path / version.name / MODEL
        try:
            arrays = read_model(file.read_bytes(), version.card, str(file))
        except OSError as error:
            raise FolderError(
                f"{file}: cannot be read ({error.strerror}); adopt the version again."
            ) from None
        except (EnrolmentError, ExchangeError) as error:
            raise FolderError(f"{error} Adopt the version again.") from None
        return read_published(arrays, str(file))

    def names(self) -> list[str]:
        """Return the names of all that is installed, whole or not."""
        return sorted(p.name for p in self._path.glob("*") if p.is_dir() and not p.name.startswith("."))

    def all(self) -> list[Version]:
        """Return the installed versions whose cards are whole, by number."""
        found = []
        for name in self.names():
            with contextlib.suppress(FolderError):
                found.append(self.read(name))
        return sorted(found, key=lambda version: version.card.number)

    def has(self, version: str) -> bool:
        """Whether a version is installed and whole."""
        try:
            self.table(self.read(version))
        except FolderError:
            return False
        return True

    def require_history(self, seen: SeenList) -> None:
        """Raise HistoryError if a list contradicts those that were seen here, or what is installed."""
        record, listing = self.record(), seen.listing
        another = listing.serial == record.serial and digest(seen.data) != record.digest
        if listing.serial < record.serial or another:
            raise HistoryError(
                f"The registry went back: it shows list {listing.serial} of {listing.time}, and this platform has seen "
                f"{'another one of that number' if another else f'list {record.serial}'} before. An old copy "
                "is being served, or the server was restored from a backup: ask the operator. Nothing was changed; "
                "if the operator confirms it: --allow-older."
            )
        for version in self.all():
            number = version.card.number
            if listing.versions[number - 1 : number] != [version.name]:
                raise HistoryError(
                    f"The registry's list does not hold version {number} ({version.name[:16]}) that is installed "
                    "here: its history was written anew. Ask the operator. Nothing was changed; if the operator "
                    "confirms it: --allow-older."
                )

    def newest(self) -> int:
        """The highest number of a version that was ever adopted here; 0 for none."""
        return max([self.record().newest, *(version.card.number for version in self.all())])

    def require_newer(self, version: str, number: int, why: str) -> None:
        """Raise OlderModelError, saying `why`, if a version is older than one that was adopted here.

        The current one is not, also where the platform went back to it.
        """
        newest = self.newest()
        if number < newest and version != self.record().current:
            raise OlderModelError(
                f"{why} Version {newest} was adopted here, which is newer, so nothing was changed. To go back to a "
                "version that is installed: fedcart client rollback; to adopt an older one: --allow-older."
            )

    def adopt(self, files: VersionFiles, seen: SeenList | None, where: str, *, allow_older: bool) -> Version:
        """Install a version, unless it is there, and make it current: all of it or nothing.

        Raises what `read_card` and `read_model` raise for files that are not whole, OlderModelError, FolderError.
        """
        version = Version(version_of(files.card), read_card(files.card, where))
        number = version.card.number
        read_model(files.model, version.card, where)

        def fill(new: Path) -> None:
            create(new / MODEL, files.model)
            create(new / CARD, files.card)
            create(new / PAGE, markdown(version.card, version.name).encode())

        with self._locked():
            if not allow_older:
                self.require_newer(version.name, number, f"{where}: has version {number}.")
            if not self.has(version.name):
                for path in self._path.iterdir():
                    if path.is_dir() and (path.name == version.name or path.name.startswith(".")):
                        shutil.rmtree(path)
                make_folder(self._path / version.name, fill)
            record = self.record()
            changes: dict[str, object] = {"newest": max(record.newest, number)}
            if record.current != version.name:
                before = record.before if record.current is None else (*record.before, record.current)
                changes |= {"current": version.name, "before": before}
            if seen is not None and seen.listing.serial >= record.serial:
                changes |= {"serial": seen.listing.serial, "digest": digest(seen.data)}
            self._put(record.model_copy(update=changes))
        return version

    def files(self, version: str) -> VersionFiles:
        """Return the files of an installed version; raise FolderError."""
        try:
            return VersionFiles(
                (self._path / version / CARD).read_bytes(), (self._path / version / MODEL).read_bytes()
            )
        except OSError as error:
            raise FolderError(f"{error.filename}: cannot be read ({error.strerror}).") from None

    def rollback(self, wanted: str | None) -> Version:
        """Go back to the version that was current before, or to another installed one, by number or name."""
        with self._locked():
            record = self.record()
            if wanted is not None:
                version = self._installed(wanted)
                before = record.before if record.current is None else (*record.before, record.current)
            elif record.before:
                version, before = record.before[-1], record.before[:-1]
            else:
                raise SiteError("There is no version from before to go back to: fedcart client models.")
            read = self.read(version)
            require_encoders(read.card)
            self.table(read)
            self._put(record.model_copy(update={"current": version, "before": before}))
        return read

    def _installed(self, wanted: str) -> str:
        versions = self.all()
        found = [
            version.name
            for version in versions
            if str(version.card.number) == wanted or (len(wanted) >= 8 and version.name.startswith(wanted))
        ]
        if len(found) != 1:
            numbers = ", ".join(str(version.card.number) for version in versions) or "none"
            raise UnknownVersionError(
                f"No version {wanted!r} is installed here and whole; those are: {numbers}. Name one by its number, or by "
                "at least 8 digits of its name."
            )
        return found[0]

    def _put(self, record: AdoptedRecord) -> None:
        replace(self._path / RECORD, record.model_dump_json(indent=2).encode() + b"\n")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._path.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise FolderError(f"{self._path}: cannot be made ({error.strerror}).") from None
        with turn(self._path / LOCK):
            yield
