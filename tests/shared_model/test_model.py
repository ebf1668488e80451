"""The text prior against a plain float64 rendering of its formula."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_model.encoders import EncoderIdentity
from shared_model.errors import EncoderError
from shared_model.model import (
    ModelSpec,
    TextWeights,
    block_norms,
    event_vectors,
    pooled,
    queries,
    recency,
    scores,
)

PRIOR = TextWeights()


def model_scores(weights, spec, history, ages, items):
    vectors = event_vectors(spec, history, block_norms(spec, history))
    similar = scores(spec, vectors, items, block_norms(spec, items))
    return pooled(weights, similar, recency(weights, ages))


def prior(history, ages, items):
    """Return the prior's scores of one encoder in numpy: cosines pooled with sharpness 3, times 12."""
    out = []
    for item in items:
        pool = total = 0.0
        for x, age in zip(history, ages, strict=True):
            if np.isfinite(age):
                share = np.exp(-0.5 * age)
                pool += share * np.exp(3 * float(x @ item) / (np.linalg.norm(x) * np.linalg.norm(item)))
                total += share
        out.append(12 / 3 * np.log(pool / total) if total else 0.0)
    return np.array(out)


@given(
    ages=st.lists(st.one_of(st.integers(1, 40).map(float), st.just(np.inf)), min_size=6, max_size=6),
    seed=st.integers(0, 2**20),
)
@settings(max_examples=50, deadline=None)
def test_it_is_pooled_cosines(ages, seed):
    spec = ModelSpec((16,), 6)
    generator = torch.Generator().manual_seed(seed)
    items = torch.nn.functional.normalize(torch.randn(30, 16, generator=generator), dim=-1)
    history = items[torch.randint(0, 30, (6,), generator=generator)]
    got = model_scores(PRIOR, spec, history, torch.tensor([ages]), items)[0].numpy()
    expected = prior(history.double().numpy(), ages, items.double().numpy())
    np.testing.assert_allclose(got, expected, atol=2e-5)
    clear = np.abs(expected[:, None] - expected[None]) > 1e-4
    assert (
        np.sign(got[:, None] - got[None])[clear] == np.sign(expected[:, None] - expected[None])[clear]
    ).all()


def test_it_is_what_the_formula_says(draws, reference):
    spec, items = draws.spec, draws.items(12)
    weights = replace(draws.weights, isolation=0.0)  # what items gain is added by whoever knows the catalogue
    history = items[[0, 3, 5, 11, 3, 7]]
    ages = torch.tensor(
        [[3.0, 3.0, 2.0, 2.0, 1.0, 1.0], [9.0, torch.inf, 4.0, 1.0, torch.inf, torch.inf], [torch.inf] * 6],
        dtype=torch.float64,
    )
    got = model_scores(weights, spec, history, ages, items)
    for moment, age in enumerate(ages):
        events = [(x, a) for x, a in zip(history, age, strict=True) if torch.isfinite(a)]
        expected = [reference.score(weights, events, (x, 0.0)) for x in items]
        torch.testing.assert_close(got[moment], torch.stack(expected), atol=1e-10, rtol=1e-10)


