"""What a server may ask: every field checked on arrival, nothing else admitted."""

import math

import pytest

from shared_model.errors import BadInputError
from shared_model.instructions import TrainInstructions
from shared_model.stages import Stage, TableShape

GOOD = {
    "run_id": "20260101-demo",
    "round": 1,
    "rounds": 2,
    "epsilon": 8.0,
    "delta": 1e-6,
    "share": 0.25,
    "encoders": "hashed-words,minilm",
    "vocabulary": "ab" * 32,
    "products": 12,
    "edges": 30,
    "seed": 0,
}


def test_good_instructions_make_the_round_trip_and_name_stage_and_table():
    ask = TrainInstructions.from_mapping(dict(GOOD))
    assert TrainInstructions.from_mapping(ask.model_dump()) == ask
    assert ask.model_dump() == GOOD
    assert ask.encoder_names == ("hashed-words", "minilm")
    assert ask.shape == TableShape(12, 30)
    assert (ask.stage, ask.shares) == (Stage.POPULARITY, (0.25, 0.75))
    assert ask.model_copy(update={"round": 2}).stage is Stage.EDGES
    alone = TrainInstructions.from_mapping(GOOD | {"rounds": 1, "share": 1.0})
    assert (alone.stage, alone.shares) == (Stage.POPULARITY, (1.0,))


NUMBERS = ("epsilon", "delta", "share")
COUNTS = ("round", "rounds")


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0, "0.5", None, True, [0.5]])
def test_a_number_that_is_none_is_refused_by_name(name, value):
    with pytest.raises(BadInputError, match=f"{name} = "):
        TrainInstructions.from_mapping(GOOD | {name: value})


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", [0, -1, 1.0, 2.5, math.nan, "3", None, True])
def test_a_count_that_is_none_is_refused_by_name(name, value):
    with pytest.raises(BadInputError, match=f"{name} = "):
        TrainInstructions.from_mapping(GOOD | {name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("delta", 0.0),
        ("delta", 1.0),
        ("share", 0.0),
        ("share", 1.0001),
        ("rounds", 3),
        ("products", -1),
        ("products", 10**9),
        ("edges", -1),
        ("edges", 10**10),
        ("vocabulary", "AB" * 32),
        ("vocabulary", "ab"),
        ("run_id", ""),
        ("run_id", "../../etc"),
        ("run_id", "a" * 101),
        ("run_id", "a b"),
        ("run_id", "a\n"),
        ("seed", 0.5),
        ("encoders", 5),
    ],
)
def test_values_out_of_range_are_refused(name, value):
    with pytest.raises(BadInputError, match=f"{name} = "):
        TrainInstructions.from_mapping(GOOD | {name: value})


@pytest.mark.parametrize("change", [{"round": 3}, {"round": 2, "rounds": 1, "share": 1.0}])
def test_a_round_after_the_last_is_refused(change):
    with pytest.raises(BadInputError):
        TrainInstructions.from_mapping(GOOD | change)


@pytest.mark.parametrize("change", [{"rounds": 1}, {"share": 1.0}])
def test_popularity_alone_has_all_of_the_budget(change):
    with pytest.raises(BadInputError, match="all of the budget"):
        TrainInstructions.from_mapping(GOOD | change)


@pytest.mark.parametrize("missing", sorted(GOOD))
def test_a_missing_key_is_refused(missing):
    with pytest.raises(BadInputError, match=missing):
        TrainInstructions.from_mapping({k: v for k, v in GOOD.items() if k != missing})


@pytest.mark.parametrize("extra", ["clip_norm", "code"])
def test_an_extra_key_is_refused(extra):
    with pytest.raises(BadInputError, match=extra):
        TrainInstructions.from_mapping(GOOD | {extra: 1})


def test_instructions_cannot_be_changed():
    ask = TrainInstructions.from_mapping(dict(GOOD))
    with pytest.raises(ValueError, match="frozen"):
        ask.epsilon = 100.0
