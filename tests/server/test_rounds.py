"""The round loop: who fails is left out, nothing good is lost, a resumed run goes on where it stopped."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from privacy.errors import LedgerTamperedError, LedgerUnreadableError
from privacy.ledger import Witness
from privacy.ledger.witness import NAME as WITNESS
from privacy.ledger.witness import Kept, read_witness_file
from server.checkpoint import NAME, Checkpoint, load_checkpoint, save_checkpoint
from server.rounds import START, noise_variance, run_rounds
from shared_model.errors import CheckpointError, ExchangeError, RunFailedError
from shared_model.exchange import fingerprint
from shared_model.stages import published, read_published
from shared_model.table import ProductTable


class Watch(list):
    """Remembers what was observed."""

    def __call__(self, event, values):
        self.append((event, dict(values)))

    def of(self, event):
        return [values for name, values in self if name == event]


def asks(settings):
    """The requests of a run's rounds."""
    ask = settings.instructions
    return [ask.model_copy(update={"round": number}) for number in range(1, ask.rounds + 1)]


def sums(kit, grid, ask, nodes=(1, 2, 3, 4), start=0.0):
    """The float32 sum of what nodes answer in a round, in the order of their names, added to `start`."""
    total = np.float32(start)
    for node in nodes:
        (part,) = kit.update(ask, grid.sent[ask.round - 1], node).values()
        total = total + part
    return total


def test_every_round_asks_everyone_and_is_checkpointed(kit, tmp_path):
    watch, grid = Watch(), kit.grid(4, kit.honest)
    outcome = run_rounds(grid, kit.settings(), tmp_path, watch)
    assert [[c["round"] for c in asked] for asked in grid.asked] == [[1] * 4, [2] * 4]
    loaded = load_checkpoint(tmp_path)
    assert (loaded.run_id, loaded.round) == ("run-1", 2)
    assert fingerprint(loaded.arrays) == fingerprint(outcome.arrays)
    rounds = watch.of("round")
    assert [r["platforms"] for r in rounds] == [list(kit.names)] * 2
    assert [r["epsilon"] for r in rounds] == [dict.fromkeys(kit.names, 1.5)] * 2
    assert rounds[-1]["model"] == fingerprint(outcome.arrays)
    for name, one in zip(("popularity", "edges"), rounds, strict=True):
        assert one["update_norm"] == pytest.approx(np.linalg.norm(outcome.arrays[name]), rel=1e-5)


def test_the_table_is_the_float_sum_of_the_replies_and_variances_add_up(kit, tmp_path):
    grid, settings = kit.grid(4, kit.honest), kit.settings()
    arrays = run_rounds(grid, settings, tmp_path, Watch()).arrays
    popularity, edges = asks(settings)
    np.testing.assert_array_equal(arrays["popularity"], sums(kit, grid, popularity))
    np.testing.assert_array_equal(arrays["edges"], sums(kit, grid, edges))
    variances = [4 * noise_variance(ask) for ask in (popularity, edges)]
    np.testing.assert_allclose(arrays["totals"], [*variances, 1], rtol=1e-6)
    assert variances[0] == pytest.approx(3 * variances[1]), "a quarter of the budget against three quarters"


def test_the_edges_round_sends_the_temper_and_the_first_one_fixes_it(kit, tmp_path):
    grid, settings = kit.grid(4, kit.honest), kit.settings()
    arrays = run_rounds(grid, settings, tmp_path, Watch()).arrays
    assert [list(sent) for sent in grid.sent] == [[], ["temper"]]
    popular = ProductTable.empty(6, 4).plus(
        ProductTable(arrays["popularity"], np.zeros(4), np.zeros(6), float(arrays["totals"][0]), 0.0, 1)
    )
    np.testing.assert_array_equal(grid.sent[1]["temper"], popular.fixed_temper().temper)
    np.testing.assert_array_equal(arrays["temper"], grid.sent[1]["temper"])
    assert (arrays["temper"] >= 1).all()
    for number, asked in enumerate(grid.asked, 1):
        for config in asked:
            assert config == settings.instructions.model_dump() | {"round": number}


