"""Parts of the transfer benchmark against references: audiences, exchange, statistics, targets, keys."""

import itertools
import stat
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmarks import provenance
from benchmarks.provenance import code_of
from benchmarks.transfer.cells import Cell, CellStore
from benchmarks.transfer.methods import Federated, LocalOnly, PopularityMethod, Prior, PriorLocal
from benchmarks.transfer.platforms import Audience, Platforms, with_shoppers
from benchmarks.transfer.quick import quick_recipe, quick_study, write_shops
from benchmarks.transfer.ranks import read_ranks
from benchmarks.transfer.rectools import RecTools, Vectors, write_exchange
from benchmarks.transfer.report import Found, write_report
from benchmarks.transfer.run import NotRun, jobs, run
from benchmarks.transfer.statistics import compare, holm
from benchmarks.transfer.study import HERE, Recipe, Study, load
from benchmarks.transfer.targets import check
from clients.evaluation import evaluate
from shared_model.errors import BadInputError


@pytest.fixture(scope="module")
def platforms(tmp_path_factory) -> Platforms:
    folder = tmp_path_factory.mktemp("shops")
    return Platforms(quick_study(), quick_recipe(), write_shops(folder, quick_study()))


@pytest.fixture
def alpha(platforms):
    return platforms.loaded["alpha"]


def quiet(text: str) -> None:
    """Say nothing."""


@settings(deadline=None)
@given(positions=st.lists(st.integers(0, 159), min_size=1, max_size=20, unique=True))
def test_a_part_of_the_shoppers_keeps_each_shopper_whole(platforms, positions):
    whole = platforms.loaded["alpha"].split
    part = with_shoppers(platforms.loaded["alpha"], np.sort(positions)).split
    for new, old in enumerate(sorted(positions)):
        assert part.sequences.user_ids[new] == whole.sequences.user_ids[old]
        for which in ("train", "valid", "test"):
            for mine, theirs in zip(part.history(which, new), whole.history(which, old), strict=True):
                np.testing.assert_array_equal(mine, theirs)
        assert part.valid_target[new] == whole.valid_target[old]
        assert part.test_target[new] == whole.test_target[old]


def test_few_shots_are_drawn_by_the_seed(alpha):
    few = Audience(alpha, 40)
    assert len(few.own(0)) == 40
    assert few.own(0).split.sequences.user_ids == few.own(0).split.sequences.user_ids
    assert few.own(0).split.sequences.user_ids != few.own(1).split.sequences.user_ids
    assert Audience(alpha, 1000).own(0) is alpha


@pytest.mark.parametrize("shots", [None, 40])
def test_what_serves_does_not_depend_on_any_test_item(platforms, alpha, shots, tmp_path):
    rng = np.random.default_rng(0)
    other = rng.integers(0, len(alpha.catalogue), size=len(alpha))
    blind = replace(alpha, split=replace(alpha.split, test_target=other))
    users = alpha.test_users[:20]
    for method in (Prior(platforms), PriorLocal(platforms), LocalOnly(platforms)):
        one = method.fit(0, tmp_path / "one", quiet)(Audience(alpha, shots))
        two = method.fit(0, tmp_path / "two", quiet)(Audience(blind, shots))
        assert one.notes == two.notes
        assert torch.equal(one.scorer.scores("test", users), two.scorer.scores("test", users))


@pytest.mark.parametrize("kind", [PopularityMethod, PriorLocal, LocalOnly])
def test_few_shots_teach_nothing_of_the_other_shoppers(platforms, alpha, kind, tmp_path):
    few = Audience(alpha, 40)
    taught = set(few.own(0).split.sequences.user_ids)
    names = alpha.split.sequences.user_ids
    someone = next(u for u, name in enumerate(names) if name not in taught)
    rng = np.random.default_rng(0)
    items = alpha.split.sequences.items.copy()
    for user, name in enumerate(names):
        if name not in taught and user != someone:
            span = slice(*alpha.split.sequences.offsets[user : user + 2])
            items[span] = rng.permutation(len(alpha.catalogue))[: span.stop - span.start]
    sequences = replace(alpha.split.sequences, items=items)
    other = replace(alpha, split=replace(alpha.split, sequences=sequences))
    method = kind() if kind is PopularityMethod else kind(platforms)
    scores = [
        method.fit(0, tmp_path / str(number), quiet)(Audience(platform, 40)).scorer
        for number, platform in enumerate((alpha, other))
    ]
    users = np.array([someone])
    assert torch.equal(scores[0].scores("test", users), scores[1].scores("test", users))
    everyone = np.arange(len(alpha))
    if kind is not PopularityMethod:
        assert not torch.equal(scores[0].scores("test", everyone), scores[1].scores("test", everyone))


