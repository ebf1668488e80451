"""Parts of the transfer benchmark against references: audiences, statistics, keys."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmarks import provenance
from benchmarks.provenance import code_of
from benchmarks.transfer.cells import Cell, CellStore
from benchmarks.transfer.methods import OwnLayer, PopularityMethod, Prior
from benchmarks.transfer.platforms import Audience, with_shoppers
from benchmarks.transfer.ranks import read_ranks
from benchmarks.transfer.report import Found, write_report
from benchmarks.transfer.run import jobs, run
from benchmarks.transfer.statistics import compare, holm
from benchmarks.transfer.study import HERE, load
from shared_model.errors import BadInputError


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
    for method in (Prior(platforms), OwnLayer(platforms)):
        one = method.fit(0, tmp_path / "one", quiet)(Audience(alpha, shots))
        two = method.fit(0, tmp_path / "two", quiet)(Audience(blind, shots))
        assert one.notes == two.notes
        assert torch.equal(one.scorer.scores("test", users), two.scorer.scores("test", users))


@pytest.mark.parametrize("kind", [PopularityMethod, OwnLayer])
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


def test_a_cell_of_other_features_counts_as_missing(platforms, tmp_path):
    only = ["prior", "alpha"]
    assert run(platforms, jobs(platforms, only), tmp_path, quiet) == []
    store = CellStore(tmp_path / "cells")
    [job] = jobs(platforms, only)
    assert store.load(*job.cell(job.audiences[0])) is not None
    features = platforms.study.features.model_copy(update={"history_length": 4})
    changed = replace(platforms, study=platforms.study.model_copy(update={"features": features}))
    [job] = jobs(changed, only)
    assert store.load(*job.cell(job.audiences[0])) is None
    renamed = replace(platforms, study=platforms.study.model_copy(update={"name": "other"}))
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


def test_the_code_of_the_methods_holds_choice_and_serving_but_no_command():
    needed = {
        str(file.relative_to(provenance.PROJECT))
        for file in provenance._needed("benchmarks.transfer.methods")
    }
    assert needed >= {"clients/evaluation.py", "clients/recommender.py", "clients/transitions.py"}
    assert not needed & {"simulations/cli.py", "fedcart.py", "benchmarks/transfer/report.py"}


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


def test_the_real_study_is_valid():
    study = load(HERE / "study.toml")
    assert len(study.members) == 5
    assert study.newcomer == "scientific"


def test_the_committed_ranks_of_rectools_models_are_those_of_the_studys_settings(tmp_path):
    """Hours of training are taken up from them: `--ranks docs/benchmarks/transfer/ranks.parquet`."""
    study = load(HERE / "study.toml")
    rows = pd.read_parquet(provenance.PROJECT / "docs/benchmarks/transfer/ranks.parquet")
    for name, tuning in (("sasrec", study.sasrec), ("unisrec", study.unisrec)):
        notes = rows[rows["method"] == name]["notes"].map(json.loads)
        assert len(notes)
        assert all(note["options"] in tuning.grid for note in notes)
