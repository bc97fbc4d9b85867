"""What the statistics promise, checked by simulation: 10,000 replications, within Monte-Carlo error.

Intervals cover and tests reject at their nominal rate where nothing happens; known effects are found at the
predicted power; the safe horizon reaches too far in no more than 5 % of cases.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from functools import cache
from math import sqrt

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from errata.stats.bootstrap import bootstrap_mean
from errata.stats.curves import safe_horizon
from errata.stats.families import holm
from errata.stats.means import score_interval
from errata.stats.paired import Change, mcnemar_exact, one_sided, pooled_difference, tango, tost
from errata.stats.power import detectable_change, mcnemar_power
from errata.stats.rates import effective_size, wilson, wilson_clustered

REPLICATIONS = 10_000

Event = Callable[[int, int], bool]


def error(rate: float, replications: int = REPLICATIONS) -> float:
    """Three standard errors of a simulated rate."""
    return 3 * sqrt(rate * (1 - rate) / replications)


def drawn(n: int, loss: float, gain: float, seed: int = 0) -> NDArray[np.int64]:
    """(REPLICATIONS, 2) items that broke, items that were fixed."""
    rates = [loss, gain, 1 - loss - gain]
    return np.random.default_rng(seed).multinomial(n, rates, size=REPLICATIONS)[:, :2]


def rate(outcomes: NDArray[np.int64], event: Event) -> float:
    """How often `event` holds, asked once for each different outcome."""
    different, counts = np.unique(outcomes, axis=0, return_counts=True)
    held = [event(int(broke), int(fixed)) for broke, fixed in different]
    return float(counts[held].sum() / counts.sum())


@pytest.mark.parametrize("right", [0.5, 0.7, 0.9])
def test_wilson_covers(right: float) -> None:
    n = 1000
    seen = np.random.default_rng(1).binomial(n, right, REPLICATIONS)
    inside = np.array([low <= right <= high for low, high in (wilson(k, n) for k in range(n + 1))])
    assert inside[seen].mean() == pytest.approx(0.95, abs=error(0.95))


def in_clusters(random: np.random.Generator, clusters: int, size: int, right: float) -> NDArray[np.float64]:
    """Rights and wrongs of clusters whose own rates differ, an intraclass correlation of 0.1."""
    rates = random.beta(9 * right, 9 * (1 - right), clusters)
    return (random.random((clusters, size)) < rates[:, None]).ravel().astype(float)


@pytest.mark.parametrize(("clusters", "size", "right"), [(57, 10, 0.6), (50, 2, 0.9), (20, 5, 0.6)])
def test_wilson_covers_items_in_clusters(clusters: int, size: int, right: float) -> None:
    random, label = np.random.default_rng(2), np.repeat(np.arange(clusters), size)
    found = [wilson_clustered(in_clusters(random, clusters, size, right), label) for _ in range(2000)]
    covered = np.mean([low <= right <= high for low, high in found])
    assert covered == pytest.approx(0.95, abs=0.005 + error(0.95, 2000))


@pytest.mark.parametrize(("n", "churn"), [(400, 0.1), (1000, 0.05)])
def test_mcnemar_rejects_as_its_power_predicts(n: int, churn: float) -> None:
    """Without an effect 5 % at most, as it is exact; with one that is detectable in 80 % of cases, 80 %."""
    detectable = detectable_change(n, churn / 2)
    assert detectable is not None
    for change in (0.0, detectable / 2, detectable):
        loss, gain = churn / 2 + change, churn / 2
        found = rate(drawn(n, loss, gain), lambda broke, fixed: mcnemar_exact(broke, fixed) <= 0.05)
        assert found == pytest.approx(mcnemar_power(n, loss, gain), abs=error(0.5))
        assert change or found <= 0.05
        assert change < detectable or found == pytest.approx(0.8, abs=error(0.8))


@pytest.mark.parametrize(("n", "loss", "gain"), [(400, 0.05, 0.05), (400, 0.15, 0.05), (1000, 0.03, 0.03)])
def test_tango_covers(n: int, loss: float, gain: float) -> None:
    covered = rate(drawn(n, loss, gain), lambda b, f: tango(b, f, n).low <= gain - loss <= tango(b, f, n).high)
    assert covered == pytest.approx(0.95, abs=error(0.95))


def test_where_little_changes_tango_covers_and_the_bootstrap_does_not() -> None:
    """60 items of which one in a hundred changes each way: most samples show no change at all."""

    def bootstrap(broke: int, fixed: int) -> bool:
        change = np.repeat([-1.0, 1.0, 0.0], [broke, fixed, 60 - broke - fixed])
        low, high = bootstrap_mean(change, range(60))
        return low <= 0.02 <= high

    outcomes = drawn(60, 0.005, 0.025)
    assert rate(outcomes, lambda b, f: tango(b, f, 60).low <= 0.02 <= tango(b, f, 60).high) > 0.95
    assert rate(outcomes, bootstrap) < 0.85


def test_where_much_changes_the_bootstrap_covers() -> None:
    n = 400

    @cache
    def covers(broke: int, fixed: int) -> bool:
        change = np.repeat([-1.0, 1.0, 0.0], [broke, fixed, n - broke - fixed])
        low, high = bootstrap_mean(change, range(n), resamples=4000)
        return bool(low <= -0.1 <= high)

    assert rate(drawn(n, 0.2, 0.1), covers) == pytest.approx(0.95, abs=0.005 + error(0.95))


@pytest.mark.parametrize("n", [54, 60, 100, 200, 400])
@pytest.mark.parametrize("margin", [0.02, 0.05, 0.1])
def test_a_loss_at_the_margin_is_excluded_in_5_percent_at_most(n: int, margin: float) -> None:
    """Not simulated but summed over all outcomes, for churn from nothing to much."""
    for gain in (0.0, 0.003, 0.01, 0.03, 0.1):
        assert size(n, margin, gain) <= 0.0525


def size(n: int, margin: float, gain: float) -> float:
    """The chance that a true loss of `margin` is excluded."""
    excluded, loss = 0.0, gain + margin
    for fixed in range(int(binom.ppf(1 - 1e-9, n, gain)) + 1):
        # So many losses or more do not exclude it.
        enough = bisect_left(range(n + 1), True, key=lambda broke: one_sided(broke, fixed, n).low <= -margin)
        excluded += binom.pmf(fixed, n, gain) * binom.cdf(enough - 1, n - fixed, loss / (1 - gain))
    return float(excluded)


def test_tost_is_nominal_at_the_margin_and_finds_what_is_equivalent() -> None:
    n, margin = 1000, 0.05

    def rejects(broke: int, fixed: int) -> bool:
        return tost(broke, fixed, n, margin) < 0.05

    for loss, gain in ((0.10, 0.05), (0.05, 0.10)):
        assert rate(drawn(n, loss, gain), rejects) == pytest.approx(0.05, abs=error(0.05))
    # With a standard error of sqrt(0.1 / 1000) = 0.01 the limit is 3.36 of them away.
    assert rate(drawn(n, 0.05, 0.05), rejects) > 0.998


def test_holm_keeps_the_chance_of_any_false_loss() -> None:
    """Five benchmarks of which four did not change, and one did."""
    p = cache(mcnemar_exact)
    samples = [*(drawn(300, 0.1, 0.1, seed) for seed in range(4)), drawn(300, 0.2, 0.05, 9)]
    ps = np.array([[p(int(broke), int(fixed)) for broke, fixed in sample] for sample in samples])
    rejected = np.array([holm(list(row)) for row in ps.T]) <= 0.05
    assert rejected[:, :4].any(axis=1).mean() <= 0.05 + error(0.05)
    assert rejected[:, 4].mean() > 0.95


def test_the_safe_horizon_reaches_too_far_in_5_percent_at_most() -> None:
    """Three benchmarks, five checkpoints; one benchmark loses the margin by the third, the others nothing.

    The items that have changed stay changed, as damage does, so that the checkpoints go together.
    """
    n, margin, exchange = 400, 0.05, 0.02
    losses = (0.0, 0.01, margin, 0.08, 0.2)
    random = np.random.default_rng(5)

    @cache
    def change(broke: int, fixed: int) -> Change:
        above, below = one_sided(broke, fixed, n)
        return Change(difference=(fixed - broke) / n, low=-1, high=1, above=above, below=below, n=n, before=0.7)

    def curve() -> Iterator[tuple[int, dict[str, Change]]]:
        uniform = random.random((3, n))
        fixed = (uniform > 1 - exchange).sum(axis=1)
        for checkpoint, loss in enumerate(losses, start=1):
            broke = [(uniform[0] < exchange + loss).sum(), *(uniform[1:] < exchange).sum(axis=1)]
            yield checkpoint, {str(i): change(int(b), int(f)) for i, (b, f) in enumerate(zip(broke, fixed))}

    horizons = [safe_horizon(dict(curve()), margin) or 0 for _ in range(REPLICATIONS)]
    beyond = np.mean([horizon >= 3 for horizon in horizons])
    assert 0.03 < beyond <= 0.05 + error(0.05)
    assert np.mean([horizon >= 1 for horizon in horizons]) > 0.8


@pytest.mark.parametrize("spread", [0.0, 0.03])
def test_the_mean_over_orders_is_covered(spread: float) -> None:
    """Three orders whose losses differ by `spread`, on the same 200 items, of which some are fragile in all."""
    assert covered_by_orders(spread, 800) >= 0.95 - error(0.95, 800)


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.0, 0.02, 0.05])
def test_the_mean_over_orders_is_covered_in_full(spread: float) -> None:
    assert covered_by_orders(spread, REPLICATIONS) >= 0.95 - error(0.95)


def covered_by_orders(spread: float, replications: int) -> float:
    random, loss, gain, n, hits = np.random.default_rng(6), 0.12, 0.02, 200, 0
    items, orders = np.tile(np.arange(n), 3), np.repeat(np.arange(3), n)
    for _ in range(replications):
        fragile = random.beta(0.5, 0.5 * (1 - loss) / loss, n)
        own = np.clip(fragile + spread * random.standard_normal((3, 1)) * fragile / loss, 0, 1)
        uniform = random.random((3, n))
        change = ((uniform > 1 - gain) * 1.0 - (uniform < own * (1 - gain))).ravel()
        found = pooled_difference(np.zeros(3 * n), change, items, orders)
        truth = gain - (1 - gain) * _clipped_mean(spread)
        hits += found.low <= truth <= found.high
    return hits / replications


@cache
def _clipped_mean(spread: float) -> float:
    """The mean loss rate where rates are kept within 0 and 1."""
    random, loss = np.random.default_rng(7), 0.12
    fragile = random.beta(0.5, 0.5 * (1 - loss) / loss, 2_000_000)
    return float(np.clip(fragile * (1 + spread * random.standard_normal(2_000_000) / loss), 0, 1).mean())


def test_scores_in_between_are_covered() -> None:
    random, label = np.random.default_rng(8), np.arange(100)
    found = [score_interval(random.beta(0.8, 0.4, 100), label) for _ in range(REPLICATIONS)]
    covered = np.mean([low <= 2 / 3 <= high for low, high in found])
    assert covered == pytest.approx(0.95, abs=0.005 + error(0.95))


def test_a_change_in_clusters_is_covered_by_counting_fewer_items() -> None:
    """57 subjects of which each loses at its own rate: as items, the limits are too narrow; as subjects, they hold."""
    random, label = np.random.default_rng(9), np.repeat(np.arange(57), 20)
    n, apart, together = label.size, 0, 0
    for _ in range(1000):
        change = -(random.random((57, 20)) < random.beta(0.5, 4.5, 57)[:, None]).ravel().astype(float)
        broke, scale = -change.sum(), effective_size(change, label) / n
        apart += tango(broke, 0, n).low <= -0.1 <= tango(broke, 0, n).high
        together += tango(scale * broke, 0, scale * n).low <= -0.1 <= tango(scale * broke, 0, scale * n).high
    assert apart / 1000 < 0.85
    assert together / 1000 == pytest.approx(0.95, abs=0.005 + error(0.95, 1000))
