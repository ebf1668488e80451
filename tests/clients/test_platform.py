"""A prepared platform: read once, read again when a file changes, ready for its task."""

import dataclasses
import os

import numpy as np
import pandas as pd
import pytest
import torch

from clients.platform import HashableSite, check_encoders, prepare_platform, read_events
from clients.training import ShopperEvents
from shared_model.errors import BadInputError, EncoderError
from shared_model.features import make_encoders


def test_a_platform_is_read_once_and_again_when_a_file_changes(make_site, platform_of):
    site = make_site()
    first = platform_of(site)
    assert platform_of(site.model_copy()) is first
    frame = pd.read_csv(site.events)
    frame[frame["user_id"] != "u03"].to_csv(site.events, index=False)
    second = platform_of(site)
    assert len(second) == len(first) - 1
    assert second.fingerprint != first.fingerprint
    os.utime(site.items, ns=(1, 1))
    assert platform_of(site) is not second
    assert HashableSite(site) != HashableSite(site.model_copy(update={"seed": 1}))
    assert HashableSite(site) != "something else"


def test_features_are_the_encoders_and_come_from_the_cache_next_time(make_site, platform_of, monkeypatch):
    site = make_site()
    platform = platform_of(site)
    texts = platform.catalogue.texts()
    (encoder,) = make_encoders(["tiny"])
    np.testing.assert_array_equal(platform.features.numpy(), encoder.encode(texts, texts))
    assert platform.norms.shape == (80, 1)
    prepare_platform.cache_clear()
    monkeypatch.setattr(type(encoder), "encode", lambda *_: pytest.fail("encoded again"))
    assert torch.equal(platform_of(site).features, platform.features)


def test_a_missing_file_is_an_error_that_names_it(make_site, platform_of):
    site = make_site()
    site.items.unlink()
    with pytest.raises(BadInputError, match=r"items\.csv"):
        platform_of(site)


@pytest.mark.parametrize("first_purchases", [True, False])
@pytest.mark.parametrize("hold_out", ["basket", "event"])
@pytest.mark.parametrize("filter_seen", [True, False])
def test_the_task_decides_what_is_held_out(make_site, platform_of, first_purchases, hold_out, filter_seen):
    task = {"first_purchases": first_purchases, "hold_out": hold_out, "filter_seen": filter_seen}
    platform = platform_of(make_site(task=task))
    assert platform.filter_seen == filter_seen
    for u in platform.test_users:
        items, groups = platform.split.sequences.user(int(u))
        history, _ = platform.split.test_history(int(u))
        target = platform.split.test_target[u]
        if filter_seen or first_purchases:
            assert target not in history
        if first_purchases:
            assert len(set(items.tolist())) == len(items)
        if hold_out == "event":
            assert groups.tolist() == list(range(len(items)))
    assert len(platform.test_users) >= len(platform.valid_users) > 0


def test_what_is_added_up_was_never_held_out(make_site):
    site = HashableSite(make_site())
    data = read_events(site)
    products = np.arange(len(data.catalogue))
    events = ShopperEvents.of(data.split, products)
    for u in range(len(data.split.sequences)):
        mine = events.products[events.users == u]
        np.testing.assert_array_equal(mine, data.split.train_history(u)[0])
        for target in (data.split.test_target[u], data.split.valid_target[u]):
            assert target not in mine


def test_other_encoders_than_the_federation_s_are_refused():
    (encoder,) = make_encoders(["tiny"])
    check_encoders(("tiny",), [encoder.identity])
    with pytest.raises(EncoderError, match="not the federation's"):
        check_encoders(("tiny",), [dataclasses.replace(encoder.identity, version="2")])
