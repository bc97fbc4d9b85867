"""Holm, non-inferiority, safe horizon and collapse point on curves made by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from errata.stats import curves
from errata.stats.curves import Curve
from errata.stats.families import holm
from errata.stats.paired import PairedDifference, one_sided, paired_difference


def change(n: int, broke: int, fixed: int = 0, right: int | None = None) -> PairedDifference:
    """n items of which `right` were right before."""
    right = n - fixed if right is None else right
    before = [True] * right + [False] * (n - right)
    after = [False] * broke + [True] * (right - broke) + [True] * fixed + [False] * (n - right - fixed)
    return paired_difference(before, after)


def test_holm_known_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_the_step_down_procedure(ps: list[float]) -> None:
    for alpha in (0.01, 0.05, 0.3):
        rejected: set[int] = set()
        for step, index in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
            if ps[index] * (len(ps) - step) > alpha:
                break
            rejected.add(index)
        assert {i for i, p in enumerate(holm(ps)) if p <= alpha} == rejected


def test_excluded_loss_is_the_one_sided_limit() -> None:
    some = change(200, 8, 4, right=120)
    assert curves.excluded_loss(some) == -one_sided(8, 4, 200).low
    assert curves.excluded_loss(change(50, 0, 30, right=10)) == 0.0


def test_a_small_subset_certifies_little() -> None:
    unchanged = change(60, 0, right=40)
    assert not curves.noninferior(unchanged, 0.01)
    assert curves.noninferior(unchanged, 0.05)
    assert curves.noninferior(change(14042, 351, 351, right=9000), 0.01)
    assert not curves.noninferior(paired_difference([], []), 0.5)


def curve_of(losses: dict[int, dict[str, int]]) -> Curve:
    return {edits: {name: change(200, lost) for name, lost in row.items()} for edits, row in losses.items()}


HOLDS_THEN_BREAKS = curve_of(
    {1: {"a": 0, "b": 0}, 10: {"a": 2, "b": 1}, 100: {"a": 4, "b": 12}, 300: {"a": 60, "b": 90}, 1000: {"a": 0, "b": 0}}
)


def test_safe_horizon_ends_at_the_first_failure_even_if_later_ones_pass() -> None:
    assert curves.safe_horizon(HOLDS_THEN_BREAKS, 0.05) == 10
    assert curves.safe_horizon(HOLDS_THEN_BREAKS, 0.001) is None
    assert curves.safe_horizon({}, 0.05) is None
    assert curves.safe_horizon({1: {}}, 0.05) is None


def test_a_benchmark_that_is_missing_ends_the_safe_horizon() -> None:
    some = curve_of({1: {"a": 0, "b": 0}, 10: {"a": 0}, 100: {"a": 0, "b": 0}})
    assert curves.safe_horizon(some, 0.05) == 1
    assert curves.safe_horizon({n: some[n] for n in (10, 100)}, 0.05) is None


def test_collapse_point_needs_the_whole_interval() -> None:
    broken = curves.collapse_point(HOLDS_THEN_BREAKS)
    assert broken is not None and (broken.benchmark, broken.edits, broken.change.broke) == ("b", 300, 90)
    assert curves.collapse_point(curve_of({5: {"a": 24}})) is None  # 12 % lost, but the interval holds 8 %
    assert curves.collapse_point({5: {"a": change(200, 0, right=0)}}) is None


def test_answers_that_became_one_are_a_collapse_whatever_the_score() -> None:
    risen = {
        1: {"a": change(200, 0), "b": change(200, 0)},
        5: {"a": change(200, 0, 40, right=100), "b": change(200, 2)},
    }
    assert curves.collapse_point(risen) is None
    found = curves.collapse_point(risen, {1: [], 5: ["a"]})
    assert found is not None and (found.benchmark, found.edits) == ("a", 5)
    never = curves.collapse_point({5: {"a": change(200, 0, right=0)}}, {5: ["a"]})
    assert never is not None and never.change.before == 0


def test_first_loss_comes_before_the_collapse() -> None:
    lost = curves.first_loss(HOLDS_THEN_BREAKS)
    assert lost is not None and (lost.benchmark, lost.edits) == ("b", 100)
    gains = {1: {"a": change(200, 0, 100, right=50)}}
    assert curves.first_loss(gains) is None


def test_first_loss_is_corrected_for_the_number_of_benchmarks() -> None:
    alone = {1: {"a": change(200, 6)}}
    assert alone[1]["a"].p == pytest.approx(0.03125)
    assert curves.first_loss(alone) is not None
    assert curves.first_loss({1: {**alone[1], "b": change(200, 0)}}) is None


def test_a_model_is_given_up_once_hardly_a_neighbour_keeps_its_answer() -> None:
    edits = [row // 4 for row in range(80)]
    assert curves.given_up([False] * 80, edits)
    assert curves.given_up([row % 8 == 0 for row in range(80)], edits)
    assert not curves.given_up([row % 2 == 0 for row in range(80)], edits)
    assert not curves.given_up([False] * 8, edits[:8]), "two edits show too little"
