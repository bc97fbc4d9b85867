"""Seconds expected in all: first guessed, then from what steps took."""

from errata.runs.outlook import Outlook


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_was_measured_replaces_the_guess() -> None:
    clock, seen = Clock(), list[tuple[str, int, int]]()
    outlook = Outlook("run", {"edit": (10, 1.0), "score": (2, 100.0)}, lambda *step: seen.append(step), clock)
    with outlook.step("score"):
        clock.now = 4.0
    assert seen == [("run", 0, 210), ("run", 4, 4 + 10 + 4)]
    with outlook.step("edit", 5):
        clock.now = 14.0
    assert seen[-1] == ("run", 14, 14 + 5 * 2 + 4)
    outlook.skip("score")
    with outlook.step("edit", 5):
        clock.now = 24.0
    outlook.finish()
    assert seen[-2:] == [("run", 24, 25), ("run", 24, 24)]


def test_work_inside_a_step_is_passed_on_and_counts_down() -> None:
    clock, seen = Clock(), list[tuple[str, int, int]]()
    outlook = Outlook("run", {"score": (1, 10.0)}, lambda *step: seen.append(step), clock)
    with outlook.step("score") as inside:
        clock.now = 4.0
        inside("items", 3, 9)
        clock.now = 30.0
        inside("items", 8, 9)
    assert seen[1:5] == [("run", 4, 10), ("items", 3, 9), ("run", 30, 31), ("items", 8, 9)]


def test_without_a_listener_nothing_happens() -> None:
    outlook = Outlook("run", {"edit": (1, 1.0)}, None)
    with outlook.step("edit") as inside:
        inside("x", 1, 2)
    outlook.finish()
