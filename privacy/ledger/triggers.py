"""Triggers that make the database itself refuse to change or remove entries.

They stop accidents and casual editing, not someone with the right to drop triggers; hash chain, signatures
and witness are for that. On MariaDB and MySQL with binary logging, creating triggers needs
``log_bin_trust_function_creators = 1`` or an administrator.
"""

from __future__ import annotations

import sqlalchemy as sa

_TABLES = ("ledger_entries", "ledger_meta")
_ACTIONS = ("update", "delete")


def _names() -> list[tuple[str, str, str]]:
    return [(f"{table}_no_{action}", table, action) for table in _TABLES for action in _ACTIONS]


def _statements(dialect: str, name: str, table: str, action: str) -> str:
    if dialect == "sqlite":
        return (
            f"CREATE TRIGGER {name} BEFORE {action.upper()} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        )
    if dialect == "postgresql":
        return (
            f"CREATE TRIGGER {name} BEFORE {action.upper()} ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION ledger_append_only()"
        )
    return (
        f"CREATE TRIGGER {name} BEFORE {action.upper()} ON {table} FOR EACH ROW "
        f"SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{table} is append-only'"
    )


_POSTGRESQL_FUNCTION = """
CREATE OR REPLACE FUNCTION ledger_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$
"""


def _wanted(dialect: str) -> list[tuple[str, str, str]]:
    names = _names()
    if dialect == "postgresql":
        names += [(f"{table}_no_truncate", table, "truncate") for table in _TABLES]
    return names


def missing_triggers(connection: sa.Connection) -> list[str]:
    """Names of the triggers that should be there and are not."""
    dialect = connection.dialect.name
    queries = {
        "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
        "postgresql": (
            "SELECT t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
            "WHERE t.tgenabled <> 'D' AND pg_table_is_visible(c.oid)"
        ),
    }
    default = "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = DATABASE()"
    there = set(connection.exec_driver_sql(queries.get(dialect, default)).scalars())
    return [name for name, _, _ in _wanted(dialect) if name not in there]


def install_triggers(connection: sa.Connection) -> None:
    """Create the triggers that are missing."""
    dialect = connection.dialect.name
    missing = set(missing_triggers(connection))
    if missing and dialect == "postgresql":
        connection.exec_driver_sql(_POSTGRESQL_FUNCTION.replace("%", "%%"))
    for name, table, action in _wanted(dialect):
        if name in missing:
            connection.exec_driver_sql(_statements(dialect, name, table, action))
