"""A database's password is never printed: in no message, no JSON, whatever goes wrong."""

import json
import uuid

import pytest
import sqlalchemy as sa

from privacy.errors import LedgerUnreadableError
from privacy.ledger import Ledger
from privacy.ledger.location import shown, without_secrets

PASSWORD = "hunter2/%@x"
COMMANDS = ["budget", "verify", "head", "explain"]
AWAY = {
    "postgresql": "postgresql+psycopg://auditor:hunter2@127.0.0.1:1/ledger",
    "mariadb": "mariadb+pymysql://auditor:hunter2@127.0.0.1:1/ledger",
}


@pytest.fixture
def quiet(audit):
    """Run a command and look for the password in all that it prints."""

    def run(*arguments):
        code, out, err = audit(*arguments)
        assert "hunter2" not in out + err
        return code, out, err

    return run


@pytest.mark.parametrize("server", AWAY)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_server_that_is_away_is_named_without_it(quiet, server, command):
    for population in ((), ("--population", "shop")):
        code, out, err = quiet(command, AWAY[server], *population)
        assert code == 4
        assert "//auditor:***@127.0.0.1:1/ledger cannot be used" in out + err
        assert "check file, disk, the server" in out + err
        assert (out + err).count("\n") <= 4, "one message, not a page"
    if command == "verify":
        (document,) = json.loads(quiet(command, AWAY[server], "--format", "json")[1])["ledgers"]
        assert (document["status"], document["findings"][0]["code"]) == ("unreadable", "ledger.unreadable")


@pytest.mark.parametrize(
    "where",
    [
        "postgresql+psycopg://auditor:hunter2@127.0.0.1:port/ledger",
        "postgresql+psycopg://auditor:hun@hunter2@127.0.0.1:1/ledger",
        "postgresql+psycopg://127.0.0.1:1/ledger?user=auditor&password=hunter2",
        "postgresql+psycopg://auditor:hunter2@127.0.0.1:1/ledger?no_such_option=1",
        "mariadb+pymysql://auditor:hunter2@127.0.0.1:1/ledger?no_such_option=1",
        "mariadb+pymysql://127.0.0.1:1/ledger?user=auditor&passwd=hunter2",
        "nosuch+driver://auditor:hunter2@127.0.0.1/ledger",
        "://auditor:hunter2@127.0.0.1/ledger",
        "postgresql:auditor:hunter2@127.0.0.1/ledger",
        "auditor:hunter2@127.0.0.1/ledger",
    ],
)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_url_that_cannot_be_used_is_refused_without_it(quiet, key, where, command):
    code, out, err = quiet(command, where)
    assert code in {2, 4}
    assert out + err
    with pytest.raises(LedgerUnreadableError) as refusal:
        Ledger.open(where, population="shop", key=key)
    told = [str(refusal.value), str(refusal.value.__cause__), repr(refusal.value)]
    assert not any("hunter2" in text for text in told)


def test_a_driver_that_repeats_it_is_corrected():
    url = sa.make_url("postgresql+psycopg://u:hunter2%2Fx@host/db?passfile=hunter2&sslmode=require")
    said = "no\n  entry for u:hunter2/x, hunter2%2Fx; require passfile hunter2"
    assert without_secrets(said, url) == "no entry for u:***, ***; require passfile ***"
    assert shown(url) == "postgresql+psycopg://u:***@host/db"


@pytest.fixture(params=["postgresql", "mariadb"])
def reader(request):
    """A server's URL, and one of a user there who has a password and may only read the ledger's tables."""
    url = sa.make_url(request.getfixturevalue(request.param))
    postgresql, name = request.param == "postgresql", f"reader_{uuid.uuid4().hex[:8]}"
    account = name if postgresql else f"{name}@'%'"
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)

    def run(*statements):
        with engine.connect() as connection:
            for statement in statements:
                connection.execute(sa.text(statement))

    def grant():
        run(f"CREATE USER {account} {'PASSWORD' if postgresql else 'IDENTIFIED BY'} '{PASSWORD}'")
        run(*(f"GRANT SELECT ON ledger_{table} TO {account}" for table in ("meta", "entries", "heads")))
        return url.set(username=name, password=PASSWORD)

    yield url.render_as_string(hide_password=False), grant
    run(*([f"DROP OWNED BY {account}"] if postgresql else []), f"DROP USER {account}")


def test_an_auditor_who_may_only_read_needs_no_more(quiet, reader, population, key, event, tmp_path):
    admin, grant = reader
    ledger = Ledger.create(admin, population=population, epsilon_cap=6.0, delta=1e-6, key=key)
    given = {"run": "r1", "purpose": "update", "model_fingerprint": "m", "code_version": "1"}
    ledger.settle(ledger.reserve(event, key="r1/1", **given), "ab" * 32)
    reading = grant()
    where = (reading.render_as_string(hide_password=False), "--population", population)
    for command in COMMANDS:
        quick = ["--quick"] if command in {"budget", "verify"} else []
        for shape in ((), ("--format", "json")):
            code, out, err = quiet(command, *where, *quick, *shape)
            assert code == 0, out + err
    assert f"{reading.username}:***@" in quiet("verify", *where, "--quick")[1]
    if reading.get_backend_name() == "mariadb":  # the password kept out of the command line
        (tmp_path / "my.cnf").write_text(f"[client]\nuser = {reading.username}\npassword = {PASSWORD}\n")
        options = sa.URL.create(
            reading.drivername,
            host=reading.host,
            port=reading.port,
            database=reading.database,
            query={"read_default_file": str(tmp_path / "my.cnf")},
        )
        assert quiet("verify", options.render_as_string(), "--population", population, "--quick")[0] == 0
    nowhere = reading.set(database="no_such_database").render_as_string(hide_password=False)
    assert quiet("verify", nowhere, "--population", population)[0] == 4
