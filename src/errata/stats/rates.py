"""Rates of right answers with intervals, for items that are independent and for items in clusters.

None has zero width at 0 % or 100 %, as a normal approximation around the observed rate would.
"""

from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm
from scipy.stats import t as student


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

    With the effective number of items (`effective_size`). Where all items agree nothing can be said of the
    variance: then the clusters count, not the items. correct: (n,) bool. clusters: (n,) labels.
    """
    x, labels = np.asarray(correct, dtype=float), np.asarray(clusters)
    if not x.size:
        return Interval(0.0, 1.0)
    rate = float(x.mean())
    effective = np.unique(labels).size if rate in (0.0, 1.0) else effective_size(x, labels, level)
    return wilson(rate * effective, effective, level)


def effective_size(values: ArrayLike, clusters: ArrayLike, level: float = 0.95) -> float:
    """How many independent items would tell as much of the mean as these in clusters, at most n.

    n over the design effect, the ratio of the cluster-robust to the plain variance, less what Student's t takes
    for so few clusters at `level` (Korn and Graubard 1998). n where all values are equal or each item is a cluster
    of its own, 1 where there is one cluster. values: (n,). clusters: (n,) labels.
    """
    x = np.asarray(values, dtype=float)
    _, member = np.unique(np.asarray(clusters), return_inverse=True)
    residuals, count = x - x.mean(), int(member.max()) + 1
    plain = float((residuals**2).sum())
    if plain == 0 or count == x.size:
        return float(x.size)
    if count < 2:
        return 1.0
    robust = count / (count - 1) * float((np.bincount(member, weights=residuals) ** 2).sum())
    few = quantile(level) / float(student.ppf((1 + level) / 2, count - 1))
    return min(1.0, plain / robust * few**2) * x.size if robust else float(x.size)


def quantile(level: float) -> float:
    """Of the normal distribution: a share `level` lies within so many standard deviations of the mean."""
    return float(norm.ppf((1 + level) / 2))
