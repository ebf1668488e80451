"""Two thousand random tamperings, each found; untouched ledgers, each accepted."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy.errors import (
    BudgetRefusedError,
    LedgerError,
    LedgerMismatchError,
    LedgerTamperedError,
    LedgerUnreadableError,
)
from privacy.events import Gaussian, PoissonGaussian
from privacy.ledger import Ledger, verify_ledger
from privacy.ledger.entry import canonical, digest, signed_bytes

POPULATION = "shop"
ROUNDS = 2_000


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A ledger with every kind of entry, and what a witness and an auditor hold."""
    path = tmp_path_factory.mktemp("original") / "l"
    ledger = Ledger.create(path, population=POPULATION, epsilon_cap=3.0, delta=1e-6)
    event = PoissonGaussian(0.05, 1.0, 10)
    given = {"run": "r", "purpose": "update", "model_fingerprint": "m", "code_version": "1"}
    for i in range(3):
        held = ledger.reserve(event, key=f"r/{i}", **given)
        ledger.settle(held, "ab" * 32)
    partly = ledger.reserve(Gaussian(8.0, 2), key="m/0", **given)
    ledger.settle(partly, "ab" * 32, steps_used=1, evidence="one release was not made")
    with pytest.raises(BudgetRefusedError):
        ledger.reserve(event.with_count(1000), key="r/big", **given)
    ledger.change_cap(2.9, "less")
    ledger.note("an ordinary day")
    return path, ledger._signer.public_key(), ledger.head()