def test_a_federation_is_trained_once_and_taken_up_again(platforms, tmp_path, monkeypatch):
    method = Federated(platforms, 8.0)
    first, notes = method.train(3, tmp_path, quiet)
    monkeypatch.setattr("benchmarks.transfer.methods.federate", None)  # a second training would fail
    second, again = method.train(3, tmp_path, quiet)
    assert notes == again
    assert all(torch.equal(first[name], second[name]) for name in first)
    with pytest.raises(TypeError):
        method.train(4, tmp_path, quiet)


def test_a_cell_of_another_recipe_counts_as_missing(platforms, tmp_path):
    only = ["prior", "alpha"]
    assert run(platforms, jobs(platforms, only), tmp_path, quiet) == []
    store = CellStore(tmp_path / "cells")
    [job] = jobs(platforms, only)
    assert store.load(*job.cell(job.audiences[0])) is not None
    model = platforms.recipe.model.model_copy(update={"history_length": 4})
    changed = replace(platforms, recipe=platforms.recipe.model_copy(update={"model": model}))
    [job] = jobs(changed, only)
    assert store.load(*job.cell(job.audiences[0])) is None
    renamed = replace(platforms, recipe=platforms.recipe.model_copy(update={"name": "other"}))
    [job] = jobs(renamed, only)
    assert store.load(*job.cell(job.audiences[0])) is not None


def test_a_report_made_from_its_ranks_alone_is_the_same(platforms, tmp_path):
    todo = jobs(platforms, ["popularity", "prior", "alpha"])
    run(platforms, todo, tmp_path, quiet)
    report = write_report(platforms, todo, CellStore(tmp_path / "cells"), tmp_path, [])
    store, wanted = CellStore(tmp_path / "new"), dict(j.cell(a) for j in todo for a in j.audiences)
    stale, *_ = wanted
    assert read_ranks(tmp_path / "ranks.parquet", store, wanted | {stale: "another key"}) == len(wanted) - 1
    assert store.load(stale, wanted[stale]) is None
    assert read_ranks(tmp_path / "ranks.parquet", store, wanted) == 1
    again = write_report(platforms, todo, store, tmp_path / "again", [])
    assert again["results"] == report["results"]
    assert again["comparisons"] == report["comparisons"]
    for where, key in wanted.items():
        one, other = store.load(where, key), CellStore(tmp_path / "cells").load(where, key)
        np.testing.assert_array_equal(one.ranks, other.ranks)
        assert one.notes == other.notes


@pytest.mark.parametrize("content", [b"", b"PAR1 no", None])
def test_ranks_that_cannot_be_read_are_refused(tmp_path, content):
    file = tmp_path / "ranks.parquet"
    if content is None:
        pd.DataFrame({"method": ["prior"]}).to_parquet(file)
    else:
        file.write_bytes(content)
    with pytest.raises(BadInputError, match=r"ranks\.parquet: cannot be read"):
        read_ranks(file, CellStore(tmp_path), {})


def test_the_code_of_a_method_is_what_it_imports_without_comments(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "PROJECT", tmp_path)
    (tmp_path / "shop").mkdir()

    def code(**files: str) -> str:
        for name, text in files.items():
            (tmp_path / "shop" / f"{name}.py").write_text(text, "utf-8")
        code_of.cache_clear()
        return code_of("shop.sells")

    first = code(
        __init__="", sells="def f():\n    from shop import deep\n", deep="import os\nX = 1\n", other="X = 1\n"
    )
    assert code(other="X = 2\n") == first
    assert code(deep='"""Says X."""\nimport os\n\nX = 1  # one\n') == first
    assert code(deep="import os\nX = 2\n") != first
    assert code(deep="import os\nX = 1\n") == first
    assert code(__init__="Y = 1\n") != first
    code_of.cache_clear()


