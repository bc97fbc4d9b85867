"""Rates of right answers with intervals, for items that are independent and for items in clusters.

None has zero width at 0 % or 100 %, as a normal approximation around the observed rate would.
"""

from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm


class Interval(NamedTuple):
    """Lower and upper limit, in the unit of what is estimated."""

    low: float
    high: float


def wilson(k: float, n: float, level: float = 0.95) -> Interval:
    """Wilson's score interval of a rate: k successes among n (Wilson 1927); (0, 1) where n is 0.

    k and n may be fractions, for an effective sample size.
    """
    if n <= 0:
        return Interval(0.0, 1.0)
    z = quantile(level)
    rate, scale = k / n, 1 + z * z / n
    middle = (rate + z * z / (2 * n)) / scale
    half = z / scale * sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return Interval(0.0 if k <= 0 else middle - half, 1.0 if k >= n else middle + half)


def wilson_clustered(correct: ArrayLike, clusters: ArrayLike, level: float = 0.95) -> Interval:
    """Wilson's interval of a rate whose items come in clusters, such as several neighbours of one edit.

    The number of items is divided by the design effect, the ratio of the cluster-robust to the binomial
    variance, at least 1 (Korn and Graubard 1998). Where all items agree nothing can be said of the
    variance: then the clusters count, not the items.

    correct: (n,) bool. clusters: (n,) labels.
    """
    x = np.asarray(correct, dtype=float)
    if not x.size:
        return Interval(0.0, 1.0)
    rate, labels = float(x.mean()), np.asarray(clusters)
    effective = np.unique(labels).size if rate in (0.0, 1.0) else x.size / design_effect(x, labels)
    return wilson(rate * effective, effective, level)


def design_effect(values: ArrayLike, clusters: ArrayLike) -> float:
    """By how much the variance of a mean is larger than if items were independent, at least 1.

    The ratio of the cluster-robust to the plain variance; 1 where all values are equal. values: (n,).
    clusters: (n,) labels.
    """
    x = np.asarray(values, dtype=float)
    _, member = np.unique(np.asarray(clusters), return_inverse=True)
    residuals = x - x.mean()
    count, plain = int(member.max()) + 1, float((residuals**2).sum())
    if plain == 0 or count == x.size:
        return 1.0
    if count < 2:
        return float(x.size)
    sums = np.bincount(member, weights=residuals)
    return max(1.0, count / (count - 1) * float((sums**2).sum()) / plain)


def quantile(level: float) -> float:
    """Of the normal distribution: a share `level` lies within so many standard deviations of the mean."""
    return float(norm.ppf((1 + level) / 2))
