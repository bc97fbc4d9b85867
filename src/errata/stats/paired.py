"""Rates with intervals, and changes of the same items before and after.

All of it is exact or score based: no normal approximation around an observed rate, which would give an
interval without width at 0 % or 100 %, or where no item changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.stats import binomtest, norm


class Interval(NamedTuple):
    """Lower and upper limit, in the unit of what is estimated."""

    low: float
    high: float


@dataclass(frozen=True)
class PairedDifference:
    """How the accuracy of the same items changed, after minus before.

    difference, low, high: in [-1, 1]; the limits are Tango's score interval.
    p: McNemar's exact two-sided test of no change.
    broke, fixed: items right only before, right only after. n: items in common. before: accuracy before.
    effective: the number of independent items with as much information, at most n.
    """

    difference: float
    low: float
    high: float
    p: float
    broke: int
    fixed: int
    n: int
    before: float
    effective: float


def wilson(k: float, n: float, level: float = 0.95) -> Interval:
    """Wilson's score interval of a rate: k successes among n (Wilson 1927); (0, 1) where n is 0.

    k and n may be fractions, for an effective sample size.
    """
    if n <= 0:
        return Interval(0.0, 1.0)
    z = _z(level)
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
    rate = float(x.mean())
    _, member = np.unique(np.asarray(clusters), return_inverse=True)
    count = int(member.max()) + 1
    effective = float(count) if rate in (0.0, 1.0) else x.size / _design_effect(x - rate, member, rate)
    return wilson(rate * effective, effective, level)


def _design_effect(residuals: NDArray[np.float64], member: NDArray[np.intp], rate: float) -> float:
    sums = np.bincount(member, weights=residuals)
    count = len(sums)
    if count < 2:
        return float(len(residuals))
    robust = count / (count - 1) * float((sums**2).sum()) / len(residuals) ** 2
    binomial = rate * (1 - rate) / len(residuals)
    return max(1.0, robust / binomial)


def mcnemar_exact(broke: int, fixed: int) -> float:
    """McNemar's exact two-sided p: were losses and gains equally likely among the items that changed?"""
    changed = broke + fixed
    return float(binomtest(broke, changed, 0.5).pvalue) if changed else 1.0


def paired_difference(
    before: ArrayLike, after: ArrayLike, clusters: ArrayLike | None = None, level: float = 0.95
) -> PairedDifference:
    """Change of accuracy on the same items.

    before, after: (n,) bool, item by item. clusters: (n,) labels of items that may change together; the limits then
    count fewer items, by the design effect. The test is of these items.
    """
    old, new = np.asarray(before, dtype=bool), np.asarray(after, dtype=bool)
    if old.shape != new.shape:
        raise ValueError(f"paired items differ in number: {old.shape} before, {new.shape} after")
    n, broke, fixed = old.size, int((old & ~new).sum()), int((~old & new).sum())
    effect = 1.0 if clusters is None else _effect_of_change(new.astype(float) - old, clusters)
    low, high = tango(broke / effect, fixed / effect, n / effect, level)
    difference = (fixed - broke) / n if n else 0.0
    before_all = float(old.mean()) if n else 0.0
    return PairedDifference(difference, low, high, mcnemar_exact(broke, fixed), broke, fixed, n, before_all, n / effect)


def _effect_of_change(change: NDArray[np.float64], clusters: ArrayLike) -> float:
    """Ratio of the cluster-robust to the simple variance of the mean change; where none changed, clusters count."""
    if not change.size:
        return 1.0
    _, member = np.unique(np.asarray(clusters), return_inverse=True)
    count, spread = int(member.max()) + 1, float(change.var())
    if count < 2 or spread == 0:
        return change.size / count
    sums = np.bincount(member, weights=change - change.mean())
    return max(1.0, count / (count - 1) * float((sums**2).sum()) / (change.size * spread))


def tango(broke: float, fixed: float, n: float, level: float = 0.95) -> Interval:
    """Score interval of a paired difference of rates, fixed minus broke over n (Tango 1998).

    Chosen over Newcombe's, which has no width where no item changed and half of them are right: there
    this one still allows changes of z²/(n + z²), as few items should.
    """
    if n <= 0:
        return Interval(-1.0, 1.0)
    z, estimate = _z(level), (fixed - broke) / n

    def low(difference: float) -> float:
        return _score(difference, broke, fixed, n) - z

    def high(difference: float) -> float:
        return _score(difference, broke, fixed, n) + z

    edge = 1 - 1e-12
    return Interval(
        brentq(low, -edge, estimate, xtol=1e-12) if low(-edge) > 0 > low(estimate) else -1.0,
        brentq(high, estimate, edge, xtol=1e-12) if high(edge) < 0 < high(estimate) else 1.0,
    )


def _score(difference: float, broke: float, fixed: float, n: float) -> float:
    """Tango's statistic of the hypothesis that the true difference is `difference`."""
    spread = n * (2 * _loss_rate(difference, broke, fixed, n) + difference * (1 - difference))
    distance = fixed - broke - n * difference
    return distance / sqrt(spread) if spread > 0 else (0.0 if distance == 0 else np.copysign(np.inf, distance))


def _loss_rate(difference: float, broke: float, fixed: float, n: float) -> float:
    """Most likely rate of losses if the rate of gains is larger by `difference`."""
    b = -fixed - broke + (2 * n - fixed + broke) * difference
    c = -broke * difference * (1 - difference)
    return (sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)


def mean_interval(estimates: Sequence[float], intervals: Sequence[Interval]) -> tuple[float, Interval]:
    """Unweighted mean of independent estimates and its interval, from the limits of each.

    Square and add (Zou and Donner 2008, MOVER): keeps the asymmetry of each interval, and keeps a width
    where a bootstrap has none because no item changed.
    """
    if not estimates or len(estimates) != len(intervals):
        raise ValueError(f"a mean of {len(estimates)} estimates needs as many intervals, found {len(intervals)}")
    middle, (low, high) = np.asarray(estimates), np.asarray(intervals).T
    n, mean = len(middle), float(middle.mean())
    return mean, Interval(
        mean - float(np.sqrt(((middle - low) ** 2).sum())) / n, mean + float(np.sqrt(((high - middle) ** 2).sum())) / n
    )


def _z(level: float) -> float:
    return float(norm.ppf((1 + level) / 2))
