"""Means over benchmarks, over scores and over orders, against closed forms."""

import numpy as np
import pytest
from scipy.stats import t as student

from errata.stats.means import by_weight, mean_interval, micro_macro, over_orders, score_interval
from errata.stats.rates import Interval


def test_mean_of_one_is_itself_and_of_symmetric_ones_adds_in_squares() -> None:
    mean, interval = mean_interval([0.3], [Interval(0.1, 0.6)])
    assert mean == pytest.approx(0.3) and interval == pytest.approx((0.1, 0.6))
    mean, interval = mean_interval([0.0, 0.4], [Interval(-0.3, 0.3), Interval(0.0, 0.8)])
    assert mean == pytest.approx(0.2) and interval == pytest.approx((0.2 - 0.25, 0.2 + 0.25))
    with pytest.raises(ValueError, match="2 estimates"):
        mean_interval([0, 1], [])


def test_scores_have_students_interval_on_two_more_values() -> None:
    values = np.array([0.2, 0.9, 0.4, 0.4])
    y = np.append(values, [0, 1])
    half = student.ppf(0.975, 5) * y.std(ddof=1) / np.sqrt(6)
    assert score_interval(values, range(4)) == pytest.approx((y.mean() - half, y.mean() + half))


def test_scores_that_agree_keep_a_width_within_the_scale() -> None:
    low, high = score_interval(np.ones(50), range(50))
    assert 0.9 < low < 0.97 and high == 1.0
    low, high = score_interval(np.zeros(50), range(50), (-1, 1))
    assert low == pytest.approx(-high) and 0 < high < 0.1


def test_scores_of_a_cluster_go_together() -> None:
    values, cluster = np.repeat([0.1, 0.4, 0.9, 0.6], 25), np.repeat(range(4), 25)
    together, apart = score_interval(values, cluster), score_interval(values, range(100))
    assert together.high - together.low > 3 * (apart.high - apart.low)


def test_orders_that_agree_add_nothing_and_others_add_in_squares() -> None:
    items = Interval(0.4, 0.7)
    assert over_orders(0.5, items, [0.5, 0.5, 0.5]) == pytest.approx(items)
    assert over_orders(0.5, items, [0.5]) == items
    half = student.ppf(0.975, 2) * np.std([0.4, 0.5, 0.6], ddof=1) / np.sqrt(3)
    assert over_orders(0.5, items, [0.4, 0.5, 0.6]) == pytest.approx(
        (0.5 - np.hypot(0.1, half), 0.5 + np.hypot(0.2, half))
    )


def test_micro_counts_items_and_macro_kinds() -> None:
    score, kinds = [1, 1, 1, 0, 0.5], ["a", "a", "a", "b", "b"]
    assert micro_macro(score, np.ones(5), kinds) == pytest.approx((0.7, (1 + 0.25) / 2))
    assert micro_macro(score, [1, 1, 1, 3, 1], kinds) == pytest.approx((3.5 / 7, (1 + 0.125) / 2))
    assert micro_macro([1, 0], [1, 1], ["", ""]) == (0.5, None)
    assert micro_macro([1, 0], [1, 0], ["a", "b"]) == (1.0, None)  # a kind that weighs nothing is none
    assert micro_macro([1], [0], ["a"]) == (0.0, None)


def test_weighted_f1_is_the_f1_of_the_whole() -> None:
    tp, fp, fn = np.array([2, 0, 1, 0]), np.array([1, 0, 0, 2]), np.array([0, 3, 1, 0])
    weight = 2 * tp + fp + fn
    micro, _ = micro_macro(2 * tp / weight, weight, [""] * 4)
    assert micro == pytest.approx(2 * tp.sum() / (2 * tp + fp + fn).sum())


def test_linearised_values_have_the_mean_and_the_spread_of_the_ratio() -> None:
    rng = np.random.default_rng(0)
    weights = rng.integers(0, 6, 400)
    values = rng.binomial(weights, 0.6) / np.maximum(weights, 1)
    linear = by_weight(values, weights)
    assert linear.mean() == pytest.approx((values * weights).sum() / weights.sum())
    again = rng.integers(0, 400, (4000, 400))
    ratios = (values * weights)[again].sum(axis=1) / weights[again].sum(axis=1)
    assert linear.std() / 20 == pytest.approx(ratios.std(), rel=0.05)


def test_weights_of_one_leave_the_values_and_of_nothing_none() -> None:
    values = np.array([0.0, 0.5, 1.0])
    assert (by_weight(values, [1, 1, 1]) == values).all()
    assert by_weight(values, [3, 3, 3]) == pytest.approx(values)
    assert not by_weight(values, [0, 0, 0]).any()
