"""Intervals and tests against closed forms, scipy, published examples and brute force."""

from itertools import product
from math import comb, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binom, binomtest, norm

from errata.stats.paired import (
    Change,
    loss_p,
    mcnemar_exact,
    one_sided,
    paired_difference,
    pooled_difference,
    tango,
    tost,
    verdict,
)
from errata.stats.rates import effective_size

Z = float(norm.ppf(0.975))


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_the_sum_over_all_splits(broke: int, fixed: int) -> None:
    n = broke + fixed
    seen = comb(n, broke)
    brute = sum(comb(n, k) for k in range(n + 1) if comb(n, k) <= seen) / 2**n
    assert mcnemar_exact(broke, fixed) == pytest.approx(brute, rel=1e-9)


def test_tango_published_examples() -> None:
    """Fagerland, Lydersen and Laake (2014), table of airway hyper-responsiveness: 1, 1, 7, 12 of 21."""
    assert tango(7, 1, 21) == pytest.approx((-0.517, -0.026), abs=5e-4)


@pytest.mark.parametrize("n", [1, 10, 60, 1000])
def test_tango_without_changes_is_a_closed_form(n: int) -> None:
    width = Z**2 / (n + Z**2)
    assert tango(0, 0, n) == pytest.approx((-width, width), abs=1e-9)


@pytest.mark.parametrize(("broke", "fixed", "n"), [(7, 1, 21), (0, 5, 30), (12, 0, 12), (3, 3, 60), (40, 20, 100)])
def test_tango_limits_are_where_the_brute_force_score_meets_z(broke: int, fixed: int, n: int) -> None:
    for limit, sign in zip(tango(broke, fixed, n), (1, -1), strict=True):
        if abs(limit) < 1:
            assert brute_score(limit, broke, fixed, n) == pytest.approx(sign * Z, abs=1e-3)


def brute_score(difference: float, broke: int, fixed: int, n: int) -> float:
    """The constrained likelihood maximised numerically instead of by the quadratic."""

    def minus_log_likelihood(loss: float) -> float:
        same, gain = 1 - 2 * loss - difference, loss + difference
        return -sum(
            k * np.log(max(p, 1e-300)) for k, p in ((broke, loss), (fixed, gain), (n - broke - fixed, same)) if k
        )

    bounds = (max(0.0, -difference), (1 - difference) / 2)
    loss = minimize_scalar(minus_log_likelihood, bounds=bounds, method="bounded", options={"xatol": 1e-13}).x
    return (fixed - broke - n * difference) / sqrt(n * (2 * loss + difference * (1 - difference)))


@settings(deadline=None)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30))
def test_tango_contains_the_estimate_and_mirrors(broke: int, fixed: int, same: int) -> None:
    n = broke + fixed + same
    low, high = tango(broke, fixed, n)
    assert -1 <= low <= high <= 1
    if n:
        assert low <= (fixed - broke) / n <= high
    assert tango(fixed, broke, n) == pytest.approx((-high, -low), abs=1e-8)


def test_tango_covers_in_an_exact_enumeration() -> None:
    """Sum of the multinomial probabilities of all outcomes whose interval holds the truth, n = 30."""
    n, loss, gain = 30, 0.15, 0.05
    covered = 0.0
    for broke, fixed in product(range(n + 1), range(n + 1)):
        if broke + fixed > n:
            continue
        low, high = tango(broke, fixed, n)
        if low <= gain - loss <= high:
            covered += binom.pmf(broke, n, loss) * binom.pmf(fixed, n - broke, gain / (1 - loss))
    assert 0.93 < covered < 0.97


def test_paired_difference_counts() -> None:
    before, after = [1, 1, 1, 0, 0, 1], [1, 0, 0, 0, 1, 0]
    change = paired_difference(before, after)
    assert (change.broke, change.fixed, change.n) == (3, 1, 6)
    assert change.difference == pytest.approx(-2 / 6) and change.before == pytest.approx(4 / 6)
    assert change.p == pytest.approx(binomtest(3, 4).pvalue)
    assert (change.low, change.high) == tango(3, 1, 6)
    assert (change.above, change.below) == one_sided(3, 1, 6)
    assert change.effective == 6 and change.boot_low <= change.difference <= change.boot_high
    with pytest.raises(ValueError, match=r"6.* before, .*5.* after"):
        paired_difference(before, after[:5])


def test_paired_difference_of_nothing() -> None:
    change = paired_difference([], [])
    assert (change.difference, change.low, change.high, change.p, change.n) == (0, -1, 1, 1, 0)


@pytest.mark.parametrize(("broke", "fixed", "n"), [(0, 0, 60), (3, 1, 200), (0, 9, 100), (40, 20, 400)])
def test_one_sided_limits_are_where_the_test_is_at_its_level(broke: int, fixed: int, n: int) -> None:
    above, below = one_sided(broke, fixed, n)
    if above < 0:
        assert loss_p(broke, fixed, n, -above) == pytest.approx(0.05, abs=1e-6)
    if below > 0:
        assert loss_p(fixed, broke, n, below) == pytest.approx(0.05, abs=1e-6)