def test_a_second_run_adds_to_the_table_in_its_folder_and_keeps_its_temper(kit, tmp_path):
    first, second = tmp_path / "1", tmp_path / "2"
    first.mkdir(), second.mkdir()
    before = run_rounds(kit.grid(4, kit.honest), kit.settings(), first, Watch()).arrays
    save_file(before, second / START)
    grid, settings = kit.grid(4, kit.honest), kit.settings(instructions={"run_id": "run-2"})
    after = run_rounds(grid, settings, second, Watch()).arrays
    for ask, name in zip(asks(settings), ("popularity", "edges"), strict=True):
        np.testing.assert_array_equal(after[name], sums(kit, grid, ask, start=before[name]))
    np.testing.assert_array_equal(after["temper"], before["temper"])
    np.testing.assert_array_equal(grid.sent[1]["temper"], before["temper"])
    np.testing.assert_allclose(after["totals"], 2 * before["totals"], rtol=1e-6)


@pytest.mark.parametrize("harm", ["junk", "another vocabulary"])
def test_a_table_to_add_to_that_does_not_fit_is_refused_before_anyone_is_asked(kit, tmp_path, harm):
    if harm == "junk":
        (tmp_path / START).write_bytes(b"junk")
    else:
        save_file(published(ProductTable.empty(7, 4)), tmp_path / START)
    grid = kit.grid(4, kit.honest)
    with pytest.raises((CheckpointError, ExchangeError), match=r"start\.safetensors"):
        run_rounds(grid, kit.settings(), tmp_path, Watch())
    assert grid.asked == []


def test_popularity_alone_has_one_round_and_no_pair_counts(kit, tmp_path):
    grid, settings = kit.grid(4, kit.honest), kit.settings(instructions=kit.alone)
    arrays = run_rounds(grid, settings, tmp_path, Watch()).arrays
    assert len(grid.asked) == 1
    np.testing.assert_array_equal(arrays["popularity"], sums(kit, grid, settings.instructions))
    table = read_published(arrays, "here")
    assert (table.edges_variance, table.runs, table.edges.any(), table.temper.any()) == (0.0, 1, False, False)
    assert not table.counts(np.array([[0, 1], [1, 2], [2, 3], [3, 4]])).pairs.any()


@pytest.mark.parametrize("kind", ["error", "nan", "silent", "wrong round"])
def test_a_failing_client_is_left_out_and_reported(kit, tmp_path, kind):
    def answer(message, node):
        config = message.content.config_records["config"]
        good = kit.honest(message, node)
        if node != 2 or config["round"] != 2:
            return good
        if kind == "error":
            return kit.failing(message, "food:budget.refused")
        if kind == "silent":
            return None
        if kind == "wrong round":
            good.content["receipt"]["round"] = 1
            return good
        arrays = {n: a.numpy().copy() for n, a in good.content["arrays"].items()}
        arrays["edges"][0] = np.nan
        return kit.reply(message, "food", arrays)

    watch = Watch()
    run_rounds(kit.grid(4, answer), kit.settings(), tmp_path, watch)
    others = ["beauty", "games", "toys"]
    assert [r["platforms"] for r in watch.of("round")] == [list(kit.names), others]
    if kind == "silent":
        assert watch.of("no-reply") == [{"round": 2, "platforms": ["node 2"], "timeout_s": 600.0}]
    else:
        (failure,) = watch.of("client-failed")
        assert (failure["round"], failure["platform"]) == (2, "food")
        said = {"error": "budget.refused", "nan": "NaN", "wrong round": "replied for round 1"}
        assert said[kind] in failure["reason"]


def test_the_sum_is_over_those_who_answered(kit, tmp_path):
    def only_two(message, node):
        return kit.honest(message, node) if node in (1, 4) else kit.failing(message, "x:internal")

    settings, grid = kit.settings(instructions=kit.alone), kit.grid(4, only_two)
    got = run_rounds(grid, settings, tmp_path, Watch()).arrays
    np.testing.assert_array_equal(got["popularity"], sums(kit, grid, settings.instructions, (1, 4)))
    assert got["totals"][0] == pytest.approx(2 * noise_variance(settings.instructions), rel=1e-6)