def test_the_code_of_the_methods_holds_training_and_serving_but_no_command():
    needed = {
        str(file.relative_to(provenance.PROJECT))
        for file in provenance._needed("benchmarks.transfer.methods")
    }
    assert needed >= {
        "clients/training.py",
        "clients/recommender.py",
        "privacy/optimizer.py",
        "server/rounds.py",
    }
    assert not needed & {"simulations/cli.py", "fedcart.py", "benchmarks/transfer/report.py"}


FAKE = """
import json, sys, time
from pathlib import Path
import numpy as np, pandas as pd, pyarrow as pa, pyarrow.parquet as pq
exchange = Path(sys.argv[4])
settings = json.loads((exchange / "settings.json").read_text())
with (exchange.parent / "calls").open("a") as file:
    file.write(json.dumps([settings["seed"], settings["epochs"], settings["options"]]) + "\\n")
if settings["options"].get("fail"):
    sys.exit("no such option: fail")
width = len(pq.read_table(exchange / "features.parquet"))
for epoch in settings["epochs"]:
    folder = exchange / f"epoch-{epoch:04}"
    folder.mkdir(exist_ok=True)
    def write(name, key, ids, rows):
        column = pa.FixedSizeListArray.from_arrays(pa.array(rows.astype("float32").ravel()), width)
        pq.write_table(pa.table({key: ids, "vector": column}), folder / name)
    # Scores are the item's number times a sign that decides how good the setting and the epoch are.
    good = settings["options"]["good"] and epoch == 2
    for part in ("valid", "test"):
        events = pd.read_parquet(exchange / f"{part}.parquet")
        users = np.sort(events["user"].unique())
        rows = np.zeros((len(users), width))
        for row, user in enumerate(users):
            mine = events[events["user"] == user]["item"].to_numpy()
            rows[row, (mine + 1) % width] = 1.0 if good else -1.0
        write(f"{part}.parquet", "user", users, rows)
    write("items.parquet", "item", np.arange(width), np.eye(width))
    print(f"snapshot {epoch}", file=sys.stderr, flush=True)
    if epoch == settings["options"].get("until_stopped"):
        for _ in range(1200):
            time.sleep(0.05)
            if (exchange / "stop").exists():
                break
        else:
            sys.exit("nobody said stop")
        break
(exchange / "done.json").write_text(json.dumps({"seconds": 0.0, "versions": {}}))
"""


