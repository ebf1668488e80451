"""The witness: it keeps every head durably, knows a ledger that went back, and its file is whole or refused."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from functools import cache
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.errors import (
    LedgerError,
    LedgerMismatchError,
    LedgerRolledBackError,
    LedgerTamperedError,
    LedgerUnreadableError,
)
from privacy.ledger import Head, Ledger, Witness
from privacy.ledger.entry import signed_bytes
from privacy.ledger.keys import public_hex
from privacy.ledger.report import HEAD_LIMIT
from privacy.ledger.witness import NAME, Kept, read_witness_file


@cache
def head(seq: int, history: str = "", population: str = "north", key: str = "north") -> Head:
    signer = Ed25519PrivateKey.from_private_bytes(sha256(key.encode()).digest())
    digest = sha256(f"{population} {seq} {history}".encode()).hexdigest()
    signature = signer.sign(signed_bytes(population, seq, digest)).hex()
    return Head(population, seq, digest, public_hex(signer.public_key()), signature)


def sender(one: Head) -> str:
    return f"shop-of-{one.population}"


def kept_as(number: int, one: Head, refused: bool = False) -> Kept:
    return Kept(sender(one), number, one, refused)


def keep(witness: Witness, number: int, heads, refused=()) -> None:
    witness.keep(number, {sender(h): h for h in heads}, {sender(h): h for h in refused})


def judge(witness: Witness, one: Head) -> None:
    witness.judge(sender(one), one)


def saw(folder) -> list[Kept]:
    found = read_witness_file(folder / NAME)
    assert found.faults == ()
    return list(found.kept)


# The form of a head that a stranger sends


def test_a_head_makes_the_journey_as_text(ledger):
    text = ledger.head().to_text()
    assert len(text) < 600
    assert Head.from_text(text) == ledger.head()
    Head.from_text(text).check()


def test_the_longest_head_is_within_the_limit():
    assert len(head(2**63 - 1, population="x" * 100).to_text()) <= HEAD_LIMIT


GOOD = head(7).to_json()
BAD_HEADS = [
    None,
    7,
    b"{}",
    "",
    "{}",
    "[]",
    "null",
    "NaN",
    "no json",
    "[" * 900,
    json.dumps(GOOD) + " " * HEAD_LIMIT,
    json.dumps(GOOD)[:-1],
    json.dumps(GOOD | {"more": 1}),
    json.dumps({name: value for name, value in GOOD.items() if name != "seq"}),
    json.dumps(GOOD | {"seq": math.nan}),
    json.dumps(GOOD | {"seq": math.inf}),
    json.dumps(GOOD | {"seq": 7.0}),
    json.dumps(GOOD | {"seq": True}),
    json.dumps(GOOD | {"seq": "7"}),
    json.dumps(GOOD | {"seq": -1}),
    json.dumps(GOOD | {"seq": 2**63}),
    json.dumps(GOOD).replace('"seq": 7', '"seq": ' + "9" * 400),
    json.dumps(GOOD | {"hash": GOOD["hash"].upper()}),
    json.dumps(GOOD | {"hash": GOOD["hash"] + "00"}),
    json.dumps(GOOD | {"hash": GOOD["hash"][:-1] + "g"}),
    json.dumps(GOOD | {"hash": GOOD["hash"] + "\n"}),
    json.dumps(GOOD | {"public_key": " " + GOOD["public_key"][1:]}),
    json.dumps(GOOD | {"signature": ""}),
    json.dumps(GOOD | {"signature": None}),
    json.dumps(GOOD | {"population": ""}),
    json.dumps(GOOD | {"population": "../north"}),
    json.dumps(GOOD | {"population": "north\x1b[2J"}),
]


@pytest.mark.parametrize("text", BAD_HEADS, ids=[str(t)[:40] for t in BAD_HEADS])
def test_what_is_no_head_is_refused(text):
    with pytest.raises(LedgerMismatchError):
        Head.from_text(text)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_no_changed_character_of_a_head_passes(data):
    text = head(7).to_text()
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(max_codepoint=0x2FF).filter(lambda c: c != text[at]))
    with pytest.raises(LedgerError):
        Head.from_text(text[:at] + other + text[at + 1 :]).check()


# What is let pass


def test_later_heads_and_the_same_one_again_are_kept(tmp_path):
    witness = Witness(tmp_path)
    for number, seq in enumerate((0, 2, 2, 9), 1):
        judge(witness, head(seq))
        keep(witness, number, [head(seq)])
    assert witness.latest == {"shop-of-north": head(9)}
    assert saw(tmp_path) == [kept_as(n, head(s)) for n, s in enumerate((0, 2, 2, 9), 1)]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (head(4), "entry 4 came after entry 5"),
        (head(5, "other"), "another entry 5 came after entry 5"),
        (head(0), "entry 0 came after entry 5"),
        (head(9, key="stranger"), "another key or population"),
    ],
)
def test_a_ledger_that_went_back_or_was_made_anew_is_named(tmp_path, bad, said):
    witness = Witness(tmp_path)
    keep(witness, 1, [head(5), head(50, population="south")])
    with pytest.raises(LedgerRolledBackError, match="'shop-of-north'") as refusal:
        judge(witness, bad)
    assert said in str(refusal.value)
    assert refusal.value.code == "ledger.rollback"
    judge(witness, head(6))
    judge(witness, head(50, population="south"))


def test_once_contradicted_a_population_stays_out_also_after_a_restart(tmp_path):
    witness = Witness(tmp_path)
    keep(witness, 1, [head(5)])
    keep(witness, 2, [], refused=[head(9, key="stranger"), head(1, population="unknown")])
    keep(witness, 2, [], refused=[head(5, "other")])
    assert saw(tmp_path) == [kept_as(1, head(5)), kept_as(2, head(5, "other"), refused=True)]
    for again in (witness, Witness(tmp_path)):
        assert again.latest == {"shop-of-north": head(5)}
        for later in (head(5), head(7), head(7, "other")):
            with pytest.raises(LedgerRolledBackError, match="in round 2"):
                judge(again, later)


def test_platforms_may_share_a_ledger_but_not_speak_for_another_s(tmp_path):
    witness = Witness(tmp_path)
    witness.keep(1, {"a": head(5)})
    witness.judge("b", head(3))
    with pytest.raises(LedgerMismatchError, match=r"'north', which 'a' signs for"):
        witness.judge("b", head(9, key="stranger"))
    with pytest.raises(LedgerRolledBackError, match="another key or population"):
        witness.judge("a", head(9, population="south"))


ARRIVALS = st.tuples(
    st.sampled_from("ab"),
    st.builds(
        head,
        st.integers(0, 5),
        st.sampled_from(["", "other"]),
        st.sampled_from(["north", "north", "south"]),
        st.sampled_from(["north", "north", "south"]),
    ),
)


def owner(one: Head) -> tuple[str, str]:
    return one.population, one.public_key


@given(st.lists(st.lists(ARRIVALS, max_size=3), max_size=10))
@settings(max_examples=80, deadline=None)
def test_whatever_arrives_the_rule_holds_and_a_restart_changes_nothing(tmp_path_factory, rounds):
    folder = tmp_path_factory.mktemp("witness")
    witness, held, out = Witness(folder), {}, set()
    for number, arrivals in enumerate(rounds, 1):
        for name, one in arrivals:
            last = held.get(name)
            others = [owner(theirs) for whose, theirs in held.items() if whose != name]
            own = last is None or owner(one) == owner(last)
            theirs = any(one.population == p and one.public_key != k for p, k in others)
            later = last is None or (name not in out and (one.seq > last.seq or one == last))
            try:
                witness.judge(name, one)
            except LedgerError:
                assert theirs or not own or not later
                witness.keep(number, {}, {name: one})
                if own and last is not None:
                    out.add(name)
            else:
                assert own
                assert later
                assert not theirs
                witness.keep(number, {name: one})
                held[name] = one
        assert witness.latest == held
        if number % 3 == 0:
            witness = Witness(folder)
    assert Witness(folder).latest == held
    for name, last in held.items():
        seqs = [kept.head.seq for kept in saw(folder) if kept.platform == name and not kept.refused]
        assert seqs == sorted(seqs)
        assert seqs[-1] == last.seq


# The file


def test_a_round_asked_again_adds_what_is_new_only(tmp_path):
    keep(Witness(tmp_path), 3, [head(4)])
    before = (tmp_path / NAME).read_bytes()
    again = Witness(tmp_path)
    keep(again, 3, [head(4)])
    assert (tmp_path / NAME).read_bytes() == before
    keep(again, 3, [head(4), head(8, population="south")])
    assert (tmp_path / NAME).read_bytes().startswith(before)
    assert saw(tmp_path) == [kept_as(3, head(4)), kept_as(3, head(8, population="south"))]


def test_nothing_to_keep_makes_no_file(tmp_path):
    keep(Witness(tmp_path), 1, [])
    assert list(tmp_path.iterdir()) == []


def test_what_is_kept_is_on_the_disk(tmp_path, monkeypatch):
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(os.fstat(handle).st_ino), real(handle)))
    witness = Witness(tmp_path)
    keep(witness, 1, [head(4)])
    assert {(tmp_path / NAME).stat().st_ino, tmp_path.stat().st_ino} <= set(synced)


@pytest.mark.parametrize("point", ["fsync", "write"])
def test_what_cannot_be_kept_is_said(tmp_path, monkeypatch, point):
    witness = Witness(tmp_path)
    keep(witness, 1, [head(4)])
    with monkeypatch.context() as patch:
        if point == "fsync":
            patch.setattr(
                os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device"))
            )
        else:
            (tmp_path / NAME).rename(tmp_path / "moved")
            (tmp_path / NAME).mkdir()
        with pytest.raises(LedgerUnreadableError, match="the round does not count") as refusal:
            keep(witness, 2, [head(6)])
    assert refusal.value.exit_code == 4
    assert witness.latest == {"shop-of-north": head(4)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("witness")
    witness = Witness(folder)
    for number in (1, 2, 3):
        keep(witness, number, [head(2 * number), head(3 * number, population="south")])
    return (folder / NAME).read_bytes()


def test_cut_anywhere_the_whole_lines_stay_and_the_file_goes_on(tmp_path, whole):
    lines = whole.splitlines(keepends=True)
    for cut in {*range(0, len(whole), 97), *(len(whole) - n for n in range(1, 4))}:
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / NAME).write_bytes(whole[:cut])
        kept = sum(cut >= len(b"".join(lines[: n + 1])) - 1 for n in range(len(lines)))
        assert len(saw(folder)) == kept
        witness = Witness(folder)
        assert (witness.cut > 0) == (cut > len(b"".join(lines[:kept])))
        keep(witness, 4, [head(8)])
        content = (folder / NAME).read_bytes()
        assert content.startswith(b"".join(lines[:kept]))
        assert content.count(b"\n") == kept + 1
        assert saw(folder)[-1] == kept_as(4, head(8))


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_a_changed_head_is_found_and_its_line_named(tmp_path_factory, whole, data):
    path = tmp_path_factory.getbasetemp() / "changed.jsonl"
    lines = whole.splitlines(keepends=True)
    number = data.draw(st.integers(0, len(lines) - 1))
    line = lines[number]
    at = data.draw(st.integers(line.index(b'"head"'), line.index(b'"platform"') - 3))
    flip = data.draw(st.integers(1, 255))
    lines[number] = line[:at] + bytes([line[at] ^ flip]) + line[at + 1 :]
    path.write_bytes(b"".join(lines))
    found = read_witness_file(path)
    assert f"line {number + 1}" in found.faults[0]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[]",
        b"garbage",
        b"\xff",
        b"[" * 100_000,
        b'{"head":{},"platform":"a","refused":false,"round":1,"time":""}',
    ],
)
def test_a_server_does_not_go_on_with_a_line_that_does_not_hold(tmp_path, whole, line):
    (tmp_path / NAME).write_bytes(line + b"\n" + whole)
    with pytest.raises(LedgerTamperedError, match="line 1") as refusal:
        Witness(tmp_path)
    assert refusal.value.exit_code == 3
    assert len(read_witness_file(tmp_path / NAME).kept) == 6


@pytest.mark.parametrize(
    "change", [("round", 0), ("round", True), ("round", 1.5), ("refused", 1), ("head", [])]
)
def test_the_other_fields_have_their_form(tmp_path, whole, change):
    line = json.loads(whole.splitlines()[0]) | dict([change])
    (tmp_path / NAME).write_text(json.dumps(line) + "\n")
    assert len(read_witness_file(tmp_path / NAME).faults) == 1


def test_lines_that_were_moved_are_found(tmp_path, whole):
    lines = whole.splitlines(keepends=True)
    (tmp_path / NAME).write_bytes(b"".join([*lines[2:], *lines[:2]]))
    with pytest.raises(LedgerTamperedError, match="contradict each other"):
        Witness(tmp_path)


def test_lines_that_a_checkpoint_remembers_must_be_there(tmp_path, whole):
    (tmp_path / NAME).write_bytes(whole)
    heads = Witness(tmp_path).latest
    Witness(tmp_path).require(heads, "the checkpoint")
    for left in (whole.splitlines(keepends=True)[:-1], []):
        (tmp_path / NAME).write_bytes(b"".join(left))
        with pytest.raises(LedgerTamperedError, match=r"which the checkpoint holds"):
            Witness(tmp_path).require(heads, "the checkpoint")


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / NAME).mkdir()
    with pytest.raises(LedgerUnreadableError):
        Witness(tmp_path)


KEEP_FOR_EVER = """
import json, sys
from pathlib import Path
from privacy.ledger import Head, Witness
heads = [Head.from_json(h) for h in json.loads(sys.stdin.read())]
witness = Witness(Path(sys.argv[1]))
start = len(witness.latest) and witness.latest["north-shop"].seq + 1
for head in heads[start:]:
    witness.keep(head.seq + 1, {"north-shop": head})
    print(head.seq, flush=True)
