"""Attributes as features: what is alike is close, what is missing counts nothing, and names are hashed."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared_model.attributes import Attributes, ImageEncoder, PriceEncoder
from shared_model.encoders import HashedWordsEncoder
from shared_model.errors import EncoderError
from shared_model.features import encode_catalogue, is_encoder, make_encoders
from shared_model.model import ModelSpec, block_norms, item_scales

BRAND, CATEGORY, PRICE, IMAGE = make_encoders(["brand", "category", "price", "image:clip:4"])
NAMES = st.text(max_size=12)


def lengths(rows):
    return np.linalg.norm(rows, axis=1)


@given(st.lists(NAMES, min_size=1, max_size=6))
@example(["|", " > ", "A|", ""])
@settings(max_examples=20, deadline=None)
def test_a_value_is_a_unit_row_and_no_value_a_zero_row(values):
    # A brand may be written with a sign that parts a path's levels; a path of such signs alone has no level.
    for encoder, attributes, empty in (
        (BRAND, Attributes(brands=values), ""),
        (CATEGORY, Attributes(categories=values), ">|›»"),
    ):
        rows = encoder.encode_attributes(attributes)
        assert rows.shape == (len(values), encoder.identity.dimension)
        assert rows.dtype == np.float32
        for value, length in zip(values, lengths(rows), strict=True):
            said = set("".join(value.split())) - set(empty)
            assert length == pytest.approx(1 if said else 0, abs=1e-5)


def test_a_brand_is_the_same_however_it_is_written_and_differs_from_all_others():
    rows = BRAND.encode_attributes(Attributes(brands=["L'Oréal  Paris", "l'oréal paris", "Loreal", "the"]))
    assert rows[0] @ rows[1] == pytest.approx(1, abs=1e-5)
    assert abs(rows[0] @ rows[2]) < 0.4
    assert lengths(rows)[3] == pytest.approx(1, abs=1e-5)  # a stop word of English may be a brand


def test_paths_are_the_closer_the_more_levels_they_share_and_a_level_counts_below_its_own_parent_only():
    paths = [
        "Beauty > Hair > Brushes",
        "beauty|hair|Combs",
        "Beauty > Nails > Polish",
        "Home > Tools > Brushes",
        "",
    ]
    rows = CATEGORY.encode_attributes(Attributes(categories=paths))
    same = rows @ rows[0]
    assert same[1] > same[2] + 0.1
    assert same[2] > same[3] + 0.1
    assert abs(same[3]) < 0.2
    assert not rows[4].any()


prices = st.lists(st.floats(min_value=0, max_value=1e6) | st.just(math.nan), min_size=1, max_size=12)


@given(prices, st.floats(min_value=1e-3, max_value=1e3))
@settings(max_examples=80, deadline=None)
def test_prices_have_no_currency_and_equal_prices_equal_rows(values, rate):
    rows = PRICE.encode_attributes(Attributes(prices=values))
    for value, row in zip(values, rows, strict=True):
        assert np.linalg.norm(row) == pytest.approx(0 if math.isnan(value) else 1, abs=1e-5)
    distinct = sorted({v for v in values if not math.isnan(v)})
    if all(a * rate < b * rate for a, b in itertools.pairwise(distinct)):
        np.testing.assert_array_equal(
            rows, PRICE.encode_attributes(Attributes(prices=[v * rate for v in values]))
        )
    for i, value in enumerate(values):
        assert all((rows[i] == rows[j]).all() for j in range(len(values)) if values[j] == value)


def test_neighbouring_prices_are_close_and_far_ones_are_not():
    rows = PriceEncoder().encode_attributes(Attributes(prices=list(range(100))))
    assert rows[50] @ rows[52] > 0.98
    assert rows[0] @ rows[99] < 0.01


def test_image_rows_keep_their_direction_and_another_width_is_refused():
    vectors = np.array([[3, 0, 4, 0], [0, 0, 0, 0]], dtype=np.float32)
    rows = IMAGE.encode_attributes(Attributes(images={"clip": vectors}))
    np.testing.assert_allclose(rows, [[0.6, 0, 0.8, 0], [0, 0, 0, 0]], rtol=1e-6)
    with pytest.raises(EncoderError, match=r"images\.clip are 3 wide.*image:clip:4 is 4 wide"):
        IMAGE.encode_attributes(Attributes(images={"clip": vectors[:, :3]}))


TEXTS = ["oat milk", "garden hose", "oat drink", ""]


def test_a_platform_without_attributes_has_the_blocks_all_zero_and_the_same_identities():
    text = HashedWordsEncoder(dimension=16)
    encoders = [text, BRAND, CATEGORY, PRICE, IMAGE]
    bare = encode_catalogue(encoders, TEXTS)
    assert bare.shape == (4, sum(e.identity.dimension for e in encoders))
    np.testing.assert_array_equal(bare[:, :16], text.encode(TEXTS, TEXTS))
    assert not bare[:, 16:].any()
    full = encode_catalogue(
        encoders, TEXTS, None, Attributes(["a", "b", "", ""], ["x", "", "", ""], [1, 2, 3, math.nan])
    )
    assert full[:3, 16:].any(axis=1).all()
    assert not full[3].any()


@given(st.lists(st.booleans(), min_size=4, max_size=4))
@settings(max_examples=16, deadline=None)
def test_items_without_an_image_are_compared_by_the_blocks_that_they_have(there):
    """The rule of the fused norm: every item with any block is a unit vector, whatever is missing."""
    text = HashedWordsEncoder(dimension=16)
    vectors = np.eye(4, dtype=np.float32) * np.array(there, dtype=np.float32)[:, None]
    encoders = [text, IMAGE]
    spec = ModelSpec.of([e.identity for e in encoders], 5)
    rows = torch.from_numpy(encode_catalogue(encoders, TEXTS, None, Attributes(images={"clip": vectors})))
    norms = block_norms(spec, rows)
    scales = item_scales(spec, norms)
    weight = IMAGE.identity.prior_weight
    for i, (text_norm, image_norm) in enumerate(norms.tolist()):
        fused = torch.cat([rows[i, :16], weight * rows[i, 16:]]) * scales[i]
        assert fused.norm().item() == pytest.approx(1 if text_norm or image_norm else 0, abs=1e-5)
        if text_norm and not image_norm:  # exactly the vector of a federation without images
            torch.testing.assert_close(fused[:16], rows[i, :16])


@pytest.mark.parametrize(
    "name", ["image:", "image:clip", "image:clip:0", "image:clip:x", "image:../x:4", "image:a:4:4"]
)
def test_image_names_say_model_and_width(name):
    assert is_encoder(name)
    with pytest.raises(EncoderError, match="image:clip-vit-b-32:512"):
        make_encoders([name])


def test_another_image_model_or_width_is_another_identity():
    names = ["image:clip:4", "image:clip:8", "image:klip:4", "brand", "category", "price"]
    assert len({e.identity.sha256 for e in make_encoders(names)}) == len(names)
    assert ImageEncoder.named("image:clip:4").identity == IMAGE.identity
