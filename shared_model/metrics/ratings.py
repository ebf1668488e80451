"""Errors of predicted ratings, where shoppers gave values. One float64 value a shopper, (B,)."""

import numpy as np
from numpy.typing import ArrayLike

from shared_model.metrics.arrays import Floats


def mse(predicted: ArrayLike, actual: ArrayLike) -> Floats:
    """Return the mean of (predicted − actual)² over each shopper's ratings, ≥ 0, lower is better.

    Both are (B, R), NaN in `actual` as padding; a shopper without a rating has NaN. For the error over all ratings
    at once, which lets shoppers with many ratings weigh more, pass them as one row. ValueError where the shapes
    differ, or where a prediction for a rating is NaN or infinite: leaving it out would flatter the model.
    Source: Herlocker et al. 2004, Evaluating collaborative filtering recommender systems.

    >>> mse([[3.0, 5.0], [4.0, 0.0]], [[4.0, 5.0], [2.0, np.nan]]).tolist()
    [0.5, 4.0]
    """
    ours, theirs = (np.asarray(a, dtype=np.float64) for a in (predicted, actual))
    if ours.shape != theirs.shape or ours.ndim != 2:
        raise ValueError(f"predicted {ours.shape} and actual {theirs.shape} must have the same shape (B, R)")
    rated = ~np.isnan(theirs)
    if not np.isfinite(ours[rated]).all():
        raise ValueError(
            f"{np.sum(~np.isfinite(ours[rated]))} predictions for given ratings are NaN or infinite"
        )
    if np.isinf(theirs).any():
        raise ValueError("a rating is infinite")
    errors = np.square(np.where(rated, ours, 0.0) - np.where(rated, theirs, 0.0)).sum(axis=1)
    count = rated.sum(axis=1)
    return np.divide(errors, count, out=np.full(len(ours), np.nan), where=count > 0)


def rmse(predicted: ArrayLike, actual: ArrayLike) -> Floats:
    """Return the square root of `mse`, in the unit of the ratings, ≥ 0, lower is better.

    >>> rmse([[3.0, 5.0, 1.0]], [[5.0, 4.0, 3.0]]).tolist()  # all ratings in one row
    [1.7320508075688772]
    """
    return np.sqrt(mse(predicted, actual))
