"""What a server may ask: every field checked on arrival, nothing else admitted."""

import math

import pytest

from shared_model.encoders import EncoderIdentity, identities_to_json
from shared_model.errors import BadInputError, EncoderError
from shared_model.instructions import TrainInstructions

IDENTITIES = [
    EncoderIdentity("hashed-words", "1", "ab" * 32, 16),
    EncoderIdentity("minilm", "1", "cd" * 32, 8),
]
GOOD = {
    "run_id": "20260101-demo",
    "round": 1,
    "rounds": 5,
    "local_steps": 2,
    "epsilon": 8.0,
    "delta": 1e-6,
    "clip_norm": 0.5,
    "sample_rate": 0.5,
    "learning_rate": 0.01,
    "scalar_learning_rate": 0.01,
    "negatives": 8,
    "targets": 2,
    "proximal": 0.0,
    "encoders": "hashed-words,minilm",
    "encoder_identities": identities_to_json(IDENTITIES),
    "width": 4,
    "history_length": 6,
    "seed": 0,
}


def test_good_instructions_make_the_round_trip_and_name_the_model():
    ask = TrainInstructions.from_mapping(dict(GOOD))
    assert TrainInstructions.from_mapping(ask.model_dump()) == ask
    assert ask.model_dump() == GOOD
    assert ask.encoder_names == ("hashed-words", "minilm")
    assert ask.identities == IDENTITIES
    assert ask.spec.encoder_dimensions == (16, 8)
    assert (ask.spec.width, ask.spec.history_length) == (4, 6)


NUMBERS = (
    "epsilon",
    "delta",
    "clip_norm",
    "sample_rate",
    "learning_rate",
    "scalar_learning_rate",
    "proximal",
)
COUNTS = ("round", "rounds", "local_steps", "negatives", "targets", "history_length")


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0, "0.5", None, True, [0.5]])
def test_a_number_that_is_none_is_refused_by_name(name, value):
    with pytest.raises(BadInputError, match=f"{name} = "):
        TrainInstructions.from_mapping(GOOD | {name: value})


@pytest.mark.parametrize("value", [-1, 1.0, math.nan, "3", None, True])
def test_a_width_is_a_count_or_none(value):
    assert TrainInstructions.from_mapping(GOOD | {"width": 0}).spec.width == 0
    with pytest.raises(BadInputError, match="width = "):
        TrainInstructions.from_mapping(GOOD | {"width": value})


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
        ("delta", 0.2),
        ("delta", 1e-11),
        ("epsilon", 1000.5),
        ("clip_norm", 4e-7),
        ("clip_norm", 101.0),
        ("sample_rate", 1e-7),
        ("learning_rate", 10.1),
        ("learning_rate", 1e-10),
        ("scalar_learning_rate", 10.1),
        ("proximal", 1001.0),
        ("proximal", 7e36),
        ("rounds", 10_001),
        ("round", 6),
        ("local_steps", 10_001),
        ("negatives", 100_001),
        ("targets", 1001),
        ("width", 4097),
        ("history_length", 1001),
        ("seed", 2**63),
        ("encoders", "x" * 501),
        ("clip_norm", 0.0),
        ("sample_rate", 0.0),
        ("sample_rate", 1.0001),
        ("learning_rate", 0.0),
        ("history_length", 1),
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


@pytest.mark.parametrize("missing", sorted(set(GOOD) - {"proximal"}))
def test_a_missing_key_is_refused(missing):
    with pytest.raises(BadInputError, match=missing):
        TrainInstructions.from_mapping({k: v for k, v in GOOD.items() if k != missing})


@pytest.mark.parametrize("extra", ["server-round", "proximal-mu", "code"])
def test_an_extra_key_is_refused(extra):
    with pytest.raises(BadInputError, match=extra):
        TrainInstructions.from_mapping(GOOD | {extra: 1})


def test_instructions_cannot_be_changed():
    ask = TrainInstructions.from_mapping(dict(GOOD))
    with pytest.raises(ValueError, match="frozen"):
        ask.epsilon = 100.0


def test_identities_that_cannot_be_read_are_the_encoders_problem():
    ask = TrainInstructions.from_mapping(GOOD | {"encoder_identities": "[]x"})
    with pytest.raises(EncoderError):
        _ = ask.spec
