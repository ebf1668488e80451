"""Adopting a published model: everything is checked before anything is changed.

| what comes                                                    | outcome              |
|---------------------------------------------------------------|----------------------|
| any byte of list, card or model changed                       | TamperedError        |
| signed by another key than the one confirmed at enrolment     | WrongSignerError     |
| another federation's                                          | WrongFederationError |
| made with other encoders than those that are installed here   | EncoderError         |
| over a vocabulary that was never approved here                | ExchangeError        |
| a transfer that breaks off                                    | TruncatedError       |
| older than what was adopted here                              | OlderModelError      |
| a list that went back or was written anew                     | HistoryError         |

`allow_older` lifts the last two, and no other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import sleep

from clients.errors import SiteError
from clients.folder import ClientFolder, Membership
from clients.models import (
    CARD,
    MODEL,
    InstalledModels,
    SeenList,
    Version,
    VersionFiles,
    require_encoders,
)
from clients.products import site_vocabulary, vocabulary_named
from clients.registry import RegistryClient
from federation.errors import TamperedError
from federation.files import read_material
from federation.registry.card import (
    CARD_LIMIT,
    HEADER_LIMIT,
    ModelCard,
    read_card,
    require_signer,
    version_of,
)
from federation.registry.errors import HistoryError, UnknownVersionError
from federation.registry.versions import VersionList, read_list
from shared_model.encoders import require_same_identity
from shared_model.errors import ExchangeError
from shared_model.stages import TableShape

WAIT_SECONDS = 1.0
"""How soon a registry that ended a watch is asked again."""


@dataclass(frozen=True)
class Adoption:
    """What was adopted, and what was current before."""

    version: Version
    before: Version | None


class Adopter:
    """Adopts models for one platform."""

    def __init__(self, folder: ClientFolder, *, allow_older: bool = False) -> None:
        self._site, self._membership = folder.site(), folder.membership()
        self._models = InstalledModels(folder)
        self._allow_older = allow_older

    @property
    def membership(self) -> Membership:
        """The membership in force."""
        return self._membership

    def from_file(self, path: Path, wanted: str | None = None) -> Adoption:
        """Adopt a version from its folder, or from its card or model file in it.

        A file cannot tell whether there is a newer version. Raises BadInputError if it cannot be read.
        """
        place = path if path.is_dir() else path.parent
        data, where = read_material(place / CARD, CARD_LIMIT), str(place / CARD)
        card = self._judge(data, where)
        version = version_of(data)
        asked = (
            wanted is None or wanted == str(card.number) or (len(wanted) >= 8 and version.startswith(wanted))
        )
        if not asked:
            raise UnknownVersionError(
                f"{place}: holds version {card.number} ({version[:16]}), not {wanted!r}."
            )
        if not self._allow_older:
            self._models.require_newer(version, card.number, f"{place}: holds version {card.number}.")
            for held in self._models.all():
                if held.card.number == card.number and held.name != version:
                    raise HistoryError(
                        f"{place}: holds another version {card.number} than the one that is installed here "
                        f"({version[:16]}, not {held.name[:16]}): ask the operator. Nothing was changed; if the "
                        "operator confirms it: --allow-older."
                    )
        model = read_material(place / MODEL, card.size)
        return self._adopt(VersionFiles(data, model), None, str(place / MODEL))

    def from_registry(self, client: RegistryClient, where: str, wanted: str | None = None) -> Adoption:
        """Adopt the registry's current version, or another one by number or name."""
        return self.from_list(client, client.list_bytes(), where, wanted)

    def from_list(
        self, client: RegistryClient, data: bytes, where: str, wanted: str | None = None
    ) -> Adoption:
        """The same, with a list that came already."""
        if not data:
            raise UnknownVersionError(f"{where}: nothing is published yet.")
        seen = SeenList(self._read_list(data, where), data)
        listing = seen.listing
        if not self._allow_older:
            self._models.require_history(seen)
        version = listing.current if wanted is None else listing.find(wanted)
        number = listing.number(version)
        if not self._allow_older:
            self._models.require_newer(version, number, _why(listing, where, wanted, number))
        if self._models.has(version):
            files = self._models.files(version)
            self._judge(files.card, where)
        else:
            vocabulary = site_vocabulary(self._site)
            shape = TableShape(len(vocabulary), len(vocabulary.edges))
            largest = shape.exchange.parameters * 4 + HEADER_LIMIT
            accept = self._acceptor(listing, version, where)
            files = VersionFiles(*client.fetch(version, largest, accept))
        return self._adopt(files, seen, where)

    def wait(self, client: RegistryClient, where: str) -> Adoption:
        """Wait until the registry's current version is newer than any that was adopted here, and adopt it."""
        newest, serial = self._models.newest(), 0
        while True:
            for data in client.watch(serial):
                listing = self._read_list(data, where)
                if not self._allow_older:
                    self._models.require_history(SeenList(listing, data))
                if listing.number(listing.current) > newest:
                    return self.from_list(client, data, where)
                serial = listing.serial
            sleep(WAIT_SECONDS)

    def _read_list(self, data: bytes, where: str) -> VersionList:
        listing = read_list(data, f"{where}: list")
        self._require_ours(listing, f"{where}: list")
        return listing

    def _acceptor(self, listing: VersionList, version: str, where: str) -> Callable[[bytes], int]:
        def accept(data: bytes) -> int:
            number = listing.number(version)
            card_at = f"{where}: card of version {number}"
            if version_of(data) != version:
                raise TamperedError(f"{card_at}: is not the one that the list names. Tell the operator.")
            card = self._judge(data, card_at)
            if (card.number, card.parent) != (number, listing.parent(number)):
                raise TamperedError(
                    f"{card_at}: stands elsewhere in the list than it says. Tell the operator."
                )
            return card.size

        return accept

    def _judge(self, data: bytes, where: str) -> ModelCard:
        """Return a card that this platform can use; raise what is wrong with it, by name."""
        card = read_card(data, where)
        self._require_ours(card, where)
        require_encoders(card)
        ours = self._membership.kit.card.model
        require_same_identity(ours.identities, card.model.identities)
        try:
            vocabulary_named(self._site, card.vocabulary)
        except SiteError as error:
            raise ExchangeError(
                f"{where}: is a table over vocabulary {card.vocabulary[:16]}. {error} Nothing was changed."
            ) from None
        if card.model.history_length != ours.history_length:
            raise ExchangeError(
                f"{where}: has history length {card.model.history_length}, and the federation's is "
                f"{ours.history_length}. Nothing was changed. Tell the operator."
            )
        return card

    def _require_ours(self, document: ModelCard | VersionList, where: str) -> None:
        kit = self._membership.kit
        require_signer(document, kit.card.federation, self._membership.signing_key, where)

    def _adopt(self, files: VersionFiles, seen: SeenList | None, where: str) -> Adoption:
        current = self._models.record().current
        before = next((v for v in self._models.all() if v.name == current), None)
        version = self._models.adopt(files, seen, where, allow_older=self._allow_older)
        return Adoption(version, before)


def _why(listing: VersionList, where: str, wanted: str | None, number: int) -> str:
    if wanted is not None:
        return f"{where}: version {number} was asked for."
    reason = f" ({listing.reason})" if listing.reason else ""
    return f"{where}: serves version {number} as current since {listing.time}{reason}."
