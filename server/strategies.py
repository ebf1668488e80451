"""Flower's strategies by name, with the arrays that must survive a restart.

Only strategies that average replies are offered: each takes fixed, declared weights. What robust ones (median,
trimmed mean, Krum) withstand, and what they make of weights, is in `server.robust`. Flower's client-level DP wrappers
are left out: they protect a platform, not a shopper, and weigh by private counts.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import FedAvg
from numpy.typing import NDArray

from shared_model.errors import BadInputError

STRATEGIES: dict[str, type[FedAvg]] = {
    s.__name__: s
    for s in (
        flower.FedAvg,
        flower.FedAvgM,
        flower.FedProx,
        flower.FedAdam,
        flower.FedYogi,
        flower.FedAdagrad,
        flower.FedMedian,
        flower.FedTrimmedAvg,
        flower.Krum,
        flower.MultiKrum,
    )
}
WEIGHT_KEY = "weight"


def make_strategy(name: str, options: Mapping[str, float | int]) -> FedAvg:
    """Return Flower's strategy of this name; raise BadInputError naming what is wrong."""
    if name not in STRATEGIES:
        raise BadInputError(
            f"[federation] strategy = {name!r}: choose one of {', '.join(sorted(STRATEGIES))}."
        )
    cls = STRATEGIES[name]
    arguments: dict[str, Any] = {
        "fraction_train": 1.0,
        "fraction_evaluate": 0.0,
        "min_train_nodes": 1,
        "min_available_nodes": 1,
        "weighted_by_key": WEIGHT_KEY,
    }
    allowed = set(inspect.signature(cls.__init__).parameters) - {"self", *arguments} - _CALLABLES
    unknown = sorted(set(options) - allowed)
    if unknown:
        raise BadInputError(
            f"[federation] strategy_options: {name} has no option {', '.join(unknown)}; it has "
            f"{', '.join(sorted(allowed)) or 'none'}."
        )
    try:
        return cls(**arguments, **dict[str, Any](options))
    except ValueError as error:
        raise BadInputError(f"[federation] strategy_options: {name} refuses them: {error}") from None


_CALLABLES = {
    "train_metrics_aggr_fn",
    "evaluate_metrics_aggr_fn",
    "arrayrecord_key",
    "configrecord_key",
    "min_evaluate_nodes",
}


def strategy_state(strategy: FedAvg) -> dict[str, NDArray]:
    """Return the arrays that a strategy carries from round to round, as `<attribute>/<tensor or number>`.

    Flower offers no hook for this: the attributes are those of FedAdam, FedYogi and FedAdagrad (`m_t`, `v_t`)
    and of FedAvgM (`momentum_vector`). A test holds this list against every strategy offered.
    """
    state: dict[str, NDArray] = {}
    for attribute in ("m_t", "v_t", "momentum_vector"):
        value = getattr(strategy, attribute, None)
        if value is not None:
            items = value.items() if isinstance(value, dict) else enumerate(value)
            state |= {f"{attribute}/{name}": np.asarray(array) for name, array in items}
    return state


def restore_strategy(strategy: FedAvg, state: Mapping[str, NDArray]) -> None:
    """Give a new strategy the state that `strategy_state` returned."""
    groups: dict[str, dict[str, NDArray]] = {}
    for key, array in state.items():
        attribute, name = key.split("/", 1)
        groups.setdefault(attribute, {})[name] = array
    for attribute, values in groups.items():
        if attribute == "momentum_vector":
            setattr(strategy, attribute, [values[str(i)] for i in range(len(values))])
        else:
            setattr(strategy, attribute, values)
