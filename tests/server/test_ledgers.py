"""Ledgers across runs: what does not continue what was seen is refused in every later run, whatever was killed."""

import json
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from federation.errors import EnrolmentError, WrongPartyError
from federation.keys import make_node_key, make_signing_key
from federation.request import Declaration, RequestKeys, make_request, read_request
from federation.validity import moment, now
from privacy.errors import LedgerRolledBackError
from privacy.ledger import Witness
from privacy.ledger.witness import NAME, read_witness_file
from server.members import Members
from server.refusals import refusals
from server.rounds import run_rounds
from shared_model.errors import FedcartError

TIME = now()


class Platform:
    """A platform with the key that is made of its name, unless its ledger is said to have another."""

    def __init__(self, kit, folder, name):
        self.kit, self.folder, self.name, self.kind = kit, folder, name, 0
        self.renew()

    def renew(self):
        self.kind += 1
        self.identity = make_signing_key(self.folder / f"{self.name}{self.kind}.identity")
        self.node = make_node_key(self.folder / f"{self.name}{self.kind}.node")

    def request(self, head, *, key=None, replaces=None, time=TIME):
        declared = Declaration("groceries", self.name, "", 100, head, "1", "1")
        keys = RequestKeys(self.identity, self.node, self.kit.key(key or self.name))
        data = make_request(declared, keys, time, replaces)
        return read_request(data, "request", "groceries", time)


@pytest.fixture
def fed(kit, tmp_path):
    """Return a federation: its registry with four members, and what runs."""
    members = Members.create(tmp_path / "members.sqlite")
    platforms = {name: Platform(kit, tmp_path, name) for name in kit.names}
    for platform in platforms.values():
        members.admit(platform.request(kit.head(platform.name, 0)), TIME)

    def run(name, answer, *, rounds=1, **values):
        folder, events = tmp_path / "runs" / name, []
        folder.mkdir(parents=True, exist_ok=True)
        asked = {"run_id": name} | (kit.alone if rounds == 1 else {})
        settings = kit.settings(instructions=asked, members=Path("../../members.sqlite"), **values)

        def observe(event, said):
            events.append({"event": event, **said})

        run_rounds(kit.grid(4, answer), settings, folder, observe)
        return events

    def again(name, head, *, key=None, reason=None):
        """Rotate the keys of a member, with a ledger at `head`."""
        platform = platforms[name]
        old = platform.identity
        platform.renew()
        asked = platform.request(head, key=key, replaces=old)
        try:
            members.admit(asked, TIME + timedelta(days=1), reason)
        except EnrolmentError:
            platform.identity = old
            raise

    return SimpleNamespace(members=members, platforms=platforms, run=run, again=again, runs=tmp_path / "runs")


def at(kit, seq, **odd):
    """Return an answer whose ledgers are at entry `seq`; `odd` says for a platform what head it sends, and whose key
    signs its receipt."""

    def answer(message, node):
        name = kit.five[node - 1]
        head, key = odd.get(name, (kit.head(name, seq), name))
        arrays = {n: a.numpy() for n, a in kit.honest(message, node).content["arrays"].items()}
        return kit.reply(message, name, arrays, receipt={"head": head.to_text()}, key=key)

    return answer


def left_out(events):
    return {one["platform"]: one["code"] for one in refusals(events)}


def counted(events):
    return [e["platforms"] for e in events if e["event"] == "round"]


def test_a_ledger_that_goes_on_counts_in_every_run(kit, fed):
    for number, seq in enumerate((2, 4, 4, 9), 1):
        assert left_out(fed.run(f"run-{number}", at(kit, seq))) == {}
    assert {name: one.last for name, one in fed.members.ledgers().items()} == {
        name: kit.head(name, 9) for name in kit.names
    }


