"""Rates and their intervals against scipy and closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm
from scipy.stats import t as student

from errata.stats.rates import effective_size, wilson, wilson_clustered

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


def test_clusters_of_one_are_plain_items() -> None:
    correct = np.arange(40) % 3 == 0
    assert wilson_clustered(correct, np.arange(40)) == wilson(correct.sum(), 40)


def test_identical_items_in_a_cluster_count_once() -> None:
    once, cluster = np.arange(20) % 4 == 0, np.repeat(np.arange(20), 10)
    few = Z / student.ppf(0.975, 19)
    effective = effective_size(np.repeat(once, 10), cluster)
    assert effective == pytest.approx(19 * few**2)
    assert wilson_clustered(np.repeat(once, 10), cluster) == pytest.approx(wilson(0.25 * effective, effective))
    assert wilson_clustered(np.ones(200), cluster) == wilson(20, 20)


def test_the_effective_size_is_the_ratio_of_two_variances() -> None:
    """Cluster by cluster, as the sandwich is defined."""
    random = np.random.default_rng(0)
    values, cluster = random.random(60), random.integers(0, 9, 60) // 2
    values += cluster
    parts = [(values[cluster == c] - values.mean()).sum() ** 2 for c in np.unique(cluster)]
    robust = len(parts) / (len(parts) - 1) * sum(parts) / 60**2
    plain = ((values - values.mean()) ** 2).sum() / 60**2
    few = Z / student.ppf(0.975, len(parts) - 1)
    assert effective_size(values, cluster) == pytest.approx(60 * plain / robust * few**2)


def test_items_never_tell_more_than_they_are() -> None:
    opposed = np.tile([0.0, 1.0], 30)
    assert effective_size(opposed, np.repeat(np.arange(30), 2)) == 60
    assert effective_size(np.ones(10), np.repeat([0, 1], 5)) == 10
    assert effective_size([0, 1, 1], [4, 4, 4]) == 1


def test_one_cluster_is_one_item_and_none_is_nothing() -> None:
    assert wilson_clustered([1, 0, 1, 1], [7, 7, 7, 7]) == wilson(0.75, 1)
    assert wilson_clustered([], []) == (0, 1)
