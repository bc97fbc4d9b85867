"""Numbers of edits from a rule."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from errata.runs.schedule import Schedule


@pytest.mark.parametrize(
    ("rule", "numbers"),
    [
        ({"to": 1000, "count": 7}, [1, 3, 10, 32, 100, 316, 1000]),
        ({"from": 5, "to": 20, "count": 4, "spacing": "linear"}, [5, 10, 15, 20]),
        ({"from": 10, "to": 1000, "count": 3}, [10, 100, 1000]),
        ({"to": 4, "count": 9}, [1, 2, 3, 4]),
    ],
)
def test_known_rules(rule: dict[str, object], numbers: list[int]) -> None:
    assert Schedule.model_validate(rule).numbers == numbers


@given(st.integers(1, 10**5), st.integers(1, 10**5), st.integers(2, 60), st.sampled_from(["log", "linear"]))
def test_any_rule_ascends_from_the_first_to_the_last(first: int, more: int, count: int, spacing: str) -> None:
    rule = {"from": first, "to": first + more, "count": count, "spacing": spacing}
    numbers = Schedule.model_validate(rule).numbers
    assert numbers == sorted(set(numbers)) and len(numbers) <= count
    assert (numbers[0], numbers[-1]) == (first, first + more)
