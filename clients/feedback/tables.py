"""The tables of the feedback store; `docs/feedback.md` shows them."""

from typing import Any

import sqlalchemy as sa

from clients.feedback.events import ID_LENGTH

metadata = sa.MetaData()
_INNODB: dict[str, Any] = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    # transactions; and ids that differ by case, accent or a space at the end differ
    for option, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}


def _id(name: str, **options: Any) -> sa.Column[str]:
    return sa.Column(name, sa.String(ID_LENGTH), nullable=False, **options)


IMPRESSIONS = sa.Table(
    "feedback_impressions",
    metadata,
    _id("event_id", primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    _id("item", index=True),
    _id("request_id", index=True),
    _id("shopper", index=True),
    _id("session"),
    _id("model_version"),
    _id("arm"),
    sa.Column("time", sa.Double, nullable=False, index=True),
    sa.Column("recorded", sa.Double, nullable=False),
    **_INNODB,
)
"""One row for each item that was shown; times are unix seconds."""

INTERACTIONS = sa.Table(
    "feedback_interactions",
    metadata,
    _id("event_id", primary_key=True),
    _id("item"),
    _id("request_id", index=True),
    _id("shopper", index=True),
    _id("session"),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("value", sa.Double, nullable=True),
    sa.Column("time", sa.Double, nullable=False, index=True),
    sa.Column("recorded", sa.Double, nullable=False, index=True),
    **_INNODB,
)
"""One row for each thing that a shopper did."""