@pytest.fixture
def copy(original, tmp_path):
    path, key, witness = original
    here = tmp_path / "copy"
    shutil.copy(path, here)
    connection = sqlite3.connect(here, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for (name,) in names:
        connection.execute(f"DROP TRIGGER {name}")
    yield here, connection, key, witness
    connection.close()


def rows(connection):
    query = "SELECT seq, document, hash, signature FROM ledger_entries ORDER BY seq"
    return [list(row) for row in connection.execute(query)]


def write(connection, table):
    """Put ``table`` in the place of all entries and point the head to its end, as a careful forger would."""
    connection.execute("DELETE FROM ledger_entries")
    values = [(POPULATION, *row) for row in table]
    connection.executemany("INSERT INTO ledger_entries VALUES (?, ?, ?, ?, ?)", values)
    if table:
        connection.execute("UPDATE ledger_heads SET seq = ?, hash = ?", (table[-1][0], table[-1][2]))


def nudge(rng, text):
    """Change one character."""
    at = rng.randrange(len(text))
    other = rng.choice([c for c in '0123456789abcdefxyz{}:,. "' if c != text[at]])
    return text[:at] + other + text[at + 1 :]


def relink(table, start, signer=None):
    """Recompute hashes and links from ``start`` on; sign with another key if there is one."""
    for i in range(start, len(table)):
        document = json.loads(table[i][1])
        document["seq"] = i
        document["prev"] = table[i - 1][2] if i else "0" * 64
        table[i][0], table[i][1] = i, canonical(document)
        table[i][2] = digest(table[i][1])
        if signer is not None:
            table[i][3] = signer.sign(signed_bytes(POPULATION, i, table[i][2])).hex()


def rewrite(rng, table):
    """Give one entry another meaning that is valid in itself."""
    at = rng.randrange(len(table))
    document = json.loads(table[at][1])
    body = document["body"]
    if "event" in body and rng.random() < 0.7:
        body["event"]["noise_multiplier"] = body["event"]["noise_multiplier"] * 2
    elif "steps_used" in body and rng.random() < 0.7:
        body |= rng.choice([{"steps_used": 0}, {"output": "cd" * 32}, {"output": "nothing"}])
    elif "cap" in body and rng.random() < 0.7:
        body["cap"] = body["cap"] + 1
    else:
        body["extra"] = rng.random()
    table[at][1] = canonical(document)
    return at


def edit_column(rng, connection):
    column = rng.choice(["document", "hash", "signature"])
    table = rows(connection)
    row = rng.choice(table)
    value = row[{"document": 1, "hash": 2, "signature": 3}[column]]
    changed = rng.choice(
        [lambda v: nudge(rng, v), str.upper, lambda v: v + " ", lambda v: v[:-1], lambda v: "", str.encode]
    )(value)
    if changed == value:
        changed = nudge(rng, value)
    connection.execute(f"UPDATE ledger_entries SET {column} = ? WHERE seq = ?", (changed, row[0]))


def edit_meaning(rng, connection):
    """Edit, recompute every hash, keep the old signatures."""
    table = rows(connection)
    at = rewrite(rng, table)
    relink(table, at)
    write(connection, table)


def edit_and_sign_with_another_key(rng, connection):
    table = rows(connection)
    at = rewrite(rng, table)
    relink(table, rng.choice([at, 0]), Ed25519PrivateKey.generate())
    write(connection, table)


def take_over(rng, connection):
    """Sign everything with another key and put that key in the table and the first entry."""
    signer = Ed25519PrivateKey.generate()
    public = signer.public_key().public_bytes_raw().hex()
    table = rows(connection)
    rewrite(rng, table)
    first = json.loads(table[0][1])
    first["body"]["public_key"] = public
    table[0][1] = canonical(first)
    relink(table, 0, signer)
    write(connection, table)
    connection.execute("UPDATE ledger_meta SET public_key = ?", (public,))


def reorder(rng, connection):
    table = rows(connection)
    a, b = rng.sample(range(len(table)), 2)
    table[a][1:], table[b][1:] = table[b][1:], table[a][1:]
    if rng.random() < 0.5:
        relink(table, min(a, b))
    write(connection, table)


def delete(rng, connection):
    table = rows(connection)
    at = rng.randrange(len(table))
    del table[at]
    if rng.random() < 0.5:
        relink(table, at)
    write(connection, table)


def delete_row_only(rng, connection):
    seq = rng.choice(rows(connection))[0]
    connection.execute("DELETE FROM ledger_entries WHERE seq = ?", (seq,))


def truncate(rng, connection):
    """Back to an older state, head and all: only the witness can tell."""
    table = rows(connection)
    write(connection, table[: rng.randrange(len(table))])


def duplicate(rng, connection):
    table = rows(connection)
    again = list(rng.choice(table))
    again[0] = len(table)
    table.append(again)
    if rng.random() < 0.5:
        relink(table, len(table) - 1)
    write(connection, table)


def hide_row(rng, connection):
    seq = rng.choice(rows(connection))[0]
    column, value = rng.choice(
        [("population", "other"), ("seq", -1 - seq), ("seq", seq + 1000), ("seq", "x")]
    )
    connection.execute(f"UPDATE ledger_entries SET {column} = ? WHERE seq = ?", (value, seq))


def smuggle(rng, connection):
    """Add a row where nobody looks."""
    again = list(rng.choice(rows(connection)))
    again[0] = -rng.randrange(1, 100)
    connection.execute("INSERT INTO ledger_entries VALUES (?, ?, ?, ?, ?)", (POPULATION, *again))


def edit_head(rng, connection):
    seq, value = connection.execute("SELECT seq, hash FROM ledger_heads").fetchone()
    change = rng.choice(["seq", "hash", "gone", "other"])
    if change == "seq":
        connection.execute("UPDATE ledger_heads SET seq = ?", (seq + rng.choice([-1, 1, 10]),))
    elif change == "hash":
        connection.execute("UPDATE ledger_heads SET hash = ?", (nudge(rng, value),))
    elif change == "gone":
        connection.execute("DELETE FROM ledger_heads")
    else:
        connection.execute("UPDATE ledger_heads SET population = 'other'")


def edit_meta(rng, connection):
    column, value = rng.choice(
        [("population", "other"), ("schema_version", 3), ("schema_version", "1x"), ("public_key", "00" * 32)]
    )
    connection.execute(f"UPDATE ledger_meta SET {column} = ?", (value,))


TAMPERINGS = [
    edit_column,
    edit_meaning,
    edit_and_sign_with_another_key,
    take_over,
    reorder,
    delete,
    delete_row_only,
    truncate,
    duplicate,
    hide_row,
    smuggle,
    edit_head,
    edit_meta,
]


def complaint(path, key, *witness):
    """The verifier's first complaint, or None when it accepts."""
    try:
        report = verify_ledger(path, population=POPULATION, public_key=key, witness=witness)
    except LedgerError as error:
        return error.code
    return report.findings[0].code if report.findings else None


def test_every_tampering_is_found(copy):
    path, connection, key, witness = copy
    clean = rows(connection)
    head = connection.execute("SELECT * FROM ledger_heads").fetchone()
    meta = connection.execute("SELECT * FROM ledger_meta").fetchone()
    assert complaint(path, key, witness) is None
    rng = random.Random(20_26)
    missed = []
    for number in range(ROUNDS):
        tampering = TAMPERINGS[number % len(TAMPERINGS)]
        tampering(rng, connection)
        if complaint(path, key, witness) is None:
            missed.append((number, tampering.__name__))
        for table, row in (("ledger_heads", head), ("ledger_meta", meta)):
            connection.execute(f"DELETE FROM {table}")
            connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
        write(connection, clean)
    assert not missed
    assert complaint(path, key, witness) is None, "the untampered ledger must be accepted again"


@pytest.mark.parametrize("tampering", [t for t in TAMPERINGS if t is not truncate], ids=lambda t: t.__name__)
def test_without_a_witness_only_truncation_can_hide(copy, tampering):
    path, connection, key, _ = copy
    tampering(random.Random(1), connection)
    assert complaint(path, key) is not None


def test_a_restored_older_copy_needs_and_has_a_witness(copy):
    path, connection, key, witness = copy
    write(connection, rows(connection)[:4])
    assert complaint(path, key) is None
    report = verify_ledger(path, population=POPULATION, public_key=key, witness=[witness])
    assert [f.code for f in report.findings] == ["ledger.rollback"]
    assert report.findings[0].seq == witness.seq


def test_a_fork_is_found_by_the_witness(original, tmp_path, reserve):
    """The platform itself restores a copy and goes on from there with its own key."""
    path, _, witness = original
    for suffix in ("", ".key"):
        shutil.copy(f"{path}{suffix}", tmp_path / f"fork{suffix}")
    with sqlite3.connect(tmp_path / "fork") as connection:
        connection.execute("DROP TRIGGER ledger_entries_no_delete")
        write(connection, rows(connection)[:5])
    fork = Ledger.open(tmp_path / "fork", population=POPULATION)
    while fork.head().seq < witness.seq:
        fork.note("another history")
    assert fork.verify().ok
    report = fork.verify(witness=[witness])
    assert "differs" in report.findings[0].message


def test_a_live_ledger_notices_a_rollback_under_its_feet(ledger, reserve, tmp_path):
    shutil.copy(tmp_path / "shop.ledger", tmp_path / "backup")
    reserve(ledger, "r/1")
    shutil.copy(tmp_path / "backup", tmp_path / "shop.ledger")
    with pytest.raises(LedgerTamperedError, match="entry 1"):
        reserve(ledger, "r/2")


def test_a_forged_witness_is_not_believed(copy):
    path, _, key, witness = copy
    forged = type(witness)(**{**witness.to_json(), "hash": "0" * 64})
    assert complaint(path, key, forged) == "ledger.tampered"


def test_the_entry_is_named(copy):
    path, connection, key, _ = copy
    connection.execute("UPDATE ledger_entries SET hash = hash || '0' WHERE seq = 3")
    report = verify_ledger(path, population=POPULATION, public_key=key)
    assert report.findings[0].seq == 3
    assert "entry 3" in report.findings[0].message


def test_an_owner_who_lies_about_epsilon_is_found(original, tmp_path):
    """Valid chain and signatures, but recorded ε values too small: the recomputation tells."""
    path, key, _ = original
    signer = Ledger.open(path, population=POPULATION)._signer
    here = tmp_path / "lie"
    shutil.copy(path, here)
    with sqlite3.connect(here) as connection:
        connection.execute("DROP TRIGGER ledger_entries_no_delete")
        table = rows(connection)
        for row in table:
            document = json.loads(row[1])
            for name in ("epsilon_before", "epsilon_after"):
                if name in document["body"]:
                    document["body"][name] /= 2
            row[1] = canonical(document)
        relink(table, 0, signer)
        write(connection, table)
    report = verify_ledger(here, population=POPULATION, public_key=key)
    assert "its events compose to" in report.findings[0].message


def test_clock_that_ran_backwards_is_found(original, tmp_path):
    path, key, _ = original
    signer = Ledger.open(path, population=POPULATION)._signer
    here = tmp_path / "clock"
    shutil.copy(path, here)
    with sqlite3.connect(here) as connection:
        connection.execute("DROP TRIGGER ledger_entries_no_delete")
        table = rows(connection)
        document = json.loads(table[2][1])
        document["time"] = "2001-01-01T00:00:00.000000+00:00"
        table[2][1] = canonical(document)
        relink(table, 2, signer)
        write(connection, table)
    report = verify_ledger(here, population=POPULATION, public_key=key)
    assert (report.findings[0].code, report.findings[0].seq) == ("ledger.clock", 2)


def test_flipped_bytes_are_found_or_harmless(original, tmp_path):
    """Raw damage to the file: either it is refused, or every entry is exactly what it was."""
    path, key, witness = original
    raw = path.read_bytes()
    with sqlite3.connect(path) as connection:
        clean = rows(connection)
    here = tmp_path / "damaged"
    rng = random.Random(7)
    refused = 0
    used = [i for i, byte in enumerate(raw) if byte]  # most of a small SQLite file is empty
    for _ in range(100):
        data = bytearray(raw)
        at = rng.choice(used)
        data[at] ^= 1 << rng.randrange(8)
        here.write_bytes(data)
        if complaint(here, key, witness) is not None:
            refused += 1
            continue
        with sqlite3.connect(here) as connection:
            assert rows(connection) == clean
    assert refused > 50


def test_verifying_needs_only_the_public_key_and_writes_nothing(original):
    path, key, witness = original
    before = path.read_bytes()
    assert verify_ledger(path, population=POPULATION, public_key=key, witness=[witness]).ok
    assert path.read_bytes() == before
    report = verify_ledger(path, population=POPULATION)
    assert report.ok
    assert "itself names" in report.warnings[0]


def test_verifying_the_wrong_thing(original, tmp_path):
    path, _, _ = original
    other = Ed25519PrivateKey.generate().public_key()
    report = verify_ledger(path, population=POPULATION, public_key=other)
    assert report.findings[0].code == LedgerMismatchError.code
    assert not verify_ledger(path, population="another").ok
    with pytest.raises(LedgerUnreadableError):
        verify_ledger(tmp_path / "none", population=POPULATION)


def test_a_splice_of_two_signed_histories_is_found(original, tmp_path):
    """Every entry signed by the right key, at its right place, but not from one history."""
    path, key, _ = original
    for suffix in ("", ".key"):
        shutil.copy(f"{path}{suffix}", tmp_path / f"fork{suffix}")
    connection = sqlite3.connect(tmp_path / "fork", isolation_level=None)
    connection.execute("DROP TRIGGER ledger_entries_no_delete")
    whole = rows(connection)
    write(connection, whole[:-2])
    fork = Ledger.open(tmp_path / "fork", population=POPULATION)
    fork.note("another history")
    write(connection, [*rows(connection), whole[-1]])
    connection.close()
    report = verify_ledger(tmp_path / "fork", population=POPULATION, public_key=key)
    assert "does not follow" in report.findings[0].message


def test_a_live_ledger_notices_an_edit_of_its_last_entry(ledger, reserve, tmp_path):
    reserve(ledger, "r/1")
    with sqlite3.connect(tmp_path / "shop.ledger") as connection:
        connection.execute("DROP TRIGGER ledger_entries_no_update")
        connection.execute("UPDATE ledger_entries SET document = '{}' WHERE seq = 1")
    with pytest.raises(LedgerTamperedError, match="entry 1: it is gone or changed"):
        reserve(ledger, "r/2")
