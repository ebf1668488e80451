"""What a run's folder shows: only finished and whole runs are published, and what is unknown counts against them."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from privacy.accounting import epsilon
from privacy.errors import LedgerTamperedError
from privacy.ledger import Head, Witness
from privacy.ledger.witness import NAME as WITNESS
from privacy.release import ReleasePlan
from server import enrol
from server.checkpoint import Checkpoint, save_checkpoint
from server.errors import FederationError
from server.events import EventLog
from server.registry.run import read_run
from server.settings import FederationSettings
from shared_model.errors import BadInputError, CheckpointError
from shared_model.exchange import fingerprint
from shared_model.instructions import TrainInstructions
from shared_model.stages import published

SECURE = "chacha20-os-entropy"
ROUNDS, DELTA = 2, 1e-6
PLAN = ReleasePlan.calibrated(epsilon=8.0, delta=DELTA, shares=(0.25, 0.75))
COST = PLAN.cost()


@pytest.fixture
def write(tmp_path, fed, run_of, helpers):
    """Return what writes a run's folder as the server does; arguments change what the server saw."""

    def write_run(
        epsilon=8.0,
        made=ROUNDS,
        present=None,
        said=None,
        noise=SECURE,
        witnessed=True,
        run_id="run-1",
        receipts=lambda receipt: receipt,
        members=None,
    ):
        folder = tmp_path / "run"
        folder.mkdir()
        run = run_of(1)
        settings = FederationSettings(
            sizes={"books": 20, "toys": 30},
            members=members,
            history_length=run.terms.history_length,
            encoder_identities=run.terms.encoder_identities,
            earlier=("run-0",),
            instructions=TrainInstructions(
                run_id=run_id,
                round=1,
                rounds=ROUNDS,
                epsilon=epsilon,
                delta=DELTA,
                share=0.25,
                encoders=run.terms.encoders,
                vocabulary=run.vocabulary,
                products=run.table.popularity.size,
                edges=run.table.edges.size,
                seed=0,
            ),
        )
        settings.save(folder)
        log, witness = EventLog(folder), Witness(folder)
        log.write("started", run=run_id, versions={"fedcart": "0.1.0", "torch": "2.13.0"})
        for number in range(1, made + 1):
            names = (present or {}).get(number, ["books", "toys"])
            if epsilon and witnessed:
                witness.keep(number, {n: Head.from_json(helpers.head(n, 2 * number)) for n in names})
            last = COST if number == ROUNDS else COST * number / ROUNDS
            spent = dict.fromkeys(names, last if said is None else said) if epsilon else {}
            given = {
                name: receipts(
                    helpers.receipt(
                        name, 2 * number, committed=value, run=run_id, round=number, noise=noise or ""
                    )
                )
                for name, value in spent.items()
            }
            log.write(
                "round",
                round=number,
                rounds=ROUNDS,
                platforms=names,
                epsilon=spent,
                noise=dict.fromkeys(names, noise),
                receipts=given,
                model="x",
            )
        save_checkpoint(folder, Checkpoint(run_id, made, published(run.table), witness.latest))
        if made == ROUNDS:
            save_file(published(run.table), folder / "model.safetensors")
        return folder

    return write_run


def test_a_private_run_is_what_its_records_say(write, fed, run_of):
    run = read_run(write())
    assert run.taints == []
    assert run.terms == enrol.card_of(fed).model
    assert fingerprint(published(run.table)) == fingerprint(published(run_of(1).table))
    assert (run.facts.id, run.facts.origin, run.facts.rounds) == ("run-1", "federation", 2)
    assert (run.vocabulary, run.runs, run.shoppers) == (run_of(1).vocabulary, ["run-0", "run-1"], 50)
    assert run.noise == {"popularity": 1.5**0.5, "edges": 0.5**0.5}
    assert run.standing_out == (run.table.edges > 3 * 0.5**0.5).mean() > 0
    assert run.facts.versions == {"fedcart": "0.1.0", "torch": "2.13.0"}
    assert [m.platform for m in run.members] == ["books", "toys"]
    for member in run.members:
        assert member.epsilon_run == pytest.approx(COST, rel=1e-9)
        assert member.epsilon_ledger == COST
        assert (member.rounds, member.noise, member.head["seq"]) == (2, SECURE, 4)
    assert run.evaluation is None


