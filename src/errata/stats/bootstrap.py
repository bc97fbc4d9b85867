"""The bootstrap of a mean over items, or over clusters of items (Efron 1979)."""

import numpy as np
from numpy.typing import ArrayLike

from errata.stats.rates import Interval

RESAMPLES = 10_000
AT_ONCE = 4_000_000
"""Counts held in memory at the same time."""


def bootstrap_mean(
    values: ArrayLike, clusters: ArrayLike, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Percentile interval of the mean of `values`, whole clusters drawn with replacement.

    values: (n,). clusters: (n,) labels; all different for independent items. Clusters that are alike in sum and
    size are drawn together, by multinomial counts, so that right and wrong cost three counts, not n.
    It has no width where all values are equal; (-inf, inf) where there is none.
    """
    x = np.asarray(values, dtype=float)
    if not x.size:
        return Interval(-np.inf, np.inf)
    _, member = np.unique(np.asarray(clusters), return_inverse=True)
    pairs = np.stack([np.bincount(member, weights=x), np.bincount(member)], axis=1)
    kinds, times = np.unique(pairs, axis=0, return_counts=True)
    generator, rows = np.random.default_rng(seed), max(1, AT_ONCE // len(kinds))
    means = []
    for start in range(0, resamples, rows):
        drawn = generator.multinomial(times.sum(), times / times.sum(), size=min(rows, resamples - start))
        sums, sizes = (drawn @ kinds).T
        means.append(sums / sizes)
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))
