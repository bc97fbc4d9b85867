"""Changes of the same items before and after: how large, how sure, and what is excluded.

For items that are right or wrong all of it is exact or score based: no normal approximation around an
observed rate, which would give an interval without width where no item changed. Items with scores in
between, such as F1, have the interval of a mean (`score_interval`). docs/statistics.md defines every quantity.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.stats import beta, binom, norm

from errata.stats.bootstrap import bootstrap_mean
from errata.stats.means import over_orders, score_interval
from errata.stats.rates import Interval, effective_size, quantile

ENDS = (-1.0, 1.0)
"""Of the scale of a change."""

Verdict = Literal["equivalent", "no harm", "harm", "undecided"]


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change of accuracy, after minus before, and what the items exclude.

    difference, low, high: in [-1, 1]; two-sided 95 % limits.
    above, below: one-sided 95 % limits, each: the change is above `above`; it is below `below`.
    n: items in common. before: accuracy before.
    """

    difference: float
    low: float
    high: float
    above: float
    below: float
    n: int
    before: float


@dataclass(frozen=True, kw_only=True)
class PairedDifference(Change):
    """How the accuracy of the same items changed. For right and wrong the limits are Tango's.

    boot_low, boot_high: 95 % limits of the percentile bootstrap.
    p: McNemar's exact two-sided test of no change.
    broke, fixed: items that became worse, better.
    effective: how many independent items would tell as much, at most n.
    """

    boot_low: float
    boot_high: float
    p: float
    broke: int
    fixed: int
    effective: float


NOTHING = PairedDifference(
    difference=0.0,
    low=-1.0,
    high=1.0,
    above=-1.0,
    below=1.0,
    n=0,
    before=0.0,
    boot_low=-1.0,
    boot_high=1.0,
    p=1.0,
    broke=0,
    fixed=0,
    effective=0.0,
)
"""The change of no items."""


def paired_difference(
    before: ArrayLike, after: ArrayLike, clusters: ArrayLike | None = None, level: float = 0.95
) -> PairedDifference:
    """Change of accuracy on the same items.

    before, after: (n,) right or wrong, or scores in [0, 1], item by item. clusters: (n,) labels of items that
    may change together; the limits then count fewer items (`effective_size`). The test is of these items:
    McNemar's, for scores of whether better or worse. ValueError if the items differ in number.
    """
    old, new = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
    if old.shape != new.shape:
        raise ValueError(f"paired items differ in number: {old.shape} before, {new.shape} after")
    if not old.size:
        return NOTHING
    groups = np.arange(old.size) if clusters is None else np.asarray(clusters)
    change = new - old
    broke, fixed = int((change < 0).sum()), int((change > 0).sum())
    (low, high), (above, below) = _limits(change, groups, level)
    boot_low, boot_high = bootstrap_mean(change, groups, level)
    return PairedDifference(
        difference=float(change.mean()),
        low=low,
        high=high,
        above=above,
        below=below,
        n=old.size,
        before=float(old.mean()),
        boot_low=boot_low,
        boot_high=boot_high,
        p=mcnemar_exact(broke, fixed),
        broke=broke,
        fixed=fixed,
        effective=effective_size(change, groups, level),
    )


def _limits(change: NDArray[np.float64], clusters: NDArray[Any], level: float) -> tuple[Interval, Interval]:
    """Two-sided, and one-sided each."""
    if not np.isin(change, (-1.0, 0.0, 1.0)).all():
        return score_interval(change, clusters, ENDS, level), score_interval(change, clusters, ENDS, 2 * level - 1)
    scale = effective_size(change, clusters, level) / change.size
    counts = scale * (change < 0).sum(), scale * (change > 0).sum(), scale * change.size
    return tango(*counts, level), one_sided(*counts, level)


