"""Means of scores, and means over several orders of the same edits."""

from collections.abc import Sequence
from math import hypot, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

from errata.stats.rates import Interval


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


def by_weight(values: ArrayLike, weights: ArrayLike) -> NDArray[np.float64]:
    """(n,) numbers whose plain mean is the mean of `values` by weight, and whose spread is that of this ratio.

    Linearised (Taylor): the mean plus each deviation from it times its relative weight. Where all weights are 1,
    `values` themselves; 0 where all are 0. values, weights: (n,).
    """
    x, w = np.asarray(values, dtype=float), np.asarray(weights, dtype=float)
    if (w == 1).all():
        return x
    if not w.any():
        return np.zeros_like(x)
    mean = np.average(x, weights=w)
    return np.asarray(mean + w / w.mean() * (x - mean))


def score_interval(
    values: ArrayLike, clusters: ArrayLike, ends: tuple[float, float] = (0.0, 1.0), level: float = 0.95
) -> Interval:
    """Interval of the mean of scores such as F1, by Student's t on the cluster-robust variance.

    Two more values, one at each end of the scale, give a width where all values are equal, as Bonett and Price
    (2012) do for changes of rights and wrongs. values: (n,) in `ends`, not empty. clusters: (n,) labels.
    """
    x, member = np.asarray(values, dtype=float), np.unique(np.asarray(clusters), return_inverse=True)[1]
    y, member = np.append(x, ends), np.append(member, member.max() + np.array([1, 2]))
    middle, degrees = float(y.mean()), int(member.max())
    sums = np.bincount(member, weights=y - middle)
    half = float(student.ppf((1 + level) / 2, degrees)) * sqrt((1 + 1 / degrees) * float((sums**2).sum())) / y.size
    return Interval(max(ends[0], middle - half), min(ends[1], middle + half))


def over_orders(value: float, items: Interval, means: ArrayLike, level: float = 0.95) -> Interval:
    """`items`, the interval of `value` for other items in these orders, widened for other orders.

    Squared and added to Student's half width of the mean over orders (MOVER). What an item does in one order alone
    counts in both, so that the limits hold at least as often as stated. means: (k,), the value in each order.
    """
    found = np.asarray(means, dtype=float)
    if found.size < 2:
        return items
    half = float(student.ppf((1 + level) / 2, found.size - 1)) * float(found.std(ddof=1)) / sqrt(found.size)
    return Interval(value - hypot(value - items.low, half), value + hypot(items.high - value, half))


def micro_macro(score: ArrayLike, weight: ArrayLike, kinds: Sequence[str]) -> tuple[float, float | None]:
    """Mean over all items, and the mean of the means of the kinds of items; no second one where there is one kind.

    score, weight, kinds: (n,), n > 0; items of weight 0 count for nothing, and so does a kind of nothing else.
    """
    _, member = np.unique(np.asarray(kinds), return_inverse=True)
    weights = np.asarray(weight, dtype=float)
    total, sums = np.bincount(member, weights), np.bincount(member, weights * np.asarray(score, dtype=float))
    held = total > 0
    micro = float(sums.sum() / total.sum()) if held.any() else 0.0
    return micro, float((sums[held] / total[held]).mean()) if held.sum() > 1 else None