def test_a_sum_that_is_longer_than_a_declared_size_allows_is_left_out(kit, tmp_path):
    def answer(message, node):
        good = kit.honest(message, node)
        if node != 2:
            return good
        arrays = {n: np.full_like(a.numpy(), 1e6) for n, a in good.content["arrays"].items()}
        return kit.reply(message, "food", arrays)

    watch = Watch()
    run_rounds(kit.grid(4, answer), kit.settings(), tmp_path, watch)
    assert [(f["platform"], f["code"]) for f in watch.of("client-failed")] == [("food", "exchange.reach")] * 2


@pytest.mark.parametrize(("good", "needed"), [(0, 1), (2, 3)])
def test_too_few_good_replies_end_the_run_and_the_checkpoint_stays(kit, tmp_path, good, needed):
    broken = True

    def answer(message, node):
        bad = broken and message.content.config_records["config"]["round"] == 2 and node > good
        return kit.failing(message, f"{kit.names[node - 1]}:data") if bad else kit.honest(message, node)

    settings = kit.settings(min_replies=needed)
    with pytest.raises(RunFailedError) as failure:
        run_rounds(kit.grid(4, answer), settings, tmp_path, Watch())
    assert f"Round 2 of run run-1 has {good} good replies, {needed} are needed" in str(failure.value)
    assert "toys: data" in str(failure.value)
    assert load_checkpoint(tmp_path).round == 1
    before = (tmp_path / NAME).read_bytes()
    with pytest.raises(RunFailedError):
        run_rounds(kit.grid(4, answer), settings, tmp_path, Watch())
    assert (tmp_path / NAME).read_bytes() == before

    broken = False  # the cause is mended
    watch, grid = Watch(), kit.grid(4, answer)
    resumed = run_rounds(grid, settings, tmp_path, watch)
    assert [asked[0]["round"] for asked in grid.asked] == [2]
    assert watch[0] == ("resumed", {"after_round": 1, "rounds": 2})
    (tmp_path / "whole").mkdir()
    whole = run_rounds(kit.grid(4, kit.honest), settings, tmp_path / "whole", Watch())
    assert fingerprint(resumed.arrays) == fingerprint(whole.arrays)


def test_nobody_answering_is_a_failure_that_says_so(kit, tmp_path):
    with pytest.raises(RunFailedError, match="no client answered"):
        run_rounds(kit.grid(4, lambda *_: None), kit.settings(), tmp_path, Watch())


def test_the_order_of_replies_plays_no_part(kit, tmp_path):
    results = set()
    settings = kit.settings(kit.five, min_replies=5)
    for number, order in enumerate((list, lambda r: r[::-1], lambda r: [r[2], r[0], r[4], r[3], r[1]])):
        folder = tmp_path / str(number)
        folder.mkdir()
        outcome = run_rounds(kit.grid(5, kit.honest, order), settings, folder, Watch())
        results.add(fingerprint(outcome.arrays))
    assert len(results) == 1


def test_a_finished_run_asks_nobody_again(kit, tmp_path):
    first = run_rounds(kit.grid(4, kit.honest), kit.settings(), tmp_path, Watch())
    grid = kit.grid(4, kit.honest)
    again = run_rounds(grid, kit.settings(), tmp_path, Watch())
    assert grid.asked == []
    assert fingerprint(again.arrays) == fingerprint(first.arrays)


def test_another_run_s_checkpoint_is_refused(kit, tmp_path):
    run_rounds(kit.grid(4, kit.honest), kit.settings(), tmp_path, Watch())
    other = kit.settings(instructions={"run_id": "run-2"})
    with pytest.raises(CheckpointError, match="of run 'run-1', not 'run-2'"):
        run_rounds(kit.grid(4, kit.honest), other, tmp_path, Watch())


def test_a_checkpoint_that_does_not_fit_the_model_is_refused_before_anyone_is_asked(kit, tmp_path):
    save_checkpoint(tmp_path, Checkpoint("run-1", 1, {"edges": np.zeros(1, np.float32)}))
    grid = kit.grid(4, kit.honest)
    with pytest.raises(ExchangeError, match="missing"):
        run_rounds(grid, kit.settings(), tmp_path, Watch())
    assert grid.asked == []


# The heads of the platforms' ledgers


def kept(folder):
    found = read_witness_file(folder / WITNESS)
    assert (found.faults, found.cut) == ((), 0)
    return list(found.kept)