def pooled_difference(
    before: ArrayLike, after: ArrayLike, clusters: ArrayLike, orders: ArrayLike, level: float = 0.95
) -> Change:
    """Mean change over several orders of the same edits, for other items and other orders than these.

    The items' part takes what one item did in all orders as one cluster; where nothing changed in any order, one
    order tells as much as all. The orders' part is Student's (`over_orders`). before, after: (m,), m > 0, a row for
    each item in each order. clusters: (m,) labels, the item or what it goes together with. orders: (m,) labels.
    n of the result: items of the largest order.
    """
    old, new, groups = np.asarray(before, dtype=float), np.asarray(after, dtype=float), np.asarray(clusters)
    _, member, counts = np.unique(np.asarray(orders), return_inverse=True, return_counts=True)
    change = new - old
    rows = np.full(old.size, True) if change.any() else member == counts.argmax()
    two, one = _limits(change[rows], groups[rows], level)
    value, means = float(change.mean()), np.bincount(member, weights=change) / counts
    low, high = over_orders(value, two, means, level)
    above, below = over_orders(value, one, means, 2 * level - 1)
    return Change(
        difference=value,
        low=max(low, -1.0),
        high=min(high, 1.0),
        above=max(above, -1.0),
        below=min(below, 1.0),
        n=int(counts.max()),
        before=float(old.mean()),
    )


def mcnemar_exact(broke: int, fixed: int) -> float:
    """McNemar's exact two-sided p: were losses and gains equally likely among the items that changed?"""
    return min(1.0, 2 * float(binom.cdf(min(broke, fixed), broke + fixed, 0.5)))


def tango(broke: float, fixed: float, n: float, level: float = 0.95) -> Interval:
    """Score interval of a paired difference of rates, fixed minus broke over n (Tango 1998).

    Chosen over Newcombe's, which has no width where no item changed and half of them are right: there
    this one still allows changes of z²/(n + z²), as few items should. Counts may be fractions, for an
    effective number of items.
    """
    if n <= 0:
        return Interval(-1.0, 1.0)
    z, estimate = quantile(level), (fixed - broke) / n

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


def one_sided(broke: float, fixed: float, n: float, level: float = 0.95) -> Interval:
    """Limits that the change is above and below, at `level` confidence each.

    Tango's, but never inside those of Clopper and Pearson (1934) for the net number of items that changed, which
    are exact where nothing changes the other way: there the score alone errs in up to 7 % of cases instead of 5 %
    if items are few. With them it is 5.25 % at most (tests/stats/test_simulation.py).
    """
    low, high = tango(broke, fixed, n, 2 * level - 1)
    return Interval(min(low, -_most(broke - fixed, n, level)), max(high, _most(fixed - broke, n, level)))


def _most(net: float, n: float, level: float) -> float:
    """Clopper and Pearson's upper limit of a rate seen `net` times among n; below 0 it goes on as for 0."""
    count = max(net, 0.0)
    limit = 1.0 if count >= n else float(beta.ppf(level, count + 1, n - count))
    return limit + (net - count) / n if n else 1.0


def loss_p(broke: float, fixed: float, n: float, margin: float) -> float:
    """p of the hypothesis that accuracy fell by `margin` or more; small p excludes it. Inverse of `one_sided`."""
    count = max(broke - fixed, 0.0)
    if n <= count:
        return 1.0
    exact = float(beta.sf(margin + (count - (broke - fixed)) / n, count + 1, n - count))
    return max(float(norm.sf(_score(-margin, broke, fixed, n))), exact)


def tost(broke: float, fixed: float, n: float, margin: float) -> float:
    """p of two one-sided tests (Schuirmann 1987): small p shows a change by less than `margin` either way."""
    return max(loss_p(broke, fixed, n, margin), loss_p(fixed, broke, n, margin))


def verdict(change: Change, margin: float) -> Verdict:
    """What is shown at the margin, with 95 % confidence.

    "equivalent": a change by `margin` or more is excluded either way (TOST). "no harm": such a loss is, such a
    gain is not. "harm": accuracy fell by more than `margin`. "undecided": none of these is shown.
    """
    if not change.n:
        return "undecided"
    if change.below < -margin:
        return "harm"
    if change.above <= -margin:
        return "undecided"
    return "equivalent" if change.below < margin else "no harm"