def test_without_changes_the_one_sided_limit_is_exact() -> None:
    """A loss of q leaves n items unchanged with probability (1 - q)**n at most."""
    above, below = one_sided(0, 0, 60)
    assert (1 + above) ** 60 == pytest.approx(0.05) and below == pytest.approx(-above)


def test_a_loss_where_much_changed_to_and_fro_is_tangos() -> None:
    assert one_sided(60, 55, 400).low == tango(60, 55, 400, 0.90).low
    assert loss_p(60, 55, 400, 0.05) > loss_p(5, 0, 400, 0.05)
    assert loss_p(0, 0, 0, 0.05) == loss_p(30, 0, 30, 0.05) == 1.0


def test_tost_is_the_worse_of_two_tests() -> None:
    assert tost(3, 1, 400, 0.05) == loss_p(3, 1, 400, 0.05) > loss_p(1, 3, 400, 0.05)
    assert tost(1, 3, 400, 0.05) == tost(3, 1, 400, 0.05)


@pytest.mark.parametrize(
    ("above", "below", "n", "expected"),
    [
        (-0.02, 0.03, 100, "equivalent"),
        (-0.02, 0.08, 100, "no harm"),
        (-0.08, 0.03, 100, "undecided"),
        (-0.20, -0.06, 100, "harm"),
        (-0.05, 0.03, 100, "undecided"),
        (-0.02, 0.03, 0, "undecided"),
    ],
)
def test_verdicts_at_five_points(above: float, below: float, n: int, expected: str) -> None:
    change = Change(difference=0, low=-1, high=1, above=above, below=below, n=n, before=0.5)
    assert verdict(change, 0.05) == expected


def test_a_verdict_is_the_tests() -> None:
    """Limits within the margin are p-values below 5 %, for every outcome of 40 items."""
    for broke, fixed in product(range(0, 8), range(0, 8)):
        change = paired_difference(
            [1] * broke + [0] * (40 - broke), [0] * broke + [1] * fixed + [0] * (40 - broke - fixed)
        )
        assert (verdict(change, 0.1) == "equivalent") == (tost(broke, fixed, 40, 0.1) < 0.05)


def test_items_of_a_cluster_count_less() -> None:
    before, cluster = np.ones(200), np.repeat(np.arange(20), 10)
    after = np.where(cluster < 3, 0.0, 1.0)
    together, apart = paired_difference(before, after, cluster), paired_difference(before, after)
    assert together.effective == effective_size(after - before, cluster) < 20
    scale = together.effective / 200
    assert (together.low, together.high) == tango(30 * scale, 0, 200 * scale)
    assert together.low < apart.low and together.boot_low < apart.boot_low
    assert together.p == apart.p == mcnemar_exact(30, 0)


def test_scores_between_right_and_wrong() -> None:
    random = np.random.default_rng(0)
    before = random.random(300)
    after = np.clip(before - 0.1 * random.random(300), 0, 1)
    change = paired_difference(before, after)
    assert change.difference == pytest.approx((after - before).mean())
    assert -0.06 < change.low < change.difference < change.high < -0.035
    assert change.low < change.above and change.below < change.high
    assert change.broke == (after < before).sum() and change.p < 1e-6


def pooled(changes: list[list[float]], same_items: bool = True) -> Change:
    """One row of changes for each order; all items right before."""
    table = np.array(changes)
    orders, items = np.indices(table.shape)
    clusters = items if same_items else items + table.shape[1] * orders
    return pooled_difference(np.ones(table.size), 1 + table.ravel(), clusters.ravel(), orders.ravel())


def test_orders_that_do_the_same_tell_no_more_than_one() -> None:
    order = [-1.0] * 6 + [0.0] * 94
    one, three = paired_difference(np.ones(100), 1 + np.array(order)), pooled([order] * 3)
    assert three.difference == one.difference and three.n == 100
    assert three.low == pytest.approx(one.low, abs=0.003) and three.low < one.low
    nothing = pooled([[0.0] * 60] * 4)
    assert (nothing.low, nothing.high) == tango(0, 0, 60) and (nothing.above, nothing.below) == one_sided(0, 0, 60)


def test_orders_on_other_items_tell_more() -> None:
    order = [-1.0] * 6 + [0.0] * 94
    assert pooled([order] * 3, same_items=False).low == tango(18, 0, 300).low


def test_orders_that_differ_are_wide() -> None:
    rare, often = [-1.0] * 2 + [0.0] * 98, [-1.0] * 30 + [0.0] * 70
    change = pooled([rare, rare, often])
    assert change.low < -0.45 and change.above < -0.35 and change.high > 0.15
