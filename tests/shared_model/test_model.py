"""The model against a plain float64 rendering of its formula."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_model.encoders import EncoderIdentity
from shared_model.errors import EncoderError
from shared_model.exchange import fingerprint
from shared_model.model import (
    Items,
    ModelSpec,
    block_norms,
    block_products,
    event_vectors,
    initial_shared,
    pooled,
    queries,
    recency,
    scores,
    similarities,
    standing_apart,
)


def model_scores(shared, spec, history, ages, items):
    history, items = (Items(x, block_norms(spec, x)) for x in (history, items))
    products = block_products(spec, history.features, items.features)
    return pooled(shared, similarities(shared, spec, products, history, items), recency(shared, ages))


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
def test_the_untrained_model_is_the_prior(ages, seed):
    spec = ModelSpec((16,), 4, 6)
    generator = torch.Generator().manual_seed(seed)
    items = torch.nn.functional.normalize(torch.randn(30, 16, generator=generator), dim=-1)
    history = items[torch.randint(0, 30, (6,), generator=generator)]
    got = model_scores(initial_shared(spec), spec, history, torch.tensor([ages]), items)[0].numpy()
    expected = prior(history.double().numpy(), ages, items.double().numpy())
    np.testing.assert_allclose(got, expected, atol=2e-5)
    clear = np.abs(expected[:, None] - expected[None]) > 1e-4
    assert (
        np.sign(got[:, None] - got[None])[clear] == np.sign(expected[:, None] - expected[None])[clear]
    ).all()


def test_a_trained_model_is_what_the_formula_says(draws, reference):
    spec, shared, items = draws.spec, draws.shared(), draws.items(12)
    history = items[[0, 3, 5, 11, 3, 7]]
    ages = torch.tensor(
        [[3.0, 3.0, 2.0, 2.0, 1.0, 1.0], [9.0, torch.inf, 4.0, 1.0, torch.inf, torch.inf], [torch.inf] * 6],
        dtype=torch.float64,
    )
    got = model_scores(shared, spec, history, ages, items)
    for moment, age in enumerate(ages):
        events = [(x, a) for x, a in zip(history, age, strict=True) if torch.isfinite(a)]
        expected = [reference.score(shared, spec.encoder_dimensions, events, (x, 0.0)) for x in items]
        torch.testing.assert_close(got[moment], torch.stack(expected), atol=1e-10, rtol=1e-10)


def test_encoder_weights_are_those_of_explicitly_fused_items(draws):
    """Fusing the items by hand and scoring them as one encoder's gives the same untrained scores."""
    spec, items = draws.spec, draws.items(12)
    weights = (0.3, 2.0)[: len(spec.encoder_dimensions)]
    weighted = replace(spec, prior_weights=weights)
    shared = {name: t.double() for name, t in initial_shared(weighted).items()}
    fused = items * torch.tensor(weights).double().repeat_interleave(torch.tensor(spec.encoder_dimensions))
    fused = torch.where(fused.norm(dim=-1, keepdim=True) > 0, fused / fused.norm(dim=-1, keepdim=True), 0.0)
    alone = ModelSpec((spec.feature_width,), spec.width, spec.history_length)
    ages = torch.tensor([[3.0, 2.0, 2.0, 1.0]], dtype=torch.float64)
    plain = {name: t.double() for name, t in initial_shared(alone).items()}
    torch.testing.assert_close(
        model_scores(shared, weighted, items[[0, 2, 4, 11]], ages, items),
        model_scores(plain, alone, fused[[0, 2, 4, 11]], ages, fused),
        atol=1e-6,
        rtol=1e-6,
    )
    identities = [
        EncoderIdentity("e", "1", "00", d, w) for d, w in zip(spec.encoder_dimensions, weights, strict=True)
    ]
    assert ModelSpec.of(identities, spec.width, spec.history_length) == weighted
    with pytest.raises(EncoderError, match="one for each"):
        replace(spec, prior_weights=(1.0, 1.0, 1.0))


