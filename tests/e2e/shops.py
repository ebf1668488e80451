"""A platform's own database: the two tables of `docs/data.md`, filled by the shop, read by fedcart."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from clients.feedback.tables import metadata as feedback_tables

DATA_PAGE = Path(__file__).parents[2] / "docs" / "data.md"
FIRST_DAY = datetime(2026, 1, 1, tzinfo=UTC)
_GROWS = {
    "postgresql": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    "mariadb": "BIGINT AUTO_INCREMENT PRIMARY KEY",
}
_NOUNS = ("milk", "bread", "lamp", "chair", "kettle", "train")


def documented_tables(dialect: str) -> list[str]:
    """Return the page's CREATE TABLE statements, with a number that this database counts up by itself."""
    (block,) = [
        b
        for b in re.findall(r"```sql\n(.*?)```", DATA_PAGE.read_text(encoding="utf-8"), re.DOTALL)
        if "events" in b
    ]
    text = re.sub(r"--.*", "", block).replace("BIGINT PRIMARY KEY", _GROWS[dialect])
    return [statement.strip() for statement in text.split(";") if statement.strip()]


class Shop:
    """A shop of 30 products and 20 shoppers, whose events are rows of its own database at `url`."""

    def __init__(self, name: str, url: str, seed: int) -> None:
        self.name, self.url, self.seed = name, url, seed
        self.engine = sa.create_engine(url, poolclass=sa.NullPool)

    @property
    def dialect(self) -> str:
        return self.engine.dialect.name

    def open(self) -> None:
        """Make the tables anew and sell six things to each shopper."""
        self.close()
        rng = np.random.default_rng(self.seed)
        with self.engine.begin() as connection:
            for statement in documented_tables(self.dialect):
                connection.exec_driver_sql(statement)
            products = [
                {
                    "sku": f"i{n:02}",
                    "name": f"{_NOUNS[n % 6]} {n}",
                    "category": _NOUNS[n % 6],
                    "price": 1.5 + n,
                }
                for n in range(30)
            ]
            connection.execute(
                sa.text(
                    "INSERT INTO products (sku, name, category, price) VALUES (:sku, :name, :category, :price)"
                ),
                products,
            )
        for u in range(20):
            for day, n in enumerate(rng.choice(30, size=6, replace=False).tolist()):
                self.sell(f"shopper-{u:04}", f"i{n:02}", day, "view" if day == 2 else "purchase")
        self.sell("shopper-0000", "i00", 7, "search")

    def sell(self, customer: str, sku: str, day: int, kind: str = "purchase") -> None:
        """Insert one row, as the shop itself does."""
        at = (FIRST_DAY + timedelta(days=day)).replace(tzinfo=None)
        with self.engine.begin() as connection:
            connection.execute(
                sa.text("INSERT INTO events (customer, sku, at, kind) VALUES (:customer, :sku, :at, :kind)"),
                {"customer": customer, "sku": sku, "at": at, "kind": kind},
            )

    def rows(self, table: str) -> list[dict]:
        """All rows of a table."""
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(sa.text(f"SELECT * FROM {table}")).mappings()]

    def close(self) -> None:
        """Drop the tables, those of feedback too."""
        feedback_tables.drop_all(self.engine)
        with self.engine.begin() as connection:
            for table in ("events", "products"):
                connection.exec_driver_sql(f"DROP TABLE IF EXISTS {table}")

    def sources(self) -> dict:
        """What `client.toml` says of this database."""
        columns = {"user": "customer", "item": "sku", "order": "at", "event": "kind", "value": "amount"}
        orders = {
            "type": "sql",
            "url": self.url,
            "table": "events",
            "columns": columns,
            "timezone": "UTC",
            "weights": {"view": 0.5, "purchase": 1.0},
            "watermark": "id",
        }
        names = {"item": "sku", "title": "name", "category": "category", "price": "price"}
        return {
            "sources": {"orders": orders, "feedback": {"type": "feedback"}},
            "catalogue": {"type": "sql", "url": self.url, "table": "products", "columns": names},
            "feedback": self.url,
        }
