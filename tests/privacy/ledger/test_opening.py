"""What may be opened, and by whom: another population's, another key's or a damaged ledger never."""

import os
import stat

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy.errors import LedgerMismatchError, LedgerTamperedError, LedgerUnreadableError, PlanError
from privacy.ledger import Ledger

DELTA = 1e-6


class TestOpening:
    def test_what_is_not_there_is_never_made(self, tmp_path, key):
        for where in (tmp_path / "none", f"sqlite:///{tmp_path / 'none'}", "sqlite:///:memory:"):
            with pytest.raises(LedgerUnreadableError, match="does not exist"):
                Ledger.open(where, population="shop", key=key)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("content", [b"", b"\0" * 4096, b"SQLite format 3\0 and then nothing", b"text"])
    def test_what_is_not_a_ledger_is_unreadable(self, tmp_path, key, content):
        (tmp_path / "l").write_bytes(content)
        with pytest.raises(LedgerUnreadableError) as refusal:
            Ledger.open(tmp_path / "l", population="shop", key=key)
        assert refusal.value.exit_code == 4

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
    def test_a_truncated_file_is_refused(self, ledger, reserve, tmp_path, share):
        reserve(ledger, "r/1")
        path = tmp_path / "shop.ledger"
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        with pytest.raises((LedgerUnreadableError, LedgerTamperedError)):
            Ledger.open(path, population="shop")

    def test_a_server_that_is_away_is_unreadable(self, key):
        with pytest.raises(LedgerUnreadableError):
            Ledger.open("postgresql+psycopg://nobody:secret@127.0.0.1:1/x", population="shop", key=key)

    def test_messages_hide_passwords(self, key):
        with pytest.raises(LedgerUnreadableError) as refusal:
            Ledger.open("postgresql+psycopg://nobody:secret@127.0.0.1:1/x", population="shop", key=key)
        assert "secret" not in str(refusal.value)

    def test_another_population_is_refused(self, database, population, key):
        Ledger.create(database, population=population, epsilon_cap=1.0, delta=DELTA, key=key)
        with pytest.raises(LedgerMismatchError, match="this population's own ledger") as refusal:
            Ledger.open(database, population=f"{population}-other", key=key)
        assert refusal.value.exit_code == 3

    def test_populations_share_a_server_without_sharing_a_budget(self, database, population, key, reserve):
        upper = population.upper()
        for name in (population, upper):
            Ledger.create(database, population=name, epsilon_cap=2.5, delta=DELTA, key=key)
        reserve(Ledger.open(database, population=population, key=key), "r/1")
        other = Ledger.open(database, population=upper, key=key)
        assert other.budget().committed == 0.0
        assert other.verify().ok

    def test_another_key_is_refused(self, database, population, key):
        Ledger.create(database, population=population, epsilon_cap=1.0, delta=DELTA, key=key)
        with pytest.raises(LedgerMismatchError, match="own key"):
            Ledger.open(database, population=population, key=Ed25519PrivateKey.generate())

    def test_creating_twice_is_refused(self, database, population, key, reserve):
        reserve(Ledger.create(database, population=population, epsilon_cap=2.5, delta=DELTA, key=key), "r")
        with pytest.raises(LedgerMismatchError, match="never started afresh"):
            Ledger.create(database, population=population, epsilon_cap=2.5, delta=DELTA, key=key)
        assert Ledger.open(database, population=population, key=key).budget().committed > 0

    @pytest.mark.parametrize("bad", ["", " ", "a b", "naïve", "-x", "x" * 101, None, 3, "a\n"])
    def test_bad_population_names_are_refused(self, tmp_path, key, bad):
        with pytest.raises(PlanError, match="population"):
            Ledger.create(tmp_path / "l", population=bad, epsilon_cap=1.0, delta=DELTA, key=key)

    def test_a_server_needs_a_key(self, postgresql):
        with pytest.raises(LedgerMismatchError, match="give the platform's signing key"):
            Ledger.create(postgresql, population="keyless", epsilon_cap=1.0, delta=DELTA)


class TestKeyFile:
    def test_it_is_made_for_the_owner_only(self, ledger, tmp_path):
        mode = stat.S_IMODE((tmp_path / "shop.ledger.key").stat().st_mode)
        assert mode == 0o600

    def test_a_missing_key_is_refused_and_not_replaced(self, ledger, tmp_path):
        (tmp_path / "shop.ledger.key").unlink()
        with pytest.raises(LedgerUnreadableError, match="missing"):
            Ledger.open(tmp_path / "shop.ledger", population="shop")
        assert not (tmp_path / "shop.ledger.key").exists()

    def test_a_key_that_others_can_read_is_refused(self, ledger, tmp_path):
        os.chmod(tmp_path / "shop.ledger.key", 0o640)
        with pytest.raises(LedgerUnreadableError, match="chmod 600"):
            Ledger.open(tmp_path / "shop.ledger", population="shop")

    @pytest.mark.parametrize("content", [b"", b"not a key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n"])
    def test_a_damaged_key_is_refused(self, ledger, tmp_path, content):
        (tmp_path / "shop.ledger.key").write_bytes(content)
        with pytest.raises(LedgerUnreadableError, match="key file"):
            Ledger.open(tmp_path / "shop.ledger", population="shop")

    def test_a_new_ledger_beside_an_old_key_uses_it(self, ledger, tmp_path):
        (tmp_path / "shop.ledger").unlink()
        again = Ledger.create(tmp_path / "shop.ledger", population="shop", epsilon_cap=1.0, delta=DELTA)
        assert again.head().public_key == ledger._signer.public_key().public_bytes_raw().hex()