def test_padding_changes_nothing_whatever_it_holds(draws):
    spec, shared, items = draws.spec, draws.shared(), draws.items(8)
    ages = torch.tensor([[2.0, 1.0]], dtype=torch.float64)
    padded = torch.cat([torch.full((1, 3), torch.inf, dtype=torch.float64), ages], 1)
    short = model_scores(shared, spec, items[[1, 2]], ages, items)
    for filler in (torch.zeros(3, spec.feature_width).double(), 1e6 * draws.normal(3, spec.feature_width)):
        long = model_scores(shared, spec, torch.cat([filler, items[[1, 2]]]), padded, items)
        torch.testing.assert_close(long, short, atol=1e-12, rtol=1e-12)


def test_without_a_usable_event_the_query_is_zero(draws):
    spec, shared, items = draws.spec, draws.shared(), draws.items(8)
    nothing = torch.full((1, 2), torch.inf, dtype=torch.float64)
    without_text = items[[-1, -1]]
    for history, ages in ((items[:2], nothing), (without_text, torch.ones(1, 2).double())):
        vectors = event_vectors(shared, spec, history, block_norms(spec, history))
        got = queries(recency(shared, ages), vectors)
        assert torch.equal(got, torch.zeros(1, spec.feature_width, dtype=torch.float64))
        assert not model_scores(shared, spec, history, ages, items).any()


def test_without_sharpness_the_score_is_that_of_one_query(draws):
    """The limit that finds candidates: the recency-weighted mean of the similarities."""
    spec, shared, items = draws.spec, draws.shared(), draws.items(12)
    shared["log_sharpness"] = torch.tensor([-14.0]).double()
    history, ages = (
        items[[0, 3, 5, 11]],
        torch.tensor([[4.0, 2.0, 2.0, 1.0], [torch.inf, 3.0, 1.0, torch.inf]]).double(),
    )
    vectors = event_vectors(shared, spec, history, block_norms(spec, history))
    query = queries(recency(shared, ages), vectors)
    one = scores(spec, query, items, block_norms(spec, items))
    torch.testing.assert_close(model_scores(shared, spec, history, ages, items), one, atol=1e-3, rtol=1e-4)


def test_at_the_greatest_sharpness_the_closest_event_decides_and_nothing_overflows(draws):
    spec, items = draws.spec, draws.items(12).float()
    shared = {name: t.float() for name, t in draws.shared().items()}
    ages = torch.tensor([[200.0, 2.0, 1.0]])
    for wild in (50.0, 1e4):
        shared["log_sharpness"], shared["log_decay"] = torch.tensor([wild]), torch.tensor([-3.0])
        got = model_scores(shared, spec, items[[2, 4, 6]], ages, items)
        assert got.isfinite().all()
        vectors = event_vectors(shared, spec, items[[2, 4, 6]], block_norms(spec, items[[2, 4, 6]]))
        closest = 12 * scores(spec, vectors, items, block_norms(spec, items)).amax(0)
        torch.testing.assert_close(got[0], closest, atol=12 * 6 / 40, rtol=0)
    shared["log_decay"] = torch.tensor([1e4])
    assert model_scores(shared, spec, items[[2, 4, 6]], ages, items).isfinite().all()


def test_gradients_are_those_of_the_formula(draws):
    """Checked by finite differences, with events that do not count among those that do."""
    spec, shared, items = draws.spec, draws.shared(), draws.items(7)
    ages = torch.tensor([[3.0, 2.0, 1.0], [torch.inf, torch.inf, 4.0]]).double()
    names = list(shared)

    def of(*tensors):
        return model_scores(dict(zip(names, tensors, strict=True)), spec, items[[0, 2, 5]], ages, items)

    assert torch.autograd.gradcheck(of, [shared[name].requires_grad_() for name in names])


