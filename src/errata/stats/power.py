"""What a sample can show: power of the paired test, the smallest change it finds, the items a margin takes."""

from math import ceil

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binom, norm

NEGLIGIBLE = 1e-12
"""Probability of what is left out of a sum over how many items change."""


def mcnemar_power(n: int, loss: float, gain: float, alpha: float = 0.05) -> float:
    """The chance that McNemar's exact two-sided test rejects at `alpha`, exactly.

    n: items. loss, gain: rates at which an item becomes wrong, becomes right; they sum to at most 1. Summed over
    the number of items that change, and given it, over how many are losses (Miettinen 1968).
    """
    churn = loss + gain
    if churn <= 0:
        return 0.0
    first, last = binom.ppf([NEGLIGIBLE, 1 - NEGLIGIBLE], n, min(churn, 1.0)).astype(int)
    changed = np.arange(max(first, 1), last + 1)
    # The largest number of items on the rarer side at which p is still at most alpha; -1 if there is none.
    few = binom.ppf(alpha / 2, changed, 0.5)
    few -= 2 * binom.cdf(few, changed, 0.5) > alpha
    share = loss / churn
    rejects = binom.cdf(few, changed, share) + binom.sf(changed - few - 1, changed, share)
    return float((binom.pmf(changed, n, min(churn, 1.0)) * rejects).sum())


def detectable_change(n: int, exchange: float = 0.0, alpha: float = 0.05, power: float = 0.8) -> float | None:
    """The smallest change of accuracy that McNemar's exact test finds with the given power; None if there is none.

    n: items. exchange: the rate at which items become wrong, and the rate at which others become right, besides
    the change. alpha: of the two-sided test; divided by the number of benchmarks where Holm corrects for them.
    """
    largest = 1 - 2 * exchange
    if n < 1 or largest <= 0 or mcnemar_power(n, exchange + largest, exchange, alpha) < power:
        return None
    return float(
        brentq(lambda change: mcnemar_power(n, exchange + change, exchange, alpha) - power, 0.0, largest, xtol=1e-6)
    )


def items_needed(margin: float, churn: float = 0.05, level: float = 0.95) -> int:
    """Items that exclude a loss of `margin` if a share `churn` of answers changes, half of them for worse.

    From the standard error of a paired change, sqrt(churn / n), as a round upper figure.
    """
    z = float(norm.ppf(level))
    return ceil(churn * (z / margin) ** 2 / 10) * 10
