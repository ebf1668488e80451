"""The auditor's own knowledge: the platform's public key, and a head that somebody kept."""

import hashlib
import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy.ledger import Ledger
from privacy.ledger.keys import load_key_file, public_hex


def test_a_witness_finds_an_older_copy(audit, path, tmp_path):
    old = path.read_bytes()
    ledger = Ledger.open(path, population="shop")
    ledger.note("later")
    code, head, _ = audit("head", path)
    assert code == 0
    (tmp_path / "head.json").write_text(head)
    assert audit("verify", "--quick", path, "--witness", tmp_path / "head.json")[0] == 0
    del ledger
    for extra in path.parent.glob("shop.sqlite-*"):
        extra.unlink()
    path.write_bytes(old)
    assert audit("verify", "--quick", path)[0] == 0, "without a witness an older copy looks whole"
    assert audit("verify", "--quick", path, "--witness", tmp_path / "head.json")[0] == 3


def test_the_key_comes_from_the_auditor_or_is_to_be_compared(audit, path, tmp_path, verdict):
    private = load_key_file(path.with_name("shop.sqlite.key"))
    public = private.public_key()
    raw = bytes.fromhex(public_hex(public))
    _, document = verdict(path)
    assert document["key_from"] == "the ledger itself"
    assert document["fingerprint"].replace(" ", "") == hashlib.sha256(raw).hexdigest()
    assert "compare this fingerprint" in audit("verify", "--quick", path)[1]

    pem, text = tmp_path / "key.pem", tmp_path / "key.hex"
    pem.write_bytes(
        public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    text.write_text(public_hex(public) + "\n")
    for file in (pem, text):
        code, document = verdict(path, "--public-key", file)
        assert (code, document["key_from"]) == (0, "--public-key")
    text.write_text(public_hex(Ed25519PrivateKey.generate().public_key()))
    assert verdict(path, "--public-key", text)[0] == 3


@pytest.mark.parametrize("content", ["", "no key", "é", "00" * 31, "-----BEGIN PUBLIC KEY-----\n!"])
def test_what_is_no_public_key_is_refused(audit, path, tmp_path, content):
    (tmp_path / "key").write_text(content)
    assert audit("verify", "--quick", path, "--public-key", tmp_path / "key")[0] == 2


def test_a_private_key_is_not_for_auditors(audit, path):
    code, _, err = audit("verify", "--quick", path, "--public-key", path.with_name("shop.sqlite.key"))
    assert code == 2
    assert "private key" in err


@pytest.mark.parametrize("content", ["", "[]", "3", "{}", "nul", "[" * 100_000, '{"population": 1}'])
def test_what_is_no_witness_is_refused(audit, path, tmp_path, content):
    (tmp_path / "head.json").write_text(content)
    assert audit("verify", "--quick", path, "--witness", tmp_path / "head.json")[0] == 2
    assert audit("verify", "--quick", path, "--witness", tmp_path / "gone.json")[0] == 2


def test_a_witness_of_another_ledger_or_with_a_false_signature_is_no_witness(
    audit, folder, path, tmp_path, verdict
):
    head = json.loads(audit("head", path)[1])
    file = tmp_path / "head.json"
    file.write_text(json.dumps(head | {"seq": 1}))
    assert verdict(path, "--witness", file)[0] == 3
    file.write_text(json.dumps(head))
    assert verdict(folder / "ledgers" / "north.sqlite", "--witness", file)[0] == 3
    assert audit("verify", "--quick", folder, "--witness", file)[0] == 2