def test_a_member_that_missed_rounds_cost_less(write):
    run = read_run(write(present={2: ["books"]}))
    books, toys = run.members
    assert (books.rounds, toys.rounds) == (2, 1)
    assert run.shoppers == 50
    assert 0 < toys.epsilon_run < books.epsilon_run
    assert toys.epsilon_run == pytest.approx(epsilon([PLAN.event_of(0)], DELTA))
    assert toys.head["seq"] == 2


def test_a_member_that_never_answered_is_none(write):
    run = read_run(write(present={n: ["books"] for n in (1, 2)}))
    assert [m.platform for m in run.members] == ["books"]
    assert run.shoppers == 20


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"epsilon": 0.0}, "it was trained without differential privacy"),
        (
            {"noise": "chacha20-reproducible"},
            "books, toys did not come from a secure generator, but is: chacha20-re",
        ),
        ({"noise": None}, "but is: unknown"),
        ({"noise": "x" * 150}, f"but is: {'x' * 39}…"),
        ({"noise": f"{SECURE}\u200b\x1b[2J"}, "but is: chacha20-os-entropy�[2J"),
        ({"said": COST * 0.99}, "the last receipt of books, toys says less ε than its rounds cost"),
        ({"witnessed": False}, "no signed head of books, toys"),
    ],
)
def test_what_speaks_against_a_claim_is_a_taint(write, change, said):
    run = read_run(write(**change))
    assert len(run.taints) == 1, run.taints
    assert said in run.taints[0]


def test_one_round_with_other_noise_is_enough(write, helpers):
    other = helpers.receipt("toys", 2, committed=COST / ROUNDS, round=1, noise="chacha20-reproducible")
    run = read_run(write(receipts=lambda r: other if (r["platform"], r["round"]) == ("toys", 1) else r))
    assert [m.noise for m in run.members] == [SECURE, "chacha20-reproducible"]
    assert len(run.taints) == 1
    assert "the noise of toys did not come" in run.taints[0]


@pytest.mark.parametrize(
    "harm",
    [
        lambda r: r | {"committed": 1e6},
        lambda r: r | {"signature": "0" * 128},
        lambda r: r | {"committed": float("nan")},
        lambda r: {name: value for name, value in r.items() if name != "signature"},
        lambda r: None,
        lambda r: r | {"round": r["round"] - 1},
    ],
)
def test_a_receipt_that_is_not_signed_is_none(write, harm):
    """Whoever changes the run's log can take a receipt away, and never make one."""
    run = read_run(write(receipts=lambda r: harm(r) if r["platform"] == "toys" else r))
    books, toys = run.members
    assert (books.epsilon_ledger, toys.epsilon_ledger) == (COST, None)
    assert (toys.receipt, toys.noise) == (None, "")
    assert any("last round of toys has no receipt that is signed" in taint for taint in run.taints)


@pytest.mark.parametrize("changes", [{"round": 1}, {"run": "run-0"}, {"platform": "books"}])
def test_a_signed_receipt_of_something_else_is_none(write, helpers, changes):
    other = helpers.receipt("toys", 4, committed=1e6, **changes)
    run = read_run(write(receipts=lambda r: other if (r["platform"], r["round"]) == ("toys", 2) else r))
    assert run.members[1].epsilon_ledger is None
    assert any("toys has no receipt" in taint for taint in run.taints)


def test_a_receipt_with_another_head_than_the_witness_has_is_none(write, helpers):
    other = helpers.receipt("toys", 9, committed=COST)
    run = read_run(write(receipts=lambda r: other if (r["platform"], r["round"]) == ("toys", 2) else r))
    assert run.members[1].receipt is None