@pytest.mark.parametrize("seq", [0, 2, 5])
def test_an_older_copy_put_back_between_two_runs_is_refused(kit, fed, seq):
    fed.run("run-1", at(kit, 6))
    back = kit.head("toys", seq, history="" if seq < 5 else "restored")
    events = fed.run("run-2", at(kit, 8, toys=(back, "toys")))
    assert left_out(events) == {"toys": "ledger.rollback"}
    assert counted(events) == [["beauty", "food", "games"]]
    (why,) = [e["reason"] for e in events if e["event"] == "client-failed"]
    assert f"entry {seq} came after entry 6" in why
    assert "--new-ledger REASON" in why


def test_once_it_went_back_it_stays_out_also_when_it_has_grown(kit, fed):
    """Whoever puts an older copy back and lets it grow past the last head is known by what it sent before."""
    fed.run("run-1", at(kit, 6))
    fed.run("run-2", at(kit, 8, toys=(kit.head("toys", 4, history="restored"), "toys")))
    for number, seq in ((3, 10), (4, 12)):
        grown = kit.head("toys", seq, history="restored")
        assert left_out(fed.run(f"run-{number}", at(kit, seq, toys=(grown, "toys")))) == {
            "toys": "ledger.rollback"
        }
    assert fed.members.ledgers()["toys"].went_back is not None
    assert fed.members.ledgers()["food"].went_back is None


def test_the_very_head_of_an_older_copy_is_proof_too(kit, fed):
    fed.run("run-1", at(kit, 4))
    fed.run("run-2", at(kit, 6))
    fed.run("run-3", at(kit, 8, toys=(kit.head("toys", 4), "toys")))
    assert left_out(fed.run("run-4", at(kit, 20))) == {"toys": "ledger.rollback"}


def test_another_entry_of_the_same_number_is_refused(kit, fed):
    fed.run("run-1", at(kit, 6))
    other = kit.head("toys", 6, history="other")
    assert left_out(fed.run("run-2", at(kit, 6, toys=(other, "toys")))) == {"toys": "ledger.rollback"}


def test_another_key_than_the_enrolled_one_is_refused_from_the_first_round(kit, fed):
    stranger = kit.head("toys", 2, key="stranger")
    events = fed.run("run-1", at(kit, 2, toys=(stranger, "stranger")))
    assert left_out(events) == {"toys": "ledger.rollback"}
    assert left_out(fed.run("run-2", at(kit, 4))) == {}, "nothing shows that the stranger's word was its own"


def test_another_population_than_the_enrolled_one_is_refused(kit, fed):
    other = kit.head("elsewhere", 2, key="toys")
    assert left_out(fed.run("run-1", at(kit, 2, toys=(other, "toys")))) == {"toys": "ledger.rollback"}


def test_before_the_first_run_the_request_s_head_counts(kit, fed):
    fed.again("toys", kit.head("toys", 7))
    assert left_out(fed.run("run-1", at(kit, 2))) == {"toys": "ledger.rollback"}


# Killed in between


class KilledError(BaseException):
    pass


@pytest.mark.parametrize("step", ["before", "between", "after"])
def test_killed_around_the_witness_nothing_can_be_put_back(kit, fed, monkeypatch, step):
    real = Witness.keep

    def keep(self, *heads):
        if step == "after":
            real(self, *heads)
        raise KilledError

    with monkeypatch.context() as patch:
        if step == "before":
            patch.setattr(Members, "see_head", keep)
        else:
            patch.setattr(Witness, "keep", keep)
        with pytest.raises(KilledError):
            fed.run("run-1", at(kit, 6))
    back = (kit.head("toys", 4, history="restored"), "toys")
    if step == "before":
        assert left_out(fed.run("run-2", at(kit, 6, toys=back))) == {}, "nothing was seen yet"
        return
    assert left_out(fed.run("run-2", at(kit, 6, toys=back))) == {"toys": "ledger.rollback"}
    assert left_out(fed.run("run-1", at(kit, 6))) == {"toys": "ledger.rollback"}, "also in the resumed run"


