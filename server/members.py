"""The registry of members: who was admitted with which keys, and every request and key ever seen.

It is the word of record; Flower's database of nodes is made to agree with it (`server.nodes`). Nothing is
deleted, so that neither a request nor a key does its work twice, whoever brings it. What it holds of the members'
ledgers is in `server.ledgers`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from federation.errors import EnrolmentError, ReusedError, WrongPartyError
from federation.kit import Recipient
from federation.request import ReceivedRequest
from federation.validity import moment
from privacy.ledger import Head
from server.errors import FederationError, RegistryError
from server.ledgers import MemberLedger, enrol, in_force, see
from server.ledgers import metadata as ledgers_metadata

ADMITTED, REVOKED = "admitted", "revoked"
SCHEMA = 2

_metadata = sa.MetaData()
_MEMBERS = sa.Table(
    "members",
    _metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("identity_key", sa.String, nullable=False),
    sa.Column("node_key", sa.String, nullable=False, unique=True),
    sa.Column("request", sa.String, nullable=False),
    sa.Column("population_size", sa.Integer, nullable=False),
    sa.Column("contact", sa.String, nullable=False),
    sa.Column("since", sa.String, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
)
_KEYS = sa.Table(
    "keys",
    _metadata,
    sa.Column("public", sa.String, primary_key=True),
    sa.Column("name", sa.String, nullable=False),
)
_REQUESTS = sa.Table(
    "requests",
    _metadata,
    sa.Column("digest", sa.String, primary_key=True),
    sa.Column("nonce", sa.String, nullable=False, unique=True),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("time", sa.String, nullable=False),
)
_KITS = sa.Table(
    "kits",
    _metadata,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("time", sa.String, nullable=False),
)


@dataclass(frozen=True)
class Member:
    """One row of the registry; `since` is when its state began."""

    name: str
    state: str
    identity_key: str
    node_key: str
    request: str
    population_size: int
    contact: str
    since: str
    reason: str

    @property
    def recipient(self) -> Recipient:
        """Whom its kits are for."""
        return Recipient(self.name, self.identity_key, self.node_key, self.request)


class Members:
    """The registry in one SQLite file. Every change is one transaction; two operators at once take turns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        url = sa.URL.create("sqlite", database=str(path))
        self._engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args={"timeout": 30})
        sa.event.listen(self._engine, "connect", _prepare)

    @classmethod
    def create(cls, path: Path) -> "Members":
        """Make an empty registry."""
        members = cls(path)
        with members._writing() as connection:
            _metadata.create_all(connection)
            ledgers_metadata.create_all(connection)
            connection.execute(sa.text(f"PRAGMA user_version = {SCHEMA}"))
        return members

    @classmethod
    def open(cls, path: Path) -> "Members":
        """Open a registry; raise RegistryError if it is missing, damaged or of another version."""
        if not path.exists():
            raise RegistryError(f"{path}: the registry of members is missing; restore it from a backup.")
        members = cls(path)
        with members._reading() as connection:
            version = connection.execute(sa.text("PRAGMA user_version")).scalar_one()
            damage = connection.execute(sa.text("PRAGMA quick_check")).scalar_one()
        if version != SCHEMA or damage != "ok":
            raise RegistryError(
                f"{path}: is no registry of this version, or is damaged; restore it from a backup."
            )
        return members

    def all(self) -> list[Member]:
        """Every member that ever was, by name."""
        with self._reading() as connection:
            rows = connection.execute(sa.select(_MEMBERS).order_by(_MEMBERS.c.name))
            return [Member(**row._mapping) for row in rows]

    def admitted(self) -> list[Member]:
        """The members in force, by name."""
        return [member for member in self.all() if member.state == ADMITTED]

    def get(self, name: str) -> Member:
        """Return a member; raise FederationError naming those there are."""
        members = {member.name: member for member in self.all()}
        if name not in members:
            raise FederationError(
                f"There is no member {name!r}; there are: {', '.join(members) or 'none yet'}."
            )
        return members[name]

    def admit(self, received: ReceivedRequest, time: datetime, new_ledger: str | None = None) -> Member:
        """Admit a platform, or exchange a member's keys; `new_ledger` is why its ledger need not continue the last one.

        | the request                                    | outcome         |
        |------------------------------------------------|-----------------|
        | was used before                                | ReusedError     |
        | a key in it was seen before, of whomever       | ReusedError     |
        | to join, under the name of a member            | EnrolmentError  |
        | to rotate, from no member or another key       | WrongPartyError |
        | a ledger that is not what it should be         | see `server.ledgers.enrol` |
        """
        request = received.request
        with self._writing() as connection:
            self._refuse_used(connection, received)
            row_held = connection.execute(
                sa.select(_MEMBERS).where(_MEMBERS.c.name == request.platform)
            ).one_or_none()
            held = None if row_held is None else Member(**row_held._mapping)
            in_force = held if held is not None and held.state == ADMITTED else None
            if request.kind == "join" and in_force is not None:
                raise EnrolmentError(
                    f"{request.platform!r} is a member since {in_force.since}, with other keys. A new platform needs "
                    "another name; a member that changes its keys sends fedcart client request --rotate; one that "
                    "lost them is revoked first."
                )
            if request.kind == "rotate" and (in_force is None or in_force.identity_key != request.replaces):
                raise WrongPartyError(
                    f"{request.platform!r} wants to replace a key that is not in force for it. Nothing was changed."
                )
            enrol(connection, request, new_ledger, time)
            member = Member(
                name=request.platform,
                state=ADMITTED,
                identity_key=request.identity_key,
                node_key=request.node_key,
                request=received.digest,
                population_size=request.population_size,
                contact=request.contact or (in_force.contact if in_force is not None else ""),
                since=moment(time),
                reason="",
            )
            connection.execute(sa.delete(_MEMBERS).where(_MEMBERS.c.name == request.platform))
            connection.execute(sa.insert(_MEMBERS).values(asdict(member)))
            keys = [
                {"public": key, "name": request.platform} for key in (request.identity_key, request.node_key)
            ]
            connection.execute(sa.insert(_KEYS), keys)
            connection.execute(
                sa.insert(_REQUESTS).values(
                    digest=received.digest, nonce=request.nonce, name=request.platform, time=moment(time)
                )
            )
        return member

    @staticmethod
    def _refuse_used(connection: sa.Connection, received: ReceivedRequest) -> None:
        request = received.request
        used = connection.execute(
            sa.select(_REQUESTS).where(
                (_REQUESTS.c.digest == received.digest) | (_REQUESTS.c.nonce == request.nonce)
            )
        ).one_or_none()
        if used is not None:
            raise ReusedError(
                f"This request of {used.name!r} was admitted on {used.time}. For another kit: fedcart server kit "
                f"{used.name}."
            )
        keys = sa.select(_KEYS).where(_KEYS.c.public.in_([request.identity_key, request.node_key]))
        known = connection.execute(keys).first()
        if known is not None:
            raise ReusedError(
                f"{request.platform!r} brings a key that {known.name!r} has or had. A key is one platform's, and once "
                "only: the platform makes new ones with fedcart client init, or fedcart client request --rejoin."
            )

    def ledgers(self) -> dict[str, MemberLedger]:
        """Return the ledger in force of each platform that was ever admitted, by name."""
        with self._reading() as connection:
            return in_force(connection)

    def see_head(self, name: str, head: Head, asked: Mapping[str, MemberLedger], time: datetime) -> None:
        """Keep the head that came with a member's update, durably; `asked` is what `ledgers` said before it was asked.

        Raises LedgerError if it does not count, which then is written down, too.
        """
        with self._writing() as connection:
            refusal = see(connection, name, head, asked, time)
        if refusal is not None:
            raise refusal

    def revoke(self, name: str, reason: str, time: datetime) -> Member:
        """End a membership; its keys and requests stay known and are never accepted again."""
        if self.get(name).state == REVOKED:
            raise EnrolmentError(f"{name!r} was revoked on {self.get(name).since} already.")
        with self._writing() as connection:
            change = {"state": REVOKED, "since": moment(time), "reason": reason}
            connection.execute(sa.update(_MEMBERS).where(_MEMBERS.c.name == name).values(change))
        return self.get(name)

    def next_kit(self, name: str, time: datetime) -> int:
        """Return the number of a new kit, from 1; no number is given twice."""
        with self._writing() as connection:
            result = connection.execute(sa.insert(_KITS).values(name=name, time=moment(time)))
            return int(result.inserted_primary_key[0])  # type: ignore[index]

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise self._broken(error) from None

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect() as connection:
                connection.execute(sa.text("BEGIN IMMEDIATE"))
                try:
                    yield connection
                except BaseException:
                    connection.execute(sa.text("ROLLBACK"))
                    raise
                connection.execute(sa.text("COMMIT"))
        except SQLAlchemyError as error:
            raise self._broken(error) from None

    def _broken(self, error: SQLAlchemyError) -> RegistryError:
        return RegistryError(
            f"{self._path}: the registry of members cannot be used: {getattr(error, 'orig', error)}."
        )


def _prepare(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions are begun explicitly
    connection.execute("PRAGMA synchronous = EXTRA")