def test_encoder_weights_are_those_of_explicitly_fused_items(draws):
    """Fusing the items by hand and scoring them as one encoder's gives the same scores."""
    spec, items = draws.spec, draws.items(12)
    weights = (0.3, 2.0)[: len(spec.encoder_dimensions)]
    weighted = replace(spec, prior_weights=weights)
    fused = items * torch.tensor(weights).double().repeat_interleave(torch.tensor(spec.encoder_dimensions))
    fused = torch.where(fused.norm(dim=-1, keepdim=True) > 0, fused / fused.norm(dim=-1, keepdim=True), 0.0)
    alone = ModelSpec((spec.feature_width,), spec.history_length)
    ages = torch.tensor([[3.0, 2.0, 2.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(
        model_scores(PRIOR, weighted, items[[0, 2, 4, 11]], ages, items),
        model_scores(PRIOR, alone, fused[[0, 2, 4, 11]], ages, fused),
        atol=1e-6,
        rtol=1e-6,
    )
    identities = [
        EncoderIdentity("e", "1", "00", d, w) for d, w in zip(spec.encoder_dimensions, weights, strict=True)
    ]
    assert ModelSpec.of(identities, spec.history_length) == weighted
    with pytest.raises(EncoderError, match="one for each"):
        replace(spec, prior_weights=(1.0, 1.0, 1.0))


def test_padding_changes_nothing_whatever_it_holds(draws):
    spec, weights, items = draws.spec, draws.weights, draws.items(8)
    ages = torch.tensor([[2.0, 1.0]], dtype=torch.float64)
    padded = torch.cat([torch.full((1, 3), torch.inf, dtype=torch.float64), ages], 1)
    short = model_scores(weights, spec, items[[1, 2]], ages, items)
    for filler in (torch.zeros(3, spec.feature_width).double(), 1e6 * draws.normal(3, spec.feature_width)):
        long = model_scores(weights, spec, torch.cat([filler, items[[1, 2]]]), padded, items)
        torch.testing.assert_close(long, short, atol=1e-12, rtol=1e-12)


def test_without_a_usable_event_the_query_is_zero(draws):
    spec, weights, items = draws.spec, draws.weights, draws.items(8)
    nothing = torch.full((1, 2), torch.inf, dtype=torch.float64)
    without_text = items[[-1, -1]]
    for history, ages in ((items[:2], nothing), (without_text, torch.ones(1, 2).double())):
        vectors = event_vectors(spec, history, block_norms(spec, history))
        got = queries(recency(weights, ages), vectors)
        assert torch.equal(got, torch.zeros(1, spec.feature_width, dtype=torch.float64))
        assert not model_scores(weights, spec, history, ages, items).any()


def test_without_sharpness_the_score_is_that_of_one_query(draws):
    """The limit that finds candidates: the recency-weighted mean of the similarities."""
    spec, items = draws.spec, draws.items(12)
    weights = replace(draws.weights, sharpness=2.5e-6)
    history, ages = (
        items[[0, 3, 5, 11]],
        torch.tensor([[4.0, 2.0, 2.0, 1.0], [torch.inf, 3.0, 1.0, torch.inf]]).double(),
    )
    vectors = event_vectors(spec, history, block_norms(spec, history))
    query = queries(recency(weights, ages), vectors)
    one = scores(spec, query, items, block_norms(spec, items))
    torch.testing.assert_close(model_scores(weights, spec, history, ages, items), one, atol=1e-3, rtol=1e-4)


def test_at_the_greatest_sharpness_the_closest_event_decides_and_nothing_overflows(draws):
    spec, items = draws.spec, draws.items(12).float()
    ages = torch.tensor([[200.0, 2.0, 1.0]])
    history = items[[2, 4, 6]]
    for wild in (1e20, 1e300):
        weights = TextWeights(decay=0.02, sharpness=wild)
        got = model_scores(weights, spec, history, ages, items)
        assert got.isfinite().all()
        vectors = event_vectors(spec, history, block_norms(spec, history))
        closest = 12 * scores(spec, vectors, items, block_norms(spec, items)).amax(0)
        torch.testing.assert_close(got[0], closest, atol=12 * 6 / 40, rtol=0)
    assert model_scores(TextWeights(decay=1e30), spec, history, ages, items).isfinite().all()


def test_an_item_without_text_scores_zero(draws):
    spec, items = draws.spec, draws.items(5)
    got = model_scores(draws.weights, spec, items[[-1, 0]], torch.ones(1, 2).double(), items)
    assert got[0, -1] == 0
    assert got.isfinite().all()


def test_many_shoppers_at_once_equal_each_alone(draws):
    spec, weights, items = draws.spec, draws.weights, draws.items(9)
    rows = torch.tensor([[0, 1, 2], [8, 8, 3], [4, 5, 0]])
    ages = torch.tensor([[[3.0, 2.0, 1.0]], [[2.0, 1.0, 1.0]], [[torch.inf, torch.inf, 1.0]]]).double()
    together = model_scores(weights, spec, items[rows], ages, items)
    for row, age, got in zip(rows, ages, together, strict=True):
        torch.testing.assert_close(model_scores(weights, spec, items[row], age, items), got)


def test_later_events_weigh_more():
    spec = ModelSpec((8,), 2)
    items = torch.eye(8)[:2]
    got = model_scores(PRIOR, spec, items, torch.tensor([[2.0, 1.0]]), items)[0]
    assert got[1] > got[0] > 0
    share = recency(PRIOR, torch.tensor([[2.0, 1.0]]))[0]
    assert float(share[0] / share[1]) == pytest.approx(np.exp(-0.5), abs=1e-5)


def test_block_norms_are_the_lengths_of_the_blocks():
    spec = ModelSpec((2, 3), 2)
    got = block_norms(spec, torch.tensor([[3.0, 4.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 2.0, 2.0]]))
    assert got.tolist() == [[5.0, 0.0], [0.0, 3.0]]
