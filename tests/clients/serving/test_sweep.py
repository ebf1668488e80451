"""The quick pass: never further from the precise scores than it says, and lists are those of the precise ones."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

from clients.memory import Memory
from clients.recommender import LocalLayer, Memories
from clients.serving import candidates
from clients.serving.candidates import Question, best_items
from clients.serving.history import History
from clients.serving.scoring import Scoring
from clients.serving.sweep import half_copy, slack, sweep
from shared_model.model import ModelSpec, block_norms

ITEMS = 300


def scoring_of(seed: int, *, half: bool, sharpness: float = 3.0, crowd: float = 1.0) -> Scoring:
    """Return items of two encoders around one centre (`crowd` says how far from it), some equal, some empty."""
    generator = torch.Generator().manual_seed(seed)
    spec = ModelSpec((24, 8), prior_weights=(1.0, 0.5))
    rows = torch.randn(32, generator=generator) + crowd * torch.randn(ITEMS, 32, generator=generator)
    rows[ITEMS // 2] = rows[3]
    blocks = [torch.nn.functional.normalize(block, dim=-1) for block in rows.split((24, 8), -1)]
    features = torch.cat(blocks, -1)
    features[5] = 0.0
    popularity = torch.randint(0, 50, (ITEMS,), generator=generator).double().numpy()
    norms = block_norms(spec, features)
    copy = features.bfloat16() if half else None
    apart = torch.rand(ITEMS, generator=generator)
    memories = Memories(Memory(popularity, sparse.csr_matrix((ITEMS, ITEMS))), None)
    local = LocalLayer(0.3, sharpness=sharpness, isolation=0.75)
    return Scoring.of(spec, features, norms, apart, local, memories, copy)


def history_of(scoring: Scoring, rows: list[int]) -> History:
    at = np.array(rows, dtype=np.int64)
    ages = np.arange(len(rows), 0, -1, dtype=np.float32)
    return History(at, ("",) * len(rows), scoring.features[torch.from_numpy(at)], ages, frozenset(rows))


histories = st.lists(st.lists(st.integers(0, ITEMS - 1) | st.just(5), max_size=6), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 50),
    half=st.booleans(),
    sharpness=st.sampled_from([0.15, 3.0, 22.0]),
    rows=histories,
)
def test_a_quick_score_is_off_by_no_more_than_it_says(seed, half, sharpness, rows):
    scoring = scoring_of(seed, half=half, sharpness=sharpness)
    asked = [scoring.asked(history_of(scoring, one)) for one in rows]
    at = slice(10, ITEMS)
    off = (sweep(scoring, asked, at) - scoring.block(asked, at)).abs().amax(1)
    rounding = candidates.ROUNDING * scoring.most_bias
    for row, (one, most) in enumerate(zip(asked, off, strict=True)):
        assert float(most) <= slack(scoring, one) + rounding, f"history {row}"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 50),
    half=st.booleans(),
    crowd=st.sampled_from([1.0, 0.1, 0.01, 0.0]),
    sharpness=st.sampled_from([3.0, 22.0, 1e4]),
    chunk=st.sampled_from([7, 64, 1000]),
    count=st.sampled_from([1, 10, ITEMS]),
    rows=histories,
    data=st.data(),
)
def test_lists_are_those_of_the_precise_scores(
    monkeypatch, seed, half, crowd, sharpness, chunk, count, rows, data
):
    """However alike the items are (`crowd` 0: all but two equal), with boosts and filters, whatever the chunk."""
    monkeypatch.setattr("clients.serving.candidates.CHUNK", chunk)
    monkeypatch.setattr("clients.serving.candidates.GATHERED", -1)
    scoring = scoring_of(seed, half=half, crowd=crowd, sharpness=sharpness)
    if not data.draw(st.booleans()):
        scoring = replace(scoring, bias=torch.zeros(ITEMS))
    rng = np.random.default_rng(seed)
    allowed = data.draw(st.none() | st.just(rng.random(ITEMS) < 0.5))
    extra = data.draw(st.none() | st.just((3 * rng.integers(2, size=ITEMS)).astype(np.float32)))
    questions = [Question(history_of(scoring, one), count, allowed, extra) for one in rows]
    everything = np.arange(ITEMS)
    for question, best in zip(questions, best_items(scoring, questions), strict=True):
        scores = scoring.scores(scoring.asked(question.history), everything)
        scores = scores + (0 if extra is None else extra)
        good = everything if allowed is None else np.flatnonzero(allowed)
        expected = np.sort(scores[good])[::-1][:count]
        assert len(np.unique(best.rows)) == len(best.rows) == len(expected)
        assert np.isin(best.rows, good).all()
        np.testing.assert_allclose(best.scores, scores[best.rows], atol=2e-5)
        np.testing.assert_allclose(best.scores, expected, atol=2e-5)
        ties = np.diff(best.scores) == 0
        assert (np.diff(best.rows)[ties] > 0).all()


def test_a_sharpness_beyond_the_range_of_float32_is_not_swept():
    scoring = replace(scoring_of(0, half=True, sharpness=40.0), reach=100.0)
    assert slack(scoring, scoring.asked(history_of(scoring, [1, 2]))) == float("inf")


def test_a_copy_is_made_of_float32_where_the_processor_multiplies_it(monkeypatch):
    table = torch.randn(4, 3)
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_bf16": True})
    copy = half_copy(table)
    assert copy is not None
    assert copy.dtype == torch.bfloat16
    assert half_copy(table.bfloat16()) is None
    monkeypatch.setattr("torch.cpu.get_capabilities", dict)
    assert half_copy(table) is None


@pytest.mark.parametrize("half", [False, True])
def test_only_what_may_be_in_the_list_is_scored_twice(half, monkeypatch):
    """The quick pass would be no gain if it could leave nothing out."""
    scoring = scoring_of(1, half=half)
    scored = []
    precise = Scoring.scores
    monkeypatch.setattr(
        Scoring, "scores", lambda self, h, rows: scored.append(len(rows)) or precise(self, h, rows)
    )
    best_items(scoring, [Question(history_of(scoring, [1, 2, 3]), 5)])
    assert 5 <= sum(scored) < ITEMS // 4
