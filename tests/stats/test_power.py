"""Power against a sum over all outcomes."""

from itertools import product

import pytest
from scipy.stats import binomtest, multinomial

from errata.stats.power import detectable_change, items_needed, mcnemar_power


@pytest.mark.parametrize(
    ("n", "loss", "gain", "alpha"),
    [(12, 0.5, 0.1, 0.05), (12, 0.3, 0.3, 0.05), (15, 0.4, 0.0, 0.01), (3, 0.9, 0.1, 0.05)],
)
def test_power_is_the_probability_of_all_outcomes_that_reject(n: int, loss: float, gain: float, alpha: float) -> None:
    brute = sum(
        multinomial.pmf([broke, fixed, n - broke - fixed], n, [loss, gain, 1 - loss - gain])
        for broke, fixed in product(range(n + 1), range(n + 1))
        if 0 < broke + fixed <= n and binomtest(broke, broke + fixed).pvalue <= alpha
    )
    assert mcnemar_power(n, loss, gain, alpha) == pytest.approx(brute, abs=1e-9)


def test_six_changes_are_the_fewest_that_show() -> None:
    """2 / 2**5 is more than 5 %, 2 / 2**6 is not."""
    assert mcnemar_power(5, 1.0, 0.0) == 0.0
    assert mcnemar_power(6, 1.0, 0.0) == pytest.approx(1.0)
    assert mcnemar_power(100, 0.0, 0.0) == 0.0


@pytest.mark.parametrize(("n", "exchange"), [(60, 0.0), (400, 0.02), (14042, 0.025)])
def test_the_detectable_change_has_the_power(n: int, exchange: float) -> None:
    found = detectable_change(n, exchange)
    assert found is not None
    assert mcnemar_power(n, exchange + found, exchange) == pytest.approx(0.8, abs=1e-3)


def test_what_can_be_detected() -> None:
    few, many = detectable_change(60), detectable_change(6000)
    assert few is not None and many is not None and many < few / 50
    exchanged, strict = detectable_change(400, 0.05), detectable_change(400, 0.0, alpha=0.01)
    plain = detectable_change(400)
    assert plain is not None and exchanged is not None and strict is not None and plain < strict and plain < exchanged
    assert detectable_change(5) is None
    assert detectable_change(0) is None
    assert detectable_change(400, 0.5) is None


def test_items_needed_is_the_normal_approximation() -> None:
    assert items_needed(0.01) == 1360
    assert items_needed(0.02) < items_needed(0.01) < items_needed(0.01, churn=0.1)
