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
    Interval,
    mcnemar_exact,
    mean_interval,
    paired_difference,
    tango,
    wilson,
    wilson_clustered,
)

Z = float(norm.ppf(0.975))


@settings(deadline=None)
@given(
    st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.9, 0.95, 0.99])
)
def test_wilson_is_scipys(case: tuple[int, int], level: float) -> None:
    k, n = case
    known = binomtest(k, n).proportion_ci(level, method="wilson")
    assert wilson(k, n, level) == pytest.approx((known.low, known.high), abs=1e-12)


def test_wilson_keeps_width_at_the_ends_and_knows_nothing_of_no_items() -> None:
    assert wilson(0, 60) == (0.0, pytest.approx(Z**2 / (60 + Z**2)))
    assert wilson(60, 60).high == 1.0
    assert wilson(0, 0) == (0.0, 1.0)


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
    with pytest.raises(ValueError, match=r"6.* before, .*5.* after"):
        paired_difference(before, after[:5])


def test_paired_difference_of_nothing() -> None:
    change = paired_difference([], [])
    assert (change.difference, change.low, change.high, change.p, change.n) == (0, -1, 1, 1, 0)


def test_clusters_of_one_are_plain_items() -> None:
    correct = np.arange(40) % 3 == 0
    assert wilson_clustered(correct, np.arange(40)) == pytest.approx(wilson(correct.sum(), 40), rel=0.05)


def test_identical_items_in_a_cluster_count_once() -> None:
    once = np.arange(20) % 4 == 0
    low, high = wilson_clustered(np.repeat(once, 10), np.repeat(np.arange(20), 10))
    plain = wilson(once.sum(), 20)
    assert (low, high) == pytest.approx(plain, abs=0.01)
    assert wilson_clustered(np.ones(200), np.repeat(np.arange(20), 10)) == wilson(20, 20)


def test_one_cluster_is_one_item_and_none_is_nothing() -> None:
    assert wilson_clustered([1, 0, 1, 1], [7, 7, 7, 7]) == wilson(0.75, 1)
    assert wilson_clustered([], []) == (0, 1)


def test_mean_of_one_is_itself_and_of_symmetric_ones_adds_in_squares() -> None:
    mean, interval = mean_interval([0.3], [Interval(0.1, 0.6)])
    assert mean == pytest.approx(0.3) and interval == pytest.approx((0.1, 0.6))
    mean, interval = mean_interval([0.0, 0.4], [Interval(-0.3, 0.3), Interval(0.0, 0.8)])
    assert mean == pytest.approx(0.2) and interval == pytest.approx((0.2 - 0.25, 0.2 + 0.25))
    with pytest.raises(ValueError, match="2 estimates"):
        mean_interval([0, 1], [])
