"""The privacy plan of one run that releases sums of unit rows, each noised once.

Guarantee
---------
Let a run release n sums over all shoppers, in each of which a shopper's row has L2 norm at most 1 (a row that needs an
earlier sum may depend on its *noised* value only). Sum i gets Gaussian noise of standard deviation σ_i = σ/√share_i. Then
all that is released is (ε, δ)-differentially private for the addition or removal of one shopper with all of their
events, where ε is ``plan.cost()`` at ``delta``: n Gaussian mechanisms, which together cost what one of noise σ costs
(Dong et al. 2022, cor. 3.3: 1/σ² = Σ 1/σ_i²). There is no sampling, so nothing is amplified.

=====================================  ==================================================
case                                   what happens
=====================================  ==================================================
one share of 1                         one sum, with noise σ
shares that do not add up to 1         PlanError
a row longer than 1                    the caller refuses it: the guarantee rests on it
a shopper without any product          a zero row
epsilon, delta, share out of range     PlanError
=====================================  ==================================================
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from privacy.accounting import calibrate_noise, check_delta, epsilon
from privacy.checks import real
from privacy.errors import PlanError
from privacy.events import Gaussian

MIN_SHARE = 0.01


@dataclass(frozen=True)
class ReleasePlan:
    """Public parameters of a run. Nothing here is derived from data.

    Args:
        epsilon: the most the whole run may cost, in (0, 1000].
        delta: in [1e-10, 0.1]; choose well below one over the number of shoppers.
        shares: the part of the budget that each sum gets, each in [0.01, 1], together 1.
        noise_multiplier: σ of the whole run: the noise that one sum would get, had it all of the budget.
    """

    epsilon: float
    delta: float
    shares: tuple[float, ...]
    noise_multiplier: float

    @classmethod
    def calibrated(cls, *, epsilon: float, delta: float, shares: tuple[float, ...]) -> ReleasePlan:
        """The plan with the least noise whose cost, as a ledger composes it, is within ``epsilon``.

        Raises:
            PlanError: a parameter is out of range, or no noise is enough.
        """
        check_delta(delta)
        for share in shares:
            real("share", share, above=MIN_SHARE * (1 - 1e-12), at_most=1.0, hint="give parts of the budget")
        if abs(math.fsum(shares) - 1.0) > 1e-9:
            raise PlanError(f"the shares {shares} of the budget add up to {math.fsum(shares):g}: make it 1")
        noise = calibrate_noise(epsilon, delta, 1.0, 1)
        plan = cls(epsilon, delta, shares, noise)
        while (
            not plan.cost() <= epsilon
        ):  # the composition of several is computed with a little more allowance
            noise *= 1 + 1e-4
            plan = cls(epsilon, delta, shares, noise)
        return plan

    def noise_of(self, number: int) -> float:
        """σ_i, the standard deviation of the noise on every coordinate of sum `number`, from 0."""
        return self.noise_multiplier / math.sqrt(self.shares[number])

    def event_of(self, number: int) -> Gaussian:
        """The DP event of one sum, from 0."""
        return Gaussian(self.noise_of(number))

    @property
    def event(self) -> Gaussian:
        """One mechanism that costs what the whole run costs: for previews."""
        return Gaussian(self.noise_multiplier)

    def cost(self) -> float:
        """ε of record of the whole run at ``delta``."""
        return epsilon([self.event_of(number) for number in range(len(self.shares))], self.delta)
