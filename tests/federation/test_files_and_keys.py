"""Files: whole or not at all, never over others. Keys: for their owner alone, in the form that Flower reads."""

import os
import stat

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from federation.errors import FolderError, KeyFileError
from federation.files import create, make_folder, read_material, read_private, replace
from federation.keys import (
    check_node_proof,
    check_signature,
    load_node_key,
    load_signing_key,
    make_node_key,
    make_signing_key,
    node_proof,
    node_text,
    signing_text,
)
from shared_model.errors import BadInputError


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_not_overwritten(tmp_path):
    path = tmp_path / "file"
    create(path, b"first", 0o600)
    with pytest.raises(BadInputError, match="is not overwritten"):
        create(path, b"second")
    assert path.read_bytes() == b"first"
    assert mode(path) == 0o600
    assert list(tmp_path.iterdir()) == [path], "nothing half-written stays"


def test_replacing_leaves_one_whole_file(tmp_path):
    path = tmp_path / "file"
    replace(path, b"first")
    replace(path, b"second", 0o600)
    assert path.read_bytes() == b"second"
    assert mode(path) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_changes_nothing(tmp_path, monkeypatch):
    path = tmp_path / "file"
    create(path, b"first")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FolderError, match="No space left"):
        replace(path, b"second")
    with pytest.raises(FolderError, match="No space left"):
        create(tmp_path / "other", b"second")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_made_whole_or_not_at_all(tmp_path):
    def half(new):
        (new / "one").write_text("1")
        raise BadInputError("no")

    with pytest.raises(BadInputError):
        make_folder(tmp_path / "folder", half)
    assert list(tmp_path.iterdir()) == []
    make_folder(tmp_path / "folder", lambda new: (new / "one").write_text("1"))
    assert mode(tmp_path / "folder") == 0o700
    with pytest.raises(BadInputError, match="is not overwritten"):
        make_folder(tmp_path / "folder", lambda new: (new / "one").write_text("2"))
    assert (tmp_path / "folder" / "one").read_text() == "1"
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(BadInputError):
        make_folder(tmp_path / "link", half)


def test_an_empty_folder_may_be_used(tmp_path):
    (tmp_path / "folder").mkdir()
    make_folder(tmp_path / "folder", lambda new: (new / "one").write_text("1"))
    assert (tmp_path / "folder" / "one").exists()


def test_material_is_bounded(tmp_path):
    (tmp_path / "big").write_bytes(bytes(100))
    assert read_material(tmp_path / "big", 100) == bytes(100)
    for path in (tmp_path / "big", tmp_path / "missing", tmp_path):
        with pytest.raises(BadInputError):
            read_material(path, 99)


@pytest.mark.parametrize("extra", [0o040, 0o004, 0o020, 0o001])
def test_a_key_that_others_can_reach_is_refused(tmp_path, extra):
    path = tmp_path / "key"
    make_signing_key(path)
    assert mode(path) == 0o600
    path.chmod(0o600 | extra)
    with pytest.raises(KeyFileError, match="run chmod 600"):
        load_signing_key(path)
    path.chmod(0o400)
    load_signing_key(path)


def test_a_missing_or_foreign_key_is_named(tmp_path):
    make_signing_key(tmp_path / "signing")
    make_node_key(tmp_path / "node")
    with pytest.raises(KeyFileError, match="is missing"):
        read_private(tmp_path / "none")
    with pytest.raises(KeyFileError, match="no Ed25519"):
        load_signing_key(tmp_path / "node")
    with pytest.raises(KeyFileError, match="no EC P-384"):
        load_node_key(tmp_path / "signing")
    create(tmp_path / "garbage", b"-----BEGIN", 0o600)
    for load in (load_node_key, load_signing_key):
        with pytest.raises(KeyFileError):
            load(tmp_path / "garbage")


def test_flower_reads_a_node_key(tmp_path):
    """As flwr's command lines do: OpenSSH private key, OpenSSH public key, a NIST curve."""
    key = make_node_key(tmp_path / "node")
    private = load_ssh_private_key((tmp_path / "node").read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert load_ssh_public_key(node_text(key).encode()) == private.public_key()


def test_signatures_and_proofs_are_of_one_key_and_message(tmp_path):
    one, two = make_signing_key(tmp_path / "1"), make_signing_key(tmp_path / "2")
    signature = one.sign(b"message").hex()
    assert check_signature(signing_text(one), b"message", signature)
    assert not check_signature(signing_text(two), b"message", signature)
    assert not check_signature(signing_text(one), b"massage", signature)
    assert not check_signature(signing_text(one), b"message", "zz")
    node, other = make_node_key(tmp_path / "3"), make_node_key(tmp_path / "4")
    proof = node_proof(node, b"message")
    assert check_node_proof(node_text(node), b"message", proof)
    assert not check_node_proof(node_text(other), b"message", proof)
    assert not check_node_proof(node_text(node), b"massage", proof)
    for nonsense in ("", "é", "AAAA", "*"):
        assert not check_node_proof(node_text(node), b"message", nonsense)
        assert not check_node_proof(nonsense, b"message", proof)