def rounds_of(kit, *numbers):
    return [Kept(name, n, kit.head(name, 2 * n)) for n in numbers for name in kit.names]


def test_every_head_is_kept_in_the_witness_and_the_last_in_the_checkpoint(kit, tmp_path, monkeypatch):
    order = []
    keep = Witness.keep

    def spy(self, number, *heads):
        keep(self, number, *heads)
        order.append((number, load_checkpoint(tmp_path).round))

    monkeypatch.setattr(Witness, "keep", spy)
    run_rounds(kit.grid(4, kit.honest), kit.settings(), tmp_path, Watch())
    assert kept(tmp_path) == rounds_of(kit, 1, 2)
    assert load_checkpoint(tmp_path).heads == {name: kit.head(name, 4) for name in kit.names}
    assert order == [(1, 0), (2, 1)], "kept before the round counts"


def test_a_run_without_privacy_keeps_none(kit, tmp_path):
    def plain(message, node):
        reply = kit.honest(message, node)
        del reply.content["receipt"]["head"]
        return reply

    run_rounds(kit.grid(4, plain), kit.settings(instructions={"epsilon": 0.0}), tmp_path, Watch())
    assert not (tmp_path / WITNESS).exists()
    assert load_checkpoint(tmp_path).heads == {}


ROLLBACKS = {
    "older": ({"seq": 1}, "went back: entry 1 came after entry 2"),
    "forked": ({"seq": 2, "history": "other"}, "another entry 2 came after entry 2"),
    "made anew": ({"seq": 4, "key": "new"}, "has another key"),
}


@pytest.mark.parametrize("kind", ROLLBACKS)
def test_a_platform_whose_ledger_went_back_is_left_out_from_then_on(kit, tmp_path, kind):
    """Round 2 is asked again without it: what its own key signed is not forgotten, what another signed is."""
    changes, said = ROLLBACKS[kind]
    attempts = []

    def answer(message, node):
        reply, number = kit.honest(message, node), message.content.config_records["config"]["round"]
        attempts.append((number, node))
        if attempts.count((2, 2)) == 1 and (number, node) == (2, 2):
            kit.resign(reply, changes.get("key", "food"), head=kit.head("food", **changes).to_text())
        return reply

    watch, owner_signed = Watch(), kind != "made anew"
    settings, grid = kit.settings(min_replies=4, attempts=2), kit.grid(4, answer)
    if owner_signed:
        with pytest.raises(RunFailedError, match="3 good replies, 4 are needed"):
            run_rounds(grid, settings, tmp_path, watch)
    else:
        run_rounds(grid, settings, tmp_path, watch)
    failures = watch.of("client-failed")
    assert {f["platform"] for f in failures} == {"food"}
    assert failures[0]["reason"].startswith("ledger.rollback: the ledger of 'food'")
    assert said in failures[0]["reason"]
    assert [f["round"] for f in failures] == ([2, 2] if owner_signed else [2])
    refused = [k.head for k in kept(tmp_path) if k.refused]
    assert (kit.head("food", **changes) in refused) == owner_signed
    assert load_checkpoint(tmp_path).heads["food"] == kit.head("food", 2 if owner_signed else 4)


def test_a_resumed_run_still_knows_what_it_saw(kit, tmp_path):
    """Round 2 fails for want of replies; after the restart a ledger that went back is known all the same."""
    stage = "broken"

    def answer(message, node):
        reply, number = kit.honest(message, node), message.content.config_records["config"]["round"]
        if stage == "broken" and number == 2 and node > 1:
            return kit.failing(message, f"{kit.names[node - 1]}:data")
        if stage == "back" and node == 1:
            kit.resign(reply, "beauty", head=kit.head("beauty", 2 * number - 2).to_text())
        return reply

    settings = kit.settings(min_replies=3)
    with pytest.raises(RunFailedError):
        run_rounds(kit.grid(4, answer), settings, tmp_path, Watch())
    assert kept(tmp_path)[4:] == [Kept("beauty", 2, kit.head("beauty", 4))], (
        "what was seen is kept, failed or not"
    )
    assert load_checkpoint(tmp_path).heads["beauty"] == kit.head("beauty", 2)
    stage, watch = "back", Watch()
    run_rounds(kit.grid(4, answer), settings, tmp_path, watch)
    assert [(f["round"], f["platform"]) for f in watch.of("client-failed")] == [(2, "beauty")]


