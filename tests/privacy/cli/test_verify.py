"""`fedcart audit verify`: whole, tampered with or unreadable, each with its exit code."""

import json

import pytest

from privacy.ledger import Ledger


def test_verify_needs_no_private_key(audit, path):
    path.with_name("shop.sqlite.key").unlink()
    code, out, _ = audit("verify", "--quick", path)
    assert code == 0
    assert "WHOLE" in out


def test_verify_finds_an_edit_and_exits_with_3(audit, path, edit):
    edit(path, "update ledger_entries set document = replace(document, '100', '10')")
    code, out, err = audit("verify", "--quick", path)
    assert code == 3, out + err


@pytest.mark.parametrize("damage", ["gone", "cut", "garbage"])
def test_verify_exits_with_4_when_it_cannot_be_read(audit, path, damage):
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(b"garbage" * 100 if damage == "garbage" else path.read_bytes()[:700])
    code, out, err = audit("verify", "--quick", path)
    assert code == 4, out + err


def test_every_damaged_entry_is_named(path, edit, verdict):
    ledger = Ledger.open(path, population="shop")
    for i in range(10):
        ledger.note(f"note {i}")
    edit(path, "update ledger_entries set document = replace(document, 'note 1', 'note 7') where seq = 4")
    edit(path, "update ledger_entries set signature = ? where seq in (1, 11)", "0" * 128)
    code, document = verdict(path)
    assert code == 3
    assert [finding["seq"] for finding in document["findings"]] == [1, 4, 11]
    edit(path, "delete from ledger_entries where seq in (6, 7)")
    _, document = verdict(path)
    assert [finding["seq"] for finding in document["findings"]] == [1, 4, 8, 11]
    assert "entry 6 to 7" in document["findings"][2]["message"]


def test_a_shortened_ledger_is_found(path, edit, verdict):
    edit(path, "delete from ledger_entries where seq = 2")
    code, document = verdict(path)
    assert (code, document["status"]) == (3, "tampered")
    assert document["findings"]


def test_an_unreadable_ledger_does_not_hide_the_others(audit, folder, edit):
    (folder / "ledgers" / "north.sqlite").write_bytes(b"garbage" * 100)
    code, out, _ = audit("verify", "--quick", folder, "--format", "json")
    assert code == 4
    assert [d["status"] for d in json.loads(out)["ledgers"]] == ["unreadable", "whole"]
    edit(folder / "ledgers" / "south.sqlite", "update ledger_heads set seq = 0")
    code, out, _ = audit("verify", "--quick", folder)
    assert code == 3
    assert "UNREADABLE" in out
    assert "TAMPERED  south" in out


def test_an_edited_ledger_cannot_steer_the_terminal(audit, path, edit):
    edit(path, "update ledger_meta set population = ?", "\x1b[2Jshop")
    code, out, err = audit("verify", "--quick", path)
    assert code == 3
    assert "\x1b" not in out + err


@pytest.mark.parametrize("command", ["budget", "head", "explain"])
def test_nothing_is_said_of_an_edited_ledger(audit, path, command, edit):
    edit(path, "update ledger_entries set document = replace(document, '100', '10') where seq = 1")
    code, out, err = audit(command, path)
    assert (code, out) == (3, "")
    assert "entry 1" in err