"""


def test_killed_at_any_moment_nothing_kept_is_lost(tmp_path):
    heads = json.dumps([head(seq).to_json() for seq in range(3000)])
    said = -1
    for attempt in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", KEEP_FOR_EVER, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        process.stdin.write(heads)
        process.stdin.close()
        said = int(process.stdout.readline())
        time.sleep(0.009 * attempt)
        process.send_signal(signal.SIGKILL)
        said = int([said, *process.stdout.read().split()][-1])
        process.wait()
        seen = [kept.head.seq for kept in saw(tmp_path)]
        assert seen == list(range(len(seen)))
        assert len(seen) in (said + 1, said + 2)


# Against real ledgers


def test_a_ledger_is_compared_with_every_head_that_was_kept(ledger, reserve, tmp_path):
    witness = Witness(tmp_path)
    keep(witness, 1, [ledger.head()])
    path = tmp_path / "shop.ledger"
    for number in (2, 3, 4):
        reserve(ledger, f"r/{number}")
        keep(witness, number, [ledger.head()])
        if number == 2:
            older = path.read_bytes()
    heads = [kept.head for kept in saw(tmp_path)]
    assert ledger.verify(heads).ok
    path.write_bytes(older)
    back = Ledger.open(path, population="shop")
    assert [f.seq for f in back.verify(heads).findings] == [2, 3]
    for number in (5, 6, 7):  # it grows past what was seen
        reserve(back, f"r/{number}")
    assert back.head().seq > heads[-1].seq
    judge(witness, back.head())  # a witness sees heads only, so this one looks like a later one …
    report = back.verify(heads)
    assert [f.seq for f in report.findings] == [2, 3], "… and the comparison still tells"
    assert {f.code for f in report.findings} == {"ledger.rollback"}