def test_a_round_without_a_record_is_a_taint(write):
    folder = write()
    lines = (folder / "events.jsonl").read_text().splitlines()
    (folder / "events.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    run = read_run(folder)
    assert "the record of round 2 is missing" in run.taints[0]
    assert run.members[0].rounds == 2, "the witness knows of it"


def test_a_ledger_that_went_back_taints_the_run(write, helpers):
    folder = write()
    Witness(folder).keep(2, {}, {"toys": Head.from_json(helpers.head("toys", 3))})
    assert "the ledger of toys went back" in read_run(folder).taints[0]


@pytest.mark.parametrize("harm", ["changed", "cut", "missing"])
def test_a_witness_that_was_changed_is_no_witness(write, harm):
    folder = write()
    file = folder / WITNESS
    lines = file.read_bytes().splitlines(keepends=True)
    if harm == "missing":
        file.unlink()
    else:
        file.write_bytes(
            b"".join(lines[:-1])
            if harm == "cut"
            else lines[0].replace(b"books", b"cooks", 1) + b"".join(lines[1:])
        )
    before = file.read_bytes() if file.exists() else None
    with pytest.raises(LedgerTamperedError, match="restore"):
        read_run(folder)
    assert (file.read_bytes() if file.exists() else None) == before, "reading a run changes nothing in it"


def test_a_run_that_is_not_finished_is_not_published(write, tmp_path):
    folder = write(made=1)
    with pytest.raises(FederationError, match="made 1 of 2 rounds"):
        read_run(folder)
    (folder / "checkpoint.safetensors").unlink()
    with pytest.raises(FederationError, match="made 0 of 2 rounds"):
        read_run(folder)
    with pytest.raises(BadInputError, match="cannot be read"):
        read_run(tmp_path)


def test_another_model_than_the_checkpoint_s_is_refused(write):
    folder = write()
    model = load_file(folder / "model.safetensors")
    save_file({n: a + np.float32(1e-3) for n, a in model.items()}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="is not the model of the run's last checkpoint"):
        read_run(folder)
    (folder / "model.safetensors").write_bytes(b"junk")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_run(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FederationError, match="no final model"):
        read_run(folder)


def test_a_checkpoint_of_another_run_is_refused(write):
    folder = write()
    settings = json.loads((folder / "federation.json").read_text())
    settings["instructions"]["run_id"] = "run-2"
    (folder / "federation.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match="of run 'run-1', not 'run-2'"):
        read_run(folder)


def test_a_simulation_without_its_card_is_refused(write):
    folder = write()
    (folder / "scenario.json").write_text("{}")
    with pytest.raises(FederationError, match="what taints the simulation is unknown"):
        read_run(folder)
    card = {"taints": ["a filter over all shoppers ran"], "model_fingerprint": "ab" * 32}
    (folder / "model_card.json").write_text(json.dumps(card))
    with pytest.raises(FederationError, match="not of this model"):
        read_run(folder)
    card["model_fingerprint"] = fingerprint(load_file(folder / "model.safetensors"))
    (folder / "model_card.json").write_text(json.dumps(card))
    run = read_run(folder)
    assert (run.facts.origin, run.taints) == ("simulation", ["a filter over all shoppers ran"])


def test_an_evaluation_is_shown_only_when_asked_for_and_taints(write):
    folder = write()
    with pytest.raises(FederationError, match="holds no evaluation"):
        read_run(folder, with_evaluation=True)
    methods = {
        "prior": {"ndcg@10": 0.1},
        "federated_private": {"ndcg@10": 0.25, "intervals": {"ndcg@10": [0, 1]}},
    }
    platform = {"role": "member", "shoppers": 4711, "test_shoppers": 4711, "methods": methods}
    (folder / "result.json").write_text(json.dumps({"platforms": {"books": platform}}))
    assert read_run(folder).evaluation is None
    run = read_run(folder, with_evaluation=True)
    assert [r.model_dump() for r in run.evaluation] == [
        {"platform": "books", "role": "member", "metrics": {"ndcg@10": 0.25}}
    ]
    assert "4711" not in str(run)
    assert run.taints == ["its card shows results on shoppers that were measured without noise"]
