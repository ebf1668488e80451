"""`fedcart audit plan`: the price of a run."""

import json

import pytest

from privacy.accounting import (
    calibrate_noise,
    delta_at,
    epsilon,
    group_epsilon,
    replace_one_epsilon,
)
from privacy.events import PoissonGaussian


def test_plan_gives_the_accountant_s_numbers(audit, path, spent, event):
    given = ("--noise-multiplier", 1.2, "--sample-rate", 0.05, "--steps", 100, "--quick", "--format", "json")
    code, out, _ = audit("plan", *given)
    assert code == 0
    plan = json.loads(out)
    assert plan["cross_checks"] == []
    assert plan["epsilon"] == pytest.approx(spent, rel=1e-9)
    assert plan["replace_one_epsilon"] == pytest.approx(replace_one_epsilon([event], 1e-6), rel=1e-9)
    groups = {g["size"]: g["epsilon"] for g in plan["groups"]}
    assert groups[2] == pytest.approx(group_epsilon([event], 1e-6, 2), rel=1e-9)


def test_plan_against_a_ledger_says_from_where_to_where(audit, path, spent):
    code, out, _ = audit(
        "plan", "--epsilon", 1, "--sample-rate", 0.05, "--steps", 10, "--quick", "--ledger", path
    )
    assert code == 0
    assert f"population shop goes from {spent:.2f} to" in out
    code, out, _ = audit(
        "plan", "--epsilon", 6, "--sample-rate", 0.05, "--steps", 10, "--quick", "--ledger", path
    )
    assert code == 5
    assert "refused" in out


@pytest.mark.parametrize("value", ["nan", "inf", "0", "-1"])
def test_plan_refuses_numbers_that_mean_nothing(audit, value):
    assert audit("plan", f"--epsilon={value}", "--sample-rate", 0.05, "--steps", 10)[0] == 2


def test_plan_finds_the_noise_for_an_epsilon(audit):
    code, out, err = audit(
        *("plan", "--epsilon", 2, "--sample-rate", 0.05, "--steps", 50, "--delta", 1e-5),
        *("--population-size", 200_000, "--quick", "--format", "json"),
    )
    plan = json.loads(out)
    sigma = calibrate_noise(2.0, 1e-5, 0.05, 50)
    event = PoissonGaussian(0.05, sigma, 50)
    assert code == 0
    assert (plan["noise_multiplier"], plan["expected_batch"]) == (sigma, 10_000)
    assert plan["epsilon"] == epsilon([event], 1e-5) <= 2.0
    assert {at["epsilon"]: at["delta"] for at in plan["delta_at"]}[1.0] == delta_at([event], 1.0)
    assert "not below one over" in err


def test_plan_asks_for_what_it_needs(audit, path):
    base = ("plan", "--sample-rate", 0.05, "--steps", 10, "--quick")
    assert audit(*base)[0] == 2
    assert audit(*base, "--epsilon", 1, "--noise-multiplier", 1)[0] == 2
    assert audit(*base, "--epsilon", 1, "--delta", 1e-5, "--ledger", path)[0] == 2
    assert audit(*base, "--epsilon", 1, "--population-size", 0)[0] == 2
    assert audit("plan", "--epsilon", 1, "--sample-rate", 1.5, "--steps", 10)[0] == 2
    assert audit("plan", "--epsilon", 1, "--sample-rate", 0.5, "--steps", 0)[0] == 2
    assert audit("plan", "--epsilon", 1)[0] == 2
