"""The same commands on SQLite, PostgreSQL and MariaDB, by URL."""

import json
from dataclasses import dataclass

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy.errors import LedgerUnreadableError
from privacy.ledger import Ledger
from privacy.ledger.keys import public_hex
from privacy.ledger.triggers import _wanted


@dataclass(frozen=True)
class Recorded:
    """A ledger with a settled run, and one who may write its tables."""

    url: str
    population: str
    ledger: Ledger

    def change(self, *statements: str) -> None:
        """Change this population's rows as an administrator can: triggers dropped first."""
        engine = sa.create_engine(self.url, poolclass=sa.NullPool)
        dialect = engine.dialect.name
        with engine.begin() as connection:
            for name, table, _ in _wanted(dialect):
                on = f" ON {table}" if dialect == "postgresql" else ""
                connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name}{on}")
            for statement in statements:
                here = "AND" if " WHERE " in statement else "WHERE"
                done = connection.exec_driver_sql(f"{statement} {here} population = '{self.population}'")
                assert done.rowcount > 0, statement


@pytest.fixture
def recorded(database, population, key, event):
    ledger = Ledger.create(database, population=population, epsilon_cap=6.0, delta=1e-6, key=key)
    given = {"run": "r1", "purpose": "update", "model_fingerprint": "m", "code_version": "1"}
    ledger.settle(ledger.reserve(event, key="r1/1", **given), "ab" * 32)
    ledger.note("reviewed")
    return Recorded(database, population, ledger)


def test_budget_head_plan_and_explain(audit, recorded, spent):
    where = (recorded.url, "--population", recorded.population)
    code, out, _ = audit("budget", *where, "--quick", "--format", "json")
    (budget,) = json.loads(out)["budgets"]
    assert code == 0
    assert budget["spent"] == pytest.approx(spent, rel=1e-9)
    assert (budget["population"], budget["entries"], budget["cap"]) == (recorded.population, 4, 6.0)
    assert [moment["kind"] for moment in budget["history"]] == ["open", "reserve", "settle", "note"]
    code, out, _ = audit("head", *where)
    assert (code, json.loads(out)) == (0, recorded.ledger.head().to_json())
    plan = ("--sample-rate", 0.05, "--steps", 10, "--quick", "--ledger", *where)
    code, out, _ = audit("plan", "--epsilon", 1, *plan)
    assert code == 0
    assert f"population {recorded.population} goes from {spent:.2f} to" in out
    assert audit("plan", "--epsilon", 6, *plan)[0] == 5
    code, out, _ = audit("explain", *where)
    assert code == 0
    assert f"shopper of {recorded.population}" in out


def test_a_whole_ledger_is_whole(verdict, recorded, spent, key, tmp_path):
    where = (recorded.url, "--population", recorded.population)
    code, document = verdict(*where)
    assert (code, document["status"], document["entries"]) == (0, "whole", 4)
    assert document["epsilon"] == pytest.approx(spent, rel=1e-9)
    assert not any("no longer refuses" in warning for warning in document["warnings"])
    (tmp_path / "key").write_text(public_hex(key.public_key()))
    (tmp_path / "head").write_text(json.dumps(recorded.ledger.head().to_json()))
    own = ("--public-key", tmp_path / "key", "--witness", tmp_path / "head")
    assert verdict(*where, *own)[0] == 0
    (tmp_path / "key").write_text(public_hex(Ed25519PrivateKey.generate().public_key()))
    assert verdict(*where, "--public-key", tmp_path / "key")[0] == 3


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("UPDATE ledger_entries SET document = REPLACE(document, '100', '10') WHERE seq = 1", 1),
        ("UPDATE ledger_entries SET signature = REVERSE(signature) WHERE seq = 2", 2),
        ("UPDATE ledger_entries SET seq = 9 WHERE seq = 2", None),
        ("DELETE FROM ledger_entries WHERE seq = 1", None),
        ("DELETE FROM ledger_heads", None),
        ("UPDATE ledger_heads SET seq = 2", None),
        ("UPDATE ledger_meta SET public_key = 'ff'", None),
    ],
)
def test_what_sql_changed_is_found(audit, verdict, recorded, statement, named):
    if recorded.url.startswith("sqlite"):
        statement = statement.replace("REVERSE(signature)", "REPLACE(signature, 'a', 'b')")
    recorded.change(statement)
    where = (recorded.url, "--population", recorded.population)
    code, document = verdict(*where)
    assert (code, document["status"]) == (3, "tampered")
    assert document["findings"]
    assert named is None or named in [finding["seq"] for finding in document["findings"]]
    assert any("ledger_entries_no_update" in warning for warning in document["warnings"])
    code = audit("budget", *where, "--quick")[0]
    assert code == (0 if "signature" in statement else 3), "only verify reads every signature"


def test_an_older_state_put_back_is_found_by_the_witness(verdict, recorded, tmp_path):
    where = (recorded.url, "--population", recorded.population)
    (tmp_path / "head").write_text(json.dumps(recorded.ledger.head().to_json()))
    settled = list(recorded.ledger.history())[2]
    recorded.change(
        "DELETE FROM ledger_entries WHERE seq = 3",
        f"UPDATE ledger_heads SET seq = 2, hash = '{settled.hash}'",
    )
    assert verdict(*where)[0] == 0, "without a witness an older copy looks whole"
    code, document = verdict(*where, "--witness", tmp_path / "head")
    assert (code, [f["code"] for f in document["findings"]]) == (3, ["ledger.rollback"])


def test_a_schema_that_is_not_known_is_unreadable(audit, verdict, recorded, key):
    recorded.change("UPDATE ledger_meta SET schema_version = 99")
    where = (recorded.url, "--population", recorded.population)
    code, document = verdict(*where)
    assert (code, document["status"]) == (4, "unreadable")
    assert "schema 99" in document["findings"][0]["message"]
    assert audit("budget", *where)[0] == 4
    with pytest.raises(LedgerUnreadableError, match="use the version of fedcart that wrote it"):
        Ledger.open(recorded.url, population=recorded.population, key=key)


def test_missing_triggers_are_a_warning(audit, verdict, recorded):
    recorded.change()
    where = (recorded.url, "--population", recorded.population)
    code, document = verdict(*where)
    assert (code, document["status"]) == (0, "whole")
    assert any("no longer refuses changes itself" in warning for warning in document["warnings"])
    assert "warning: the database no longer refuses" in audit("verify", "--quick", *where)[1]


def test_the_population_must_be_there(audit, verdict, recorded):
    for command in ("budget", "head", "explain"):
        code, out, err = audit(command, recorded.url, "--population", f"{recorded.population}-other")
        assert (code, out) == (3, "")
        assert f"{recorded.population}-other" in err
    code, document = verdict(recorded.url, "--population", f"{recorded.population}-other")
    assert (code, document["findings"][0]["code"]) == (3, "ledger.mismatch")


def test_one_of_several_populations_has_to_be_chosen(audit, recorded, key):
    other = f"{recorded.population}-b"
    Ledger.create(recorded.url, population=other, epsilon_cap=1.0, delta=1e-6, key=key)
    code, _, err = audit("budget", recorded.url)
    assert code == 2
    assert "choose one with --population" in err
    code, out, _ = audit("budget", recorded.url, "--population", other, "--quick", "--format", "json")
    assert (code, [b["cap"] for b in json.loads(out)["budgets"]]) == (0, [1.0])
