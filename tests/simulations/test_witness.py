"""A platform's ledger is replaced by an older copy in the middle of a run: server and auditor both find it."""

import json
from pathlib import Path

import fedcart
from clients.app import app as client_app
from privacy.ledger import Ledger
from privacy.ledger.witness import NAME, read_witness_file
from server.app import app as server_app
from server.events import read_events
from simulations.grid import run_inline, run_server


def kept(run: Path, name: str) -> list[tuple[int, int, bool]]:
    found = read_witness_file(run / NAME)
    assert found.faults == ()
    return [(k.round, k.head.seq, k.refused) for k in found.kept if k.platform == name]


def verified(capfd, *arguments: object) -> tuple[int, list[dict]]:
    capfd.readouterr()
    code = fedcart.run(["audit", "verify", *map(str, arguments), "--format", "json"])
    return code, json.loads(capfd.readouterr().out)["ledgers"]


def test_a_run_keeps_a_head_of_each_member_and_round(write_scenario, simulate, tmp_path, capfd):
    code, _, err = simulate("--scenario", write_scenario(), "--out", tmp_path / "runs")
    assert code == 0, err
    (run,) = (tmp_path / "runs").iterdir()
    for name in ("alpha", "beta"):
        assert kept(run, name) == [(1, 2, False), (2, 4, False), (3, 6, False)]
    code, ledgers = verified(capfd, run)
    assert (code, [ledger["witness"] for ledger in ledgers]) == (0, [[2, 4, 6]] * 2)
    assert not (run / "baselines" / "federated" / NAME).exists(), "without privacy there is no ledger"


def test_an_older_copy_put_back_between_two_rounds_is_found(write_scenario, simulate, tmp_path, capfd):
    simulate("--scenario", write_scenario(rounds="4"), "--out", tmp_path / "runs", "--prepare")
    (run,) = (tmp_path / "runs").iterdir()
    ledger, outbox = run / "ledgers" / "alpha.sqlite", run / "work" / "alpha" / "outbox"
    copies, inline = [], run_inline(client_app)

    def execute(calls):
        copies.append((ledger.read_bytes(), set(outbox.glob("*.update"))))
        if len(copies) == 3:  # before the third round: as it was before the second, and the outbox with it
            ledger.write_bytes(copies[1][0])
            for update in copies[2][1] - copies[1][1]:
                update.unlink()
        return inline(calls)

    run_server(server_app, execute, 2, {"run-dir": str(run)})
    failed = [e for e in read_events(run) if e["event"] == "client-failed"]
    assert [(e["round"], e["platform"]) for e in failed] == [(3, "alpha"), (4, "alpha")]
    assert failed[0]["reason"].startswith("ledger.rollback: the ledger of 'alpha' went back: another entry 4")
    assert kept(run, "alpha") == [(1, 2, False), (2, 4, False), (3, 4, True), (4, 6, True)]
    rounds = [e["platforms"] for e in read_events(run) if e["event"] == "round"]
    assert rounds == [["alpha", "beta"], ["alpha", "beta"], ["beta"], ["beta"]]

    assert Ledger.open(ledger, population="alpha").verify().ok, "by itself the older copy is whole"
    code, (alpha, beta) = verified(capfd, run)
    assert (code, alpha["status"], beta["status"]) == (3, "tampered", "whole")
    assert [(f["code"], f["seq"]) for f in alpha["findings"]] == [("ledger.rollback", 4)]
    code, (alpha,) = verified(capfd, ledger, "--witness", run)
    assert (code, alpha["findings"][0]["seq"]) == (3, 4)
    assert verified(capfd, run / "ledgers" / "beta.sqlite", "--witness", run)[0] == 0
