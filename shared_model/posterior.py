"""From a noised sum to what it most likely stands for: the posterior mean under a spike at zero and an exponential slab.

Most numbers of a shared table are sums over few shoppers or none, and drown one by one in the noise; together they show
how many are not zero and how large those are. That much known, each is shrunk by what its own number says:

    x = v + N(0, σ²)        v = 0 with probability 1 − p, else exponential with mean s
    s = (mean x² − σ²) / (2 · mean x)        p = mean x / s                          (moments; mean v = p·s, v² = 2p·s²)
    E[v | x] = w · σ · (z + φ(z)/Φ(z))       z = x/σ − σ/s
    w = p·slab / (p·slab + (1 − p)·spike)    spike = φ(x/σ)/σ,  slab = exp(σ²/2s² − x/s) · Φ(z) / s

Empirical Bayes for sparse sequences: Johnstone & Silverman 2004 (their slab is Laplace; sums of rows without negative
weights have none below zero); the slab's integral is the exponentially modified Gaussian of Grushka 1972. A threshold at
2.5σ in its place loses more than half of what a table is worth (docs/benchmarks/trade.md).

Where something public says which numbers are alike (for a pair, how popular its products are), they are cut by it into
`STRATA` of equal size, each with a p and an s of its own.

Guarantee: a function of noised numbers and public ones alone, hence post-processing; it costs no ε.

| case                                           | what happens                                              |
|------------------------------------------------|------------------------------------------------------------|
| σ = 0                                          | max(x, 0), exactly                                         |
| σ small against every positive number          | those stay as they are, what is below zero is 0            |
| nothing stands out (σ → ∞, or noise alone)     | 0 everywhere                                               |
| everything stands out                          | p = 1: each is shrunk by about σ²/s                        |
| one cell                                       | 0 where it is within what one draw of noise reaches        |
| no cell                                        | an empty array                                             |
| few cells, or all alike                        | fewer strata, of `LEAST` or more; ties are cut in order    |
| NaN or inf among the numbers, σ < 0, σ = NaN   | NotFiniteError, ExchangeError                              |
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erfcx, log_ndtr

from shared_model.errors import ExchangeError, NotFiniteError

Floats = NDArray[np.float64]
STRATA = 8
LEAST = 1000
"""So many numbers, at least, estimate a stratum's p and s."""
_STANDARD_ERRORS = 2.0
"""Where no number is beyond what noise alone reaches, the mean must be by so many of its own errors."""
_FAR = -100.0
"""Below it φ(z)/Φ(z) is −z, and what is left of the sum is its series."""


def posterior_mean(x: ArrayLike, sigma: float, alike: ArrayLike | None = None) -> Floats:
    """Return E[v | x], (n,) float64 ≥ 0 and never NaN, for (n,) numbers with noise of standard deviation `sigma`.

    alike : (n,) public or noised numbers by which strata are cut; None is one stratum.
    Raises NotFiniteError for numbers that are not finite, ExchangeError for a σ that is none.
    """
    noised = np.asarray(x, dtype=np.float64)
    if not np.isfinite(noised).all():
        raise NotFiniteError("a noised sum holds NaN or inf; it is no release of this federation.")
    if not (math.isfinite(sigma) and sigma >= 0):
        raise ExchangeError(f"σ = {sigma}: the noise of a sum has a finite standard deviation of 0 or more.")
    # With less noise than this the formulas leave the range of floats, and would move no number.
    if not noised.size or sigma <= 1e-12 * float(np.abs(noised).max()):
        return np.maximum(noised, 0.0)
    strata = max(1, min(STRATA, noised.size // LEAST))
    if alike is None or strata == 1:
        return _of_stratum(noised, sigma)
    found = np.empty_like(noised)
    for part in np.array_split(np.argsort(np.asarray(alike), kind="stable"), strata):
        found[part] = _of_stratum(noised[part], sigma)
    return found


def _of_stratum(noised: Floats, sigma: float) -> Floats:
    """Return E[v | x] with p and s from these numbers alone."""
    units = noised / sigma
    if _nothing_stands_out(units):
        return np.zeros_like(noised)
    return sigma * _shrunk(units, *_moments(units))


def _nothing_stands_out(units: Floats) -> bool:
    """Whether numbers in units of σ look like noise alone: neither the largest nor the mean is out of its reach."""
    reach = math.sqrt(2 * math.log(2 * units.size))
    return bool(units.max() < reach and units.mean() < _STANDARD_ERRORS / math.sqrt(units.size))


def _moments(units: Floats) -> tuple[float, float]:
    """Return p and s of numbers in units of σ, kept where the formulas are finite."""
    mean = max(float(units.mean()), 1e-5)
    scale = max((float(np.square(units).mean()) - 1) / (2 * mean), 1e-3)
    return min(max(mean / scale, 1e-5), 1 - 1e-9), scale


def _shrunk(units: Floats, p: float, scale: float) -> Floats:
    """Return E[v | x] in units of σ. The log-odds are clipped at 50, beyond which a weight is 0 or 1 to a float."""
    z = units - 1 / scale
    slab = math.log(p / scale) + 0.5 / scale**2 - units / scale + log_ndtr(z)
    spike = math.log1p(-p) - 0.5 * np.square(units) - 0.5 * math.log(2 * math.pi)
    return _positive_part(z) / (1 + np.exp(np.clip(spike - slab, -50, 50)))


def _positive_part(z: Floats) -> Floats:
    """Return z + φ(z)/Φ(z) ≥ 0: the mean of N(z, 1) given that it is positive."""
    near, far = np.maximum(z, _FAR), np.minimum(z, _FAR)
    mills = math.sqrt(2 / math.pi) / erfcx(-near / math.sqrt(2))
    return np.where(z > _FAR, np.maximum(near + mills, 0.0), -1 / far + 2 / far**3)
