"""What groups and an exchange cost: shown beside ε of record."""

import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution
from scipy import stats

from privacy.accounting import epsilon, group_epsilon, replace_one_epsilon
from privacy.accounting.loss import GRID
from privacy.errors import PlanError
from privacy.events import Gaussian, PoissonGaussian

DELTA = 1e-6


class TestReplaceOne:
    def test_pld_gives_what_the_closed_form_says(self, exact):
        """Replacing one user moves the sum by 2C: the Gaussian with half the noise multiplier."""
        truth = exact(0.5, 1e-5)
        assert truth <= replace_one_epsilon([Gaussian(1.0)], 1e-5) <= truth * 1.001

    def test_it_is_dp_accounting_s_value(self):
        theirs = privacy_loss_distribution.from_gaussian_mechanism(
            1.2,
            value_discretization_interval=2 * GRID,
            sampling_prob=0.05,
            neighboring_relation=dp_accounting.NeighboringRelation.REPLACE_ONE,
        ).self_compose(100)
        ours = replace_one_epsilon([PoissonGaussian(0.05, 1.2, 100)], DELTA)
        assert ours == pytest.approx(theirs.get_epsilon_for_delta(DELTA), rel=1e-6)

    def test_dp_accounting_rdp_is_not_used_because_it_ignores_the_relation(self):
        """The hazard itself: its RDP accountant answers REPLACE_ONE as if it were add-or-remove."""
        rdp = dp_accounting.rdp.RdpAccountant(
            neighboring_relation=dp_accounting.NeighboringRelation.REPLACE_ONE
        )
        rdp.compose(dp_accounting.GaussianDpEvent(1.0))
        assert rdp.get_epsilon(1e-5) < 0.6 * replace_one_epsilon([Gaussian(1.0)], 1e-5)

    def test_it_costs_more_than_add_or_remove_and_at_most_a_group_of_two(self):
        events = [PoissonGaussian(0.1, 2.0, 50), PoissonGaussian(0.02, 0.8, 9)]
        assert epsilon(events, DELTA) < replace_one_epsilon(events, DELTA) < group_epsilon(events, DELTA, 2)


class TestGroups:
    @pytest.mark.parametrize("size", [1, 2, 3, 32])
    def test_unsampled_groups_are_the_closed_form(self, exact, size):
        truth = exact(8.0 / size, DELTA)
        assert truth <= group_epsilon([Gaussian(8.0)], DELTA, size) <= truth * 1.001

    def test_they_are_dp_accounting_s_value(self):
        members = np.arange(4)
        theirs = privacy_loss_distribution.from_mixture_gaussian_mechanism(
            3.0,
            sensitivities=members.astype(float),
            sampling_probs=stats.binom.pmf(members, 3, 0.05),
            value_discretization_interval=3 * GRID,
        ).self_compose(40)
        ours = group_epsilon([PoissonGaussian(0.05, 3.0, 40)], DELTA, 3)
        assert ours == pytest.approx(theirs.get_epsilon_for_delta(DELTA), rel=1e-6)

    def test_a_group_of_one_is_one_user(self):
        events = [PoissonGaussian(0.1, 2.0, 50), Gaussian(9.0)]
        assert group_epsilon(events, DELTA, 1) == epsilon(events, DELTA)

    def test_groups_cost_more(self):
        events = [PoissonGaussian(0.1, 2.0, 20)]
        values = [group_epsilon(events, DELTA, size) for size in (1, 2, 3, 8)]
        assert values == sorted(values)
        assert values[0] < values[1] < values[2] < values[3]

    @pytest.mark.parametrize("bad", [0, 33, True, 1.0, math.nan])
    def test_bad_sizes_are_refused(self, bad):
        with pytest.raises(PlanError, match="size"):
            group_epsilon([Gaussian(1.0)], DELTA, bad)
