"""A platform's own settings: read back as written, refused with file, key and fix."""

import math
from pathlib import Path

import pytest
import tomli_w

from clients.errors import SiteError
from clients.site import SiteSettings, load_site, save_site

GOOD = {
    "name": "toys",
    "events": "/data/events.csv",
    "items": "/data/items.csv",
    "population_size": 1000,
    "epsilon_cap": 6.0,
    "ledger": "/data/ledger.sqlite",
    "work": "/data/work",
    "cache": "/data/cache",
}


def write(folder, **change):
    values = {k: v for k, v in (GOOD | change).items() if v is not None}
    path = folder / "client.toml"
    path.write_text(tomli_w.dumps(values), encoding="utf-8")
    return path


def test_a_site_makes_the_round_trip(tmp_path):
    site = SiteSettings.model_validate(
        GOOD
        | {
            "columns": {"user": "household é", "title": 'the "title"'},
            "task": {"first_purchases": True, "hold_out": "event", "filter_seen": False, "min_events": 5},
            "compute": {"device": "mps", "scoring": "bfloat16"},
            "allow_plain_training": True,
            "reproducible_noise": True,
            "delta": 1e-7,
            "seed": 3,
            "store": "/data/store",
            "feedback": "/data/feedback.sqlite",
            "serving": {"token": "/keys/token"},
        }
    )
    path = tmp_path / "new" / "client.toml"
    save_site(path, site)
    assert load_site(path) == site


def test_what_is_left_out_is_safe(tmp_path):
    site = load_site(write(tmp_path))
    assert not site.allow_plain_training
    assert not site.reproducible_noise
    assert site.delta == 1e-6
    assert site.task.filter_seen
    assert (site.compute.device, site.compute.scoring) == ("auto", "float32")
    assert site.population == "toys"
    assert site.events == Path("/data/events.csv")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"epsilon_capp": 6.0}, "epsilon_capp: there is no such key; did you mean 'epsilon_cap'?"),
        (
            {"task": {"filter_sen": True}},
            "task.filter_sen: there is no such key; did you mean 'filter_seen'?",
        ),
        (
            {"zzzzzz": 1},
            "zzzzzz: there is no such key; known keys: allow_plain_training, cache, catalogue, columns",
        ),
        ({"ledger": None}, "ledger: is missing"),
        ({"population_size": None}, "population_size: is missing"),
        ({"epsilon_cap": math.nan}, "epsilon_cap = nan"),
        ({"epsilon_cap": math.inf}, "epsilon_cap = inf"),
        ({"epsilon_cap": 0.0}, "epsilon_cap = 0.0"),
        ({"epsilon_cap": -1.0}, "epsilon_cap = -1.0"),
        ({"delta": math.nan}, "delta = nan"),
        ({"delta": 0.0}, "delta = 0.0"),
        ({"delta": 1.0}, "delta = 1.0"),
        ({"population_size": 0}, "population_size = 0"),
        ({"population_size": 10.5}, "population_size = 10.5"),
        ({"name": "../toys"}, "name = '../toys'"),
        ({"name": "toys:budget"}, "name = 'toys:budget'"),
        ({"name": ""}, "name = ''"),
        ({"task": {"hold_out": "week"}}, "task.hold_out = 'week'"),
        ({"task": {"min_events": 0}}, "task.min_events = 0"),
        ({"columns": {"user": 5}}, "columns.user = 5"),
        ({"allow_plain_training": "perhaps"}, "allow_plain_training = 'perhaps'"),
    ],
)
def test_what_cannot_be_used_is_named_with_the_file(tmp_path, change, said):
    path = write(tmp_path, **change)
    with pytest.raises(SiteError) as refusal:
        load_site(path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert said in str(refusal.value)


def test_every_problem_is_named_at_once(tmp_path):
    with pytest.raises(SiteError) as refusal:
        load_site(write(tmp_path, ledger=None, epsilon_cap=-1.0, sead=1))
    for key in ("ledger", "epsilon_cap", "did you mean 'seed'"):
        assert key in str(refusal.value)


@pytest.mark.parametrize("content", [b"name =", b"\xff\xfe", b"[[task]]\n[task]", None])
def test_a_file_that_cannot_be_read_is_refused(tmp_path, content):
    path = tmp_path / "client.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SiteError, match="cannot be read"):
        load_site(path)


def test_settings_cannot_be_changed(tmp_path):
    with pytest.raises(ValueError, match="frozen"):
        load_site(write(tmp_path)).epsilon_cap = 100.0
