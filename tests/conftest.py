"""What all tests share: their order, one thread for torch, Flower's identity, databases, the text prior in plain words.

``FEDCART_TEST_POSTGRESQL`` and ``FEDCART_TEST_MARIADB`` name servers (SQLAlchemy URLs of an administrator's
database); the defaults are local ones. Each session works in a database of its own and drops it afterwards.
"""

import os
import uuid
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
import torch
from flwr.supercore.task_identity import TaskIdentity

torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files with slow tests first, so that at the end no process waits for another one's longest file."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def flower() -> Iterator[None]:
    """Give the process the identity that Flower asks for before it builds a message."""
    names = ("_task_id", "_run_id", "_node_id")
    before = [getattr(TaskIdentity, name) for name in names]
    for name in names:
        setattr(TaskIdentity, name, 1)
    yield
    for name, value in zip(names, before, strict=True):
        setattr(TaskIdentity, name, value)


SERVERS = {
    "postgresql": os.environ.get("FEDCART_TEST_POSTGRESQL", "postgresql+psycopg://root@127.0.0.1:5432/test"),
    "mariadb": os.environ.get("FEDCART_TEST_MARIADB", "mariadb+pymysql://root@127.0.0.1:3306/test"),
}


def _own_database(server: str) -> Iterator[str]:
    url = sa.make_url(SERVERS[server])
    name = f"fedcart_test_{uuid.uuid4().hex[:12]}"
    try:
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
    except (sa.exc.SQLAlchemyError, ImportError) as error:
        pytest.skip(f"{server} cannot be used at {url.render_as_string()}: {type(error).__name__}")
    yield url.set(database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name}{' WITH (FORCE)' if server == 'postgresql' else ''}")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    yield from _own_database("postgresql")


@pytest.fixture(scope="session")
def mariadb() -> Iterator[str]:
    yield from _own_database("mariadb")


class Reference:
    """The text prior from its definition: float64, one shopper and one item at a time, no masks.

    An event is a pair of features and age; an item a pair of features and isolation.
    """

    @staticmethod
    def fuse(x):
        """Scale the encoders' blocks as a whole to unit length: they weigh 1 each here."""
        length = x.norm()
        return x / length if length > 0 else x

    @classmethod
    def similarity(cls, weights, event, item):
        x, isolation = item
        return cls.fuse(event) @ cls.fuse(x) + weights.isolation * isolation

    @classmethod
    def score(cls, weights, events, item):
        if not events:
            return torch.zeros((), dtype=torch.float64)
        pool = total = 0.0
        for event, age in events:
            share = torch.exp(-torch.as_tensor(weights.decay * age, dtype=torch.float64))
            pool = pool + share * torch.exp(weights.sharpness * cls.similarity(weights, event, item))
            total = total + share
        return 12.0 / weights.sharpness * torch.log(pool / total)


@pytest.fixture(scope="session")
def reference() -> type[Reference]:
    """Return the plain prior."""
    return Reference
