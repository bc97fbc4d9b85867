"""The bootstrap against its exact distribution and against the literal one."""

import numpy as np
import pytest
from scipy.stats import binom

from errata.stats.bootstrap import bootstrap_mean


def test_of_right_and_wrong_it_is_a_binomial() -> None:
    """Resampling k rights among n is n draws at rate k / n."""
    found = bootstrap_mean(np.arange(200) < 60, np.arange(200))
    assert found == pytest.approx(binom.ppf([0.025, 0.975], 200, 0.3) / 200, abs=0.005)


def test_clusters_are_drawn_whole() -> None:
    random = np.random.default_rng(1)
    cluster = random.integers(0, 12, 90)
    values = random.random(90) + 0.1 * cluster
    means = []
    for _ in range(4000):
        drawn = random.integers(0, 12, 12)
        rows = np.concatenate([np.flatnonzero(cluster == c) for c in drawn])
        means.append(values[rows].mean())
    assert bootstrap_mean(values, cluster) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.02)


def test_same_items_same_interval() -> None:
    values = np.random.default_rng(2).random(50)
    assert bootstrap_mean(values, range(50)) == bootstrap_mean(values, range(50))
    np.random.seed(3)
    state = np.random.get_state()[1].copy()  # type: ignore[index]
    bootstrap_mean(values, range(50))
    assert (np.random.get_state()[1] == state).all()  # type: ignore[index]


def test_in_parts_it_is_the_same_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(2).random(40)
    whole = bootstrap_mean(values, range(40))
    monkeypatch.setattr("errata.stats.bootstrap.AT_ONCE", 4000)
    assert bootstrap_mean(values, range(40)) == whole


def test_what_does_not_vary_has_no_width_and_nothing_no_limits() -> None:
    assert bootstrap_mean(np.zeros(30), range(30)) == (0, 0)
    assert bootstrap_mean([], []) == (-np.inf, np.inf)