def test_asked_again_after_a_kill_the_same_heads_or_later_ones_are_welcome(kit, tmp_path, monkeypatch):
    import server.rounds as module

    class KilledError(BaseException):
        """Stands for kill -9 between the witness and the checkpoint."""

    def dying(folder, checkpoint):
        if checkpoint.round == 2:
            raise KilledError
        save_checkpoint(folder, checkpoint)

    with monkeypatch.context() as patch:
        patch.setattr(module, "save_checkpoint", dying)
        with pytest.raises(KilledError):
            run_rounds(kit.grid(4, kit.honest), kit.settings(), tmp_path, Watch())
    assert kept(tmp_path) == rounds_of(kit, 1, 2)

    def again(message, node):
        reply, number = kit.honest(message, node), message.content.config_records["config"]["round"]
        if number == 2 and node == 3:  # another run has used this ledger in the meantime
            kit.resign(reply, "games", head=kit.head("games", 5).to_text())
        return reply

    watch = Watch()
    run_rounds(kit.grid(4, again), kit.settings(), tmp_path, watch)
    assert watch.of("client-failed") == []
    assert kept(tmp_path) == [*rounds_of(kit, 1, 2), Kept("games", 2, kit.head("games", 5))]


def test_a_torn_last_line_is_mended_and_the_rest_is_whole(kit, tmp_path):
    run_rounds(kit.grid(4, kit.honest), kit.settings(), tmp_path, Watch())
    whole, after = (tmp_path / WITNESS).read_bytes(), load_checkpoint(tmp_path)
    heads = {name: kit.head(name, 2) for name in kit.names}
    save_checkpoint(tmp_path, Checkpoint("run-1", 1, after.arrays, heads))
    (tmp_path / WITNESS).write_bytes(whole[:-40])  # killed while round 2 was written down
    watch = Watch()
    run_rounds(kit.grid(4, kit.honest), kit.settings(), tmp_path, watch)
    (mended,) = watch.of("witness-mended")
    assert mended["bytes"] > 100
    assert kept(tmp_path) == rounds_of(kit, 1, 2)


@pytest.mark.parametrize("damage", ["gone", "emptied", "cut at a line", "edited"])
def test_a_run_does_not_go_on_without_its_whole_witness(kit, tmp_path, damage):
    run_rounds(kit.grid(4, kit.honest), kit.settings(), tmp_path, Watch())
    path = tmp_path / WITNESS
    whole = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "emptied":
        path.write_bytes(b"")
    elif damage == "cut at a line":
        path.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    else:
        path.write_bytes(whole.replace(b'"seq":2', b'"seq":1', 1))
    grid = kit.grid(4, kit.honest)
    with pytest.raises(LedgerTamperedError, match=r"witness\.jsonl"):
        run_rounds(grid, kit.settings(), tmp_path, Watch())
    assert grid.asked == []