@pytest.fixture
def fake_rectools(tmp_path, monkeypatch):
    """Stand in for RecTools' interpreter: good users' vectors only for setting `good` after epoch 2."""
    script, shim = tmp_path / "fake.py", tmp_path / "python"
    script.write_text(FAKE, "utf-8")
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} {script} "$@"\n', "utf-8")
    shim.chmod(shim.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("FEDCART_RECTOOLS_PYTHON", str(shim))


def test_rectools_settings_are_chosen_on_validation_by_the_first_seed_only(
    platforms, alpha, tmp_path, fake_rectools
):
    audience = Audience(walking(alpha), None)
    tuning = platforms.study.sasrec.model_copy(update={"grid": [{"good": False}, {"good": True}]})
    method = RecTools(platforms, "sasrec", tuning)
    served = method.fit(0, tmp_path / "work", quiet)(audience)
    assert served.notes["options"] == {"good": True}
    assert served.notes["epoch"] == 2
    ranking = evaluate(audience.platform, served.scorer, "test", audience.platform.test_users)
    assert np.median(ranking.ranks) < 10
    method.fit(1, tmp_path / "work", quiet)(audience)
    method.fit(0, tmp_path / "work", quiet)(audience)
    calls = (tmp_path / "work" / "alpha-all" / "calls").read_text("utf-8").splitlines()
    assert calls == [
        '[0, [1, 2], {"good": false}]',
        '[0, [1, 2], {"good": true}]',
        '[1, [2], {"good": true}]',
    ]


def test_training_ends_when_two_looks_are_no_better_than_one_before(
    platforms, alpha, tmp_path, fake_rectools, monkeypatch
):
    monkeypatch.setattr("benchmarks.transfer.rectools.LEAST_PASSES", 4 * len(alpha))
    # Only epoch 2 is good, and the stand-in does not go on after epoch 4 unless it is told to stop.
    options = {"good": True, "until_stopped": 4}
    tuning = platforms.study.sasrec.model_copy(update={"grid": [options], "epochs": [1, 2, 3, 4, 5]})
    method = RecTools(platforms, "sasrec", tuning)
    served = method.fit(0, tmp_path / "work", quiet)(Audience(walking(alpha), None))
    assert served.notes["epoch"] == 2
    made = sorted(path.name for path in (tmp_path / "work" / "alpha-all" / "seed0-0").glob("epoch-*"))
    assert made == ["epoch-0001", "epoch-0002", "epoch-0003", "epoch-0004"]


def test_a_large_platform_trains_the_first_setting_only(platforms, alpha, tmp_path, fake_rectools):
    settings = {"grid": [{"good": False}, {"good": True}], "tuned_up_to": len(alpha) - 1}
    method = RecTools(platforms, "sasrec", platforms.study.sasrec.model_copy(update=settings))
    assert method.fit(0, tmp_path, quiet)(Audience(walking(alpha), None)).notes["options"] == {"good": False}


def walking(platform):
    """Let every shopper go on from item i to i + 1, which the stand-in's good vectors say."""
    split = platform.split
    items = np.concatenate(
        [np.arange(b - a) + u for u, (a, b) in enumerate(itertools.pairwise(split.sequences.offsets))]
    )
    items %= len(platform.catalogue)
    sequences = replace(split.sequences, items=items)
    walk = replace(
        split, sequences=sequences, valid_target=items[split.train_end], test_target=items[split.valid_end]
    )
    return replace(platform, split=walk)


def test_a_failing_model_is_reported_with_its_last_words_and_others_go_on(platforms, tmp_path, fake_rectools):
    tuning = platforms.study.sasrec.model_copy(update={"grid": [{"fail": True}]})
    study = platforms.study.model_copy(update={"sasrec": tuning})
    changed = replace(platforms, study=study)
    todo = jobs(changed, ["sasrec", "popularity", "alpha"])
    left_out = run(changed, todo[::-1], tmp_path / "out", quiet)
    assert [(job.method, job.failed) for job in left_out] == [("sasrec", True), ("sasrec", True)]
    assert "no such option: fail" in left_out[0].reason
    assert CellStore(tmp_path / "out" / "cells").load(*todo[0].cell(todo[0].audiences[0])) is not None


def test_the_exchange_holds_no_held_out_item(alpha, tmp_path):
    few = Audience(alpha, 40).own(0)
    write_exchange(tmp_path, few, alpha)
    for part, platform in (("train", few), ("valid", few), ("test", alpha)):
        events = pd.read_parquet(tmp_path / f"{part}.parquet")
        for user in range(len(platform)):
            mine = events[events["user"] == user].sort_values("position")["item"].to_numpy()
            np.testing.assert_array_equal(mine, platform.split.history(part, user)[0])
    features = pq.read_table(tmp_path / "features.parquet").column("vector").to_numpy()
    np.testing.assert_array_equal(np.stack(features), alpha.features.numpy())


def test_items_that_a_model_does_not_know_rank_last():
    vectors = Vectors(
        {"test": torch.tensor([[1.0]])},
        torch.tensor([[-5.0], [0.0], [3.0]]),
        torch.tensor([True, False, True]),
    )
    assert vectors.scores("test", np.array([0])).tolist() == [[-5.0, -torch.inf, 3.0]]


values = st.lists(st.sampled_from([0.0, 0.3, 0.5, 1.0]), min_size=2, max_size=60).map(np.array)


@settings(deadline=None, max_examples=25)
@given(values, st.integers(0, 9))
def test_a_comparison_is_wilcoxons_and_turns_around(one, seed):
    two = np.random.default_rng(seed).permutation(one)
    there, back = compare(one, two), compare(two, one)
    assert there.gain.mean == pytest.approx(-back.gain.mean)
    assert there.p == pytest.approx(back.p)
    if (one != two).any():
        assert there.p == pytest.approx(stats.wilcoxon(one - two).pvalue)
    assert there.gain.low - 1e-12 <= there.gain.mean <= there.gain.high + 1e-12


def test_a_comparison_of_different_shoppers_is_refused():
    with pytest.raises(ValueError, match="same shoppers"):
        compare(np.zeros(3), np.zeros(4))


def test_a_clear_gain_is_found_and_noise_is_not():
    rng = np.random.default_rng(0)
    base = rng.random(2000)
    assert compare(base + 0.02 + 0.1 * rng.standard_normal(2000), base).p < 1e-6
    assert compare(base + 0.1 * rng.standard_normal(2000), base).p > 0.01


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_its_definition(ps):
    ordered = sorted(range(len(ps)), key=lambda i: ps[i])
    expected, worst = [0.0] * len(ps), 0.0
    for rank, i in enumerate(ordered):
        worst = max(worst, min(1.0, ps[i] * (len(ps) - rank)))
        expected[i] = worst
    assert holm(ps) == pytest.approx(expected)


def _found(ranks: dict[int, list[float]], *, fixed: bool = False) -> Found:
    return Found(fixed, {seed: Cell(np.array(r), None, 0.0, {}) for seed, r in ranks.items()})


def test_methods_are_compared_by_the_seeds_that_both_have():
    three, one = _found({0: [1.0], 1: [2.0], 2: [3.0]}), _found({1: [5.0]})
    assert three.common(one) == one.common(three) == [1]
    assert [r.tolist() for r in three.ranks([1])] == [[2.0]]
    assert one.common(_found({2: [1.0]})) == []


def test_what_no_seed_changes_is_compared_with_every_seed():
    three, fixed = _found({0: [1.0], 1: [2.0], 2: [3.0]}), _found({0: [7.0]}, fixed=True)
    assert three.common(fixed) == fixed.common(three) == [0, 1, 2]
    assert [r.tolist() for r in fixed.ranks([0, 1, 2])] == [[7.0]]
    assert fixed.common(fixed) == [0]


def _report(gain: float, p: float, kept: float) -> dict:
    pair = {"gain": {"low": gain - 0.001}, "relative": gain, "p_holm": p}
    served = {"method": "federated_private@8+local", "against": "local_only"}
    zero = {"platform": "new", "shots": "zero-shot", "method": "federated_private@8", "against": "prior"}
    return {
        "study": {
            "newcomer": "new",
            "platform": [{"name": "one"}, {"name": "two"}, {"name": "new"}],
            "epsilons": [2.0, 8.0],
            "target": [],
        },
        "results": {},
        "retention": {"one": {"all": {"8": kept, "2": 1.0}}, "two": {"all": {"8": kept}}},
        "comparisons": [
            zero | pair,
            {"platform": "one", "shots": "all"} | served | pair,
            {"platform": "two", "shots": "all"} | served | pair,
        ],
    }


def _met(report: dict, part: str) -> bool | None:
    [entry] = [t for t in check(report) if part in t["what"]]
    return entry["met"]


def test_targets_are_met_missed_or_open():
    good, bad = _report(0.06, 0.001, 0.98), _report(-0.01, 0.001, 0.9)
    for part in ("clearly above the prior", "members' mean gain", "one: ", "all: mean NDCG@10 kept at ε = 8"):
        assert _met(good, part) is True
        assert _met(bad, part) is False
    assert _met(_report(0.06, 0.2, 0.98), "clearly above the prior") is False  # a gain, but not significant
    assert _met(good, "all: mean NDCG@10 kept at ε = 2") is None  # one member's cell is missing
    assert _met(good, "as-is: mean NDCG@10 kept at ε = 8") is None
    assert _met(good, "all: mean federated over centralised") is None
    assert _met(good, "500-shot") is None


def test_the_real_study_and_recipe_are_valid():
    study, recipe = load(Study, HERE / "study.toml"), load(Recipe, HERE / "recipe.toml")
    assert len(study.members) == 5
    assert study.newcomer == "scientific"
    assert {0.0} < set(study.epsilons) | {0.0}
    assert recipe.local.grid
    for target in study.target:
        assert target.platform in study.names


def test_not_run_is_told_apart_from_failed(platforms, tmp_path, monkeypatch):
    monkeypatch.setenv("FEDCART_RECTOOLS_PYTHON", "/nowhere/python")
    [job] = run(platforms, jobs(platforms, ["sasrec", "alpha"])[:1], tmp_path, quiet)
    assert isinstance(job, NotRun)
    assert not job.failed
