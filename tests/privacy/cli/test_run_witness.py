"""`fedcart audit verify` against what the server of a run saw, through the front door."""

import json

import pytest

from privacy.ledger import Ledger, Witness


@pytest.fixture
def seen(tmp_path):
    """A run's folder with two ledgers and the witness of its server; and an older copy of south."""
    folder, ledgers = tmp_path / "run", {}
    (folder / "ledgers").mkdir(parents=True)
    witness = Witness(folder)
    for number in (1, 2, 3):
        if number == 2:
            older = (folder / "ledgers" / "south.sqlite").read_bytes()
        for name in ("north", "south"):
            path = folder / "ledgers" / f"{name}.sqlite"
            if number == 1:
                ledgers[name] = Ledger.create(path, population=name, epsilon_cap=6.0, delta=1e-6)
            ledgers[name].note(f"{name}, round {number}")
        ledgers["south"].note("one more")
        witness.keep(number, {name: ledger.head() for name, ledger in ledgers.items()})
    return folder, older


def test_a_run_s_folder_is_compared_with_its_own_witness(audit, seen):
    folder, older = seen
    code, out, _ = audit("verify", "--quick", folder, "--format", "json")
    north, south = json.loads(out)["ledgers"]
    assert (code, north["witness"], south["witness"]) == (0, [1, 2, 3], [2, 4, 6])
    assert "what a witness saw: 3 entries, 1 to 3" in audit("verify", "--quick", folder)[1]
    (folder / "ledgers" / "south.sqlite").write_bytes(older)
    code, out, _ = audit("verify", "--quick", folder, "--format", "json")
    north, south = json.loads(out)["ledgers"]
    assert (code, north["status"], south["status"]) == (3, "whole", "tampered")
    assert [(f["code"], f["seq"]) for f in south["findings"]] == [
        ("ledger.rollback", 4),
        ("ledger.rollback", 6),
    ]
    code, out, _ = audit("verify", "--quick", folder)
    assert code == 3
    assert "entry 4 of 'south' that the witness saw is missing here" in out
    assert audit("verify", "--quick", folder, "--population", "north")[0] == 0
    assert audit("verify", "--quick", folder, "--population", "south")[0] == 3


@pytest.mark.parametrize("given", ["the run", "its file"])
def test_a_ledger_is_compared_with_the_witness_of_a_run(verdict, seen, tmp_path, given):
    folder, older = seen
    witness = folder if given == "the run" else folder / "witness.jsonl"
    south = tmp_path / "south.sqlite"
    south.write_bytes((folder / "ledgers" / "south.sqlite").read_bytes())
    code, document = verdict(south, "--witness", witness)
    assert (code, document["witness"]) == (0, [2, 4, 6])
    south.write_bytes(older)
    assert verdict(south)[0] == 0, "without a witness an older copy looks whole"
    code, document = verdict(south, "--witness", witness)
    assert (code, [f["seq"] for f in document["findings"]]) == (3, [4, 6])


def test_a_ledger_that_grew_past_what_was_seen_is_found(audit, seen):
    folder, older = seen
    (folder / "ledgers" / "south.sqlite").write_bytes(older)
    ledger = Ledger.open(folder / "ledgers" / "south.sqlite", population="south")
    for i in range(9):
        ledger.note(f"other {i}")
    code, out, _ = audit("verify", "--quick", folder)
    assert code == 3
    assert "entry 4 of 'south' that the witness saw differs from the one here" in out


def test_a_refused_head_is_proof_that_something_is_missing_here(audit, seen):
    folder, older = seen
    path = folder / "ledgers" / "south.sqlite"
    newest = path.read_bytes()
    path.write_bytes(older)
    back = Ledger.open(path, population="south")
    back.note("another round 2")
    back.note("its update")
    Witness(folder).keep(4, {}, {"south": back.head()})
    for copy in (path.read_bytes(), newest):
        path.write_bytes(copy)
        code, out, _ = audit("verify", "--quick", folder, "--population", "south")
        assert code == 3, "no copy holds all that was released"
        assert "entry 4 of 'south' that the witness saw differs" in out


@pytest.mark.parametrize("suffix", ["", ".key"])
def test_a_ledger_that_the_run_s_witness_saw_may_not_be_gone(audit, seen, suffix):
    folder, _ = seen
    (folder / "ledgers" / f"south.sqlite{suffix}").unlink()
    code, out, _ = audit("verify", "--quick", folder)
    assert code == (0 if suffix else 4), "the key is not needed"
    assert ("the ledger of 'south' is not here" in out) == (not suffix)
    assert audit("verify", "--quick", folder, "--population", "north")[0] == 0


def test_a_witness_that_was_changed_is_found_and_the_rest_is_compared(audit, seen):
    folder, _ = seen
    path = folder / "witness.jsonl"
    whole = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*whole[:2], whole[2].replace('"seq":2', '"seq":1'), *whole[3:]]))
    code, out, _ = audit("verify", "--quick", folder, "--format", "json")
    broken, north, south = json.loads(out)["ledgers"]
    assert (code, broken["status"], north["status"], south["status"]) == (3, "tampered", "whole", "whole")
    assert "line 3" in broken["findings"][0]["message"]
    assert (north["witness"], south["witness"]) == ([1, 3], [2, 4, 6])
    assert f"TAMPERED  ({path})" in audit("verify", "--quick", folder)[1]
    path.write_text("".join(whole)[:-30])  # torn by a crash: nothing was changed
    code, out, _ = audit("verify", "--quick", folder, "--format", "json")
    assert (code, [d["witness"] for d in json.loads(out)["ledgers"]]) == (0, [[1, 2, 3], [2, 4]])
    path.unlink()
    path.mkdir()
    assert audit("verify", "--quick", folder)[0] == 4


def test_the_wrong_witness_is_said_to_be_so(audit, seen, tmp_path):
    folder, _ = seen
    path = tmp_path / "shop.sqlite"
    Ledger.create(path, population="shop", epsilon_cap=6.0, delta=1e-6)
    code, _, err = audit("verify", "--quick", path, "--witness", folder)
    assert code == 2
    assert "saw north, south, which none of the ledgers is of" in err
    (tmp_path / "empty").mkdir()
    code, _, err = audit("verify", "--quick", path, "--witness", tmp_path / "empty")
    assert code == 2
    assert "only runs with privacy keep one" in err