def test_a_round_whose_heads_cannot_be_kept_does_not_count(kit, tmp_path, monkeypatch):
    def full(*_):
        raise LedgerUnreadableError("witness cannot be written: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Witness, "keep", full)
        with pytest.raises(LedgerUnreadableError):
            run_rounds(kit.grid(4, kit.honest), kit.settings(), tmp_path, Watch())
    assert load_checkpoint(tmp_path).round == 0


# Who is there, and rounds that are asked again


NODES = dict(enumerate(("beauty", "food", "games", "toys"), 1))


@pytest.fixture
def _quick(monkeypatch):
    """Look again at once whether a member has come."""
    import server.presence as module

    monkeypatch.setattr(module, "_POLL", 0.0)


def test_a_round_with_too_few_good_replies_is_asked_again_and_not_added(kit, tmp_path):
    attempts = []

    def answer(message, node):
        number = message.content.config_records["config"]["round"]
        attempts.append((number, node))
        if number == 2 and node > 1 and attempts.count((2, node)) == 1:
            return kit.failing(message, f"{kit.names[node - 1]}:data")
        return kit.honest(message, node)

    watch, grid = Watch(), kit.grid(4, answer)
    outcome = run_rounds(grid, kit.settings(min_replies=3, attempts=2), tmp_path, watch)
    assert [asked[0]["round"] for asked in grid.asked] == [1, 2, 2]
    assert grid.asked[1] == grid.asked[2], "the same request: it is answered from the outbox"
    assert fingerprint(grid.sent[1]) == fingerprint(grid.sent[2]), "nothing was added in between"
    assert watch.of("repeated") == [{"round": 2, "good": 1, "needed": 3, "attempt": 2, "attempts": 2}]
    (tmp_path / "clean").mkdir()
    clean = run_rounds(kit.grid(4, kit.honest), kit.settings(), tmp_path / "clean", Watch())
    assert fingerprint(outcome.arrays) == fingerprint(clean.arrays)


def test_a_round_is_asked_again_only_so_often(kit, tmp_path):
    grid = kit.grid(4, lambda m, n: kit.failing(m, f"{kit.names[n - 1]}:policy.bundle"))
    with pytest.raises(RunFailedError, match=r"0 good replies, 2 are needed.*toys: policy\.bundle"):
        run_rounds(grid, kit.settings(min_replies=2, attempts=3), tmp_path, Watch())
    assert len(grid.asked) == 3


@pytest.mark.usefixtures("_quick")
def test_members_are_waited_for_and_then_asked(kit, tmp_path):
    grid = kit.grid(4, kit.honest, registered=lambda looked: NODES if looked > 3 else {1: "beauty"})
    watch = Watch()
    run_rounds(grid, kit.settings(member_wait=60.0, min_replies=4), tmp_path, watch)
    assert watch.of("waiting") == [{"round": 1, "platforms": ["food", "games", "toys"], "limit_s": 60.0}]
    assert watch.of("absent") == []
    assert [len(asked) for asked in grid.asked] == [4, 4]


@pytest.mark.usefixtures("_quick")
def test_who_does_not_come_is_named_and_waited_for_once(kit, tmp_path):
    grid = kit.grid(4, kit.honest, registered=lambda _: {1: "beauty", 4: "toys"})
    watch = Watch()
    run_rounds(grid, kit.settings(member_wait=0.05, min_replies=2), tmp_path, watch)
    assert watch.of("absent") == [{"round": 1, "platforms": ["food", "games"]}]
    assert [r["platforms"] for r in watch.of("round")] == [["beauty", "toys"]] * 2


@pytest.mark.usefixtures("_quick")
def test_too_few_members_online_end_the_run_after_the_wait(kit, tmp_path):
    grid = kit.grid(4, kit.honest, registered=lambda _: {2: "food"})
    with pytest.raises(RunFailedError, match="1 members are online"):
        run_rounds(grid, kit.settings(member_wait=0.05, min_replies=2, attempts=2), tmp_path, Watch())
    assert grid.asked == [], "nobody is charged for a round that cannot count"


def test_a_node_that_is_no_member_of_the_run_is_not_asked(kit, tmp_path):
    grid = kit.grid(4, kit.honest, registered=lambda _: NODES | {9: "latecomer"})
    run_rounds(grid, kit.settings(), tmp_path, Watch())
    assert [len(asked) for asked in grid.asked] == [4, 4]


def test_stragglers_and_dead_nodes_are_named_as_registered(kit, tmp_path):
    def answer(message, node):
        if node == 2:
            return None
        if node == 3:
            return kit.failing(message, "Error: Node Unavailable - it went away.")
        if node == 4:  # speaks for another
            return kit.honest(message, 2)
        return kit.honest(message, node)

    watch = Watch()
    settings = kit.settings(instructions=kit.alone)
    run_rounds(kit.grid(4, answer, registered=lambda _: NODES), settings, tmp_path, watch)
    assert watch.of("no-reply") == [{"round": 1, "platforms": ["food"], "timeout_s": 600.0}]
    failed = {f["platform"]: f["reason"] for f in watch.of("client-failed")}
    assert failed["games"] == "Error: Node Unavailable - it went away."
    assert "speaks for 'food', but its node is registered as 'toys'" in failed["toys"]
    assert watch.of("round")[0]["platforms"] == ["beauty"]