def test_a_vector_for_each_event_gives_the_similarities(draws):
    spec, shared, items = draws.spec, draws.shared(), draws.items(12)
    history = Items(items[[0, 3, 11]], block_norms(spec, items[[0, 3, 11]]))
    candidates = Items(items, block_norms(spec, items))
    products = block_products(spec, history.features, items)
    torch.testing.assert_close(
        scores(
            spec,
            event_vectors(shared, spec, history.features, history.norms),
            items,
            candidates.norms,
        ),
        similarities(shared, spec, products, history, candidates),
    )


def test_without_a_residual_features_play_no_part_beyond_their_products(draws):
    spec = replace(draws.spec, width=0)
    shared = {name: t for name, t in draws.shared().items() if not name.startswith("residual")}
    assert set(initial_shared(spec)) == set(shared) == {t.name for t in spec.exchange.tensors}
    items = draws.items(9)
    norms, empty = block_norms(spec, items), items[:, :0]
    products = block_products(spec, items[:3], items)
    torch.testing.assert_close(
        similarities(shared, spec, products, Items(empty[:3], norms[:3]), Items(empty, norms)),
        similarities(shared, spec, products, Items(items[:3], norms[:3]), Items(items, norms)),
    )


def test_an_item_without_text_scores_zero_and_is_finite_in_every_gradient(draws):
    spec, items = draws.spec, draws.items(5)
    shared = {name: t.requires_grad_() for name, t in draws.shared().items()}
    history = items[[-1, 0]]
    got = model_scores(shared, spec, history, torch.ones(1, 2).double(), items)
    assert got[0, -1] == 0
    got = got + standing_apart(shared, torch.ones(5))
    got.sum().backward()
    assert all(torch.isfinite(t.grad).all() for t in shared.values())


def test_many_shoppers_at_once_equal_each_alone(draws):
    spec, shared, items = draws.spec, draws.shared(), draws.items(9)
    rows = torch.tensor([[0, 1, 2], [8, 8, 3], [4, 5, 0]])
    ages = torch.tensor([[[3.0, 2.0, 1.0]], [[2.0, 1.0, 1.0]], [[torch.inf, torch.inf, 1.0]]]).double()
    together = model_scores(shared, spec, items[rows], ages, items)
    for row, age, got in zip(rows, ages, together, strict=True):
        torch.testing.assert_close(model_scores(shared, spec, items[row], age, items), got)


def test_later_events_weigh_more():
    spec = ModelSpec((8,), 2, 2)
    items = torch.eye(8)[:2]
    got = model_scores(initial_shared(spec), spec, items, torch.tensor([[2.0, 1.0]]), items)[0]
    assert got[1] > got[0] > 0
    share = recency(initial_shared(spec), torch.tensor([[2.0, 1.0]]))[0]
    assert float(share[0] / share[1]) == pytest.approx(np.exp(-0.5), abs=1e-5)


def test_the_start_is_the_same_in_every_process_and_only_the_projection_is_not_zero():
    spec = ModelSpec((8, 16), 4, 5)
    start = initial_shared(spec)
    for name, tensor in start.items():
        assert tensor.any() == (name == "residual_in")
    assert torch.allclose(start["residual_in"].abs(), torch.tensor(1 / np.sqrt(24)).float())
    assert abs(float(start["residual_in"].mean())) < 0.1
    program = (
        "from shared_model.exchange import fingerprint\n"
        "from shared_model.model import ModelSpec, initial_shared\n"
        "spec = ModelSpec((8, 16), 4, 5)\n"
        "print(fingerprint(spec.exchange.to_numpy(initial_shared(spec), 'start')))\n"
    )
    other = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert other == fingerprint(spec.exchange.to_numpy(start, "start"))


def test_block_norms_are_the_lengths_of_the_blocks():
    spec = ModelSpec((2, 3), 1, 2)
    got = block_norms(spec, torch.tensor([[3.0, 4.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 2.0, 2.0]]))
    assert got.tolist() == [[5.0, 0.0], [0.0, 3.0]]
