"""The bootstrap of curves: the same items at several checkpoints, drawn together (Efron 1979)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from errata.stats.rates import Interval

RESAMPLES = 2000
Samples = NDArray[np.float64]


def resampled_means(values: ArrayLike, seed: int = 0, resamples: int = RESAMPLES) -> Samples:
    """Column means of `values` with its rows drawn anew. (resamples, k)

    values: (n, k), n > 0: an item at k checkpoints, or in k models. Equal rows are drawn together, by multinomial
    counts, so that right and wrong cost few of them.
    """
    kinds, times = np.unique(np.asarray(values, dtype=float), axis=0, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(times.sum(), times / times.sum(), size=resamples)
    return np.asarray(drawn @ kinds / times.sum())


def kept(means: ArrayLike) -> Samples:
    """Scores as shares of the first column, the unedited model's; NaN where that is 0. (..., k)"""
    found = np.asarray(means, dtype=float)
    first = found[..., :1]
    return np.asarray(np.divide(found, first, out=np.full_like(found, np.nan), where=first > 0))


def percentile_interval(samples: ArrayLike, level: float = 0.95) -> Interval:
    """The middle `level` of the samples, NaN left out; (-inf, inf) where nothing is left."""
    found = np.asarray(samples, dtype=float)
    found = found[~np.isnan(found)]
    if not found.size:
        return Interval(-np.inf, np.inf)
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def log_mean(shares: ArrayLike, edits: Sequence[int]) -> Samples:
    """Mean of a curve over log(1 + edits), by trapezoids: the area under it, as a share of the whole. (...)

    shares: (..., k). edits: k numbers, ascending.
    """
    x = np.log1p(np.asarray(edits, dtype=float))
    return np.asarray(np.trapezoid(np.asarray(shares, dtype=float), x, axis=-1) / (x[-1] - x[0]))


def slope(means: ArrayLike, x: ArrayLike) -> Samples:
    """Least-squares slope of the columns over x. (...) means: (..., k). x: (k,), not all equal."""
    places = np.asarray(x, dtype=float)
    places = places - places.mean()
    return np.asarray(np.asarray(means, dtype=float) @ places / (places @ places))