def test_a_run_that_was_killed_between_goes_on_with_the_same_heads(kit, fed, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Witness, "keep", lambda *_: (_ for _ in ()).throw(KilledError))
        with pytest.raises(KilledError):
            fed.run("run-1", at(kit, 6))
    assert left_out(fed.run("run-1", at(kit, 6))) == {}
    assert len(read_witness_file(fed.runs / "run-1" / NAME).kept) == 4


SEE_FOR_EVER = """
import json, sys
from pathlib import Path
from federation.validity import now
from privacy.ledger import Head
from server.members import Members
members = Members.open(Path(sys.argv[1]))
for document in json.loads(sys.stdin.read()):
    head = Head.from_json(document)
    members.see_head("toys", head, members.ledgers(), now())
    print(head.seq, flush=True)
"""


def test_killed_at_any_moment_no_head_that_counted_is_lost(kit, fed, tmp_path):
    for attempt in range(3):
        start = fed.members.ledgers()["toys"].last.seq + 1
        heads = json.dumps([kit.head("toys", seq).to_json() for seq in range(start, start + 500)])
        process = subprocess.Popen(
            [sys.executable, "-c", SEE_FOR_EVER, str(tmp_path / "members.sqlite")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        process.stdin.write(heads)
        process.stdin.close()
        said = process.stdout.readline()
        time.sleep(0.013 * attempt)
        process.send_signal(signal.SIGKILL)
        last = int([said, *process.stdout.read().split()][-1])
        process.wait()
        kept = Members.open(tmp_path / "members.sqlite").ledgers()["toys"]
        assert kept.last.seq in (last, last + 1)
        assert kept.went_back is None


def test_a_registry_that_cannot_be_read_stops_the_run(kit, fed, tmp_path):
    (tmp_path / "members.sqlite").unlink()
    with pytest.raises(FedcartError, match="registry of members is missing") as refusal:
        fed.run("run-1", at(kit, 2))
    assert refusal.value.exit_code == 4


# Two runs at once


def test_replies_to_two_runs_at_once_may_cross(kit, fed):
    """The reply of a slow run is older than what a quick one brought meanwhile, and no older than when it was asked."""
    asked = fed.members.ledgers()
    fed.run("run-1", at(kit, 6))
    fed.members.see_head("toys", kit.head("toys", 4), asked, TIME)
    assert fed.members.ledgers()["toys"].last == kit.head("toys", 6)
    with pytest.raises(LedgerRolledBackError, match="another entry 4"):
        fed.members.see_head("toys", kit.head("toys", 4, history="fork"), asked, TIME)
    with pytest.raises(LedgerRolledBackError, match="it is left out since then"):
        fed.members.see_head("toys", kit.head("toys", 8), fed.members.ledgers(), TIME)


# The operator's act


def test_a_new_ledger_counts_only_after_the_operator_said_so(kit, fed):
    fed.run("run-1", at(kit, 6))
    new = kit.head("toys", 1, key="second")
    with pytest.raises(WrongPartyError, match=r"another key or population .*--new-ledger REASON"):
        fed.again("toys", new, key="second")
    before = fed.members.get("toys")
    assert before.since == moment(TIME), "nothing was changed"
    platform = fed.platforms["toys"]
    fed.members.revoke("toys", "its disk was lost", TIME)
    platform.renew()
    with pytest.raises(WrongPartyError, match="another key or population"):
        fed.members.admit(platform.request(new, key="second"), TIME)
    fed.members.admit(platform.request(new, key="second"), TIME + timedelta(days=2), "its disk was lost")
    ledger = fed.members.ledgers()["toys"]
    assert (ledger.last, ledger.begun) == (new, (moment(TIME + timedelta(days=2)),))
    grown = (kit.head("toys", 3, key="second"), "second")
    assert left_out(fed.run("run-2", at(kit, 8, toys=grown))) == {}
    assert left_out(fed.run("run-3", at(kit, 10))) == {"toys": "ledger.rollback"}, "the old one is out"


def test_a_restored_ledger_is_accepted_by_the_operator_s_word_only(kit, fed):
    """The same key: the platform restored a backup, and says so."""
    fed.run("run-1", at(kit, 6))
    fed.run("run-2", at(kit, 8, toys=(kit.head("toys", 4, history="restored"), "toys")))
    back = kit.head("toys", 5, history="restored")
    with pytest.raises(WrongPartyError, match="went back to entry 4 on "):
        fed.again("toys", back)
    fed.again("toys", back, reason="restored from the backup of Monday")
    assert fed.members.ledgers()["toys"].went_back is None
    grown = kit.head("toys", 7, history="restored")
    assert left_out(fed.run("run-3", at(kit, 10, toys=(grown, "toys")))) == {}


@pytest.mark.parametrize("reason", ["moved to another machine", " "])
def test_the_word_is_not_taken_where_nothing_is_new(kit, fed, reason):
    said = "leave --new-ledger out" if reason.strip() else "wants the reason"
    with pytest.raises(EnrolmentError, match=said):
        fed.again("toys", kit.head("toys", 4), reason=reason)
    newcomer = Platform(kit, fed.runs.parent, "wine")
    with pytest.raises(EnrolmentError, match=said):
        fed.members.admit(newcomer.request(kit.head("wine", 0)), TIME, reason)
    assert "wine" not in fed.members.ledgers()
    assert fed.members.ledgers()["toys"].begun == ()


def test_a_run_that_began_with_the_old_ledger_ends_without_the_new_one(kit, fed):
    fed.run("run-0", at(kit, 4)), fed.run("run-1", at(kit, 4))
    fed.again("toys", kit.head("toys", 1, key="second"), key="second", reason="disk lost")
    new, old = (kit.head("toys", 3, key="second"), "second"), (kit.head("toys", 9), "toys")
    assert left_out(fed.run("run-0", at(kit, 9, toys=old), rounds=2)) == {"toys": "ledger.rollback"}
    assert left_out(fed.run("run-1", at(kit, 11, toys=new), rounds=2)) == {"toys": "ledger.rollback"}
    assert fed.members.ledgers()["toys"].went_back is None, "it is left out of that run, and of no other"
    assert left_out(fed.run("run-2", at(kit, 11, toys=new))) == {}


# Second folders


def test_a_second_folder_with_a_new_ledger_of_the_population_is_refused(kit, fed):
    second = Platform(kit, fed.runs.parent, "toys-uk")
    with pytest.raises(WrongPartyError, match=r"population 'toys', which 'toys' signs for with another key"):
        fed.members.admit(second.request(kit.head("toys", 0, key="fresh"), key="fresh"), TIME)
    fed.members.revoke("toys", "left", TIME)
    with pytest.raises(WrongPartyError, match="with another key"):
        fed.members.admit(second.request(kit.head("toys", 0, key="fresh"), key="fresh"), TIME)


def test_a_second_folder_on_an_older_copy_of_the_ledger_is_found(kit, fed):
    fed.run("run-1", at(kit, 6))
    second = Platform(kit, fed.runs.parent, "toys-uk")
    with pytest.raises(WrongPartyError, match="another entry 6"):
        fed.members.admit(second.request(kit.head("toys", 6, history="copy"), key="toys"), TIME)
    fed.members.admit(second.request(kit.head("toys", 4, history="copy"), key="toys"), TIME)
    with pytest.raises(LedgerRolledBackError, match="entry 5 came after entry 6"):
        fed.members.see_head("toys-uk", kit.head("toys", 5, history="copy"), fed.members.ledgers(), TIME)
    assert left_out(fed.run("run-2", at(kit, 8))) == {"toys": "ledger.rollback"}, "its budget is one"


def test_a_request_may_wait_while_runs_go_on(kit, fed):
    """A request shows the ledger as it was when it was made."""
    fed.run("run-1", at(kit, 6))
    fed.again("toys", kit.head("toys", 4))
    assert fed.members.ledgers()["toys"].last == kit.head("toys", 6)
    back = (kit.head("toys", 5), "toys")
    assert left_out(fed.run("run-2", at(kit, 8, toys=back))) == {"toys": "ledger.rollback"}
