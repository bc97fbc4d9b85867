"""Items that count more than others: F1 over all entities of a text, and means over kinds."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic_runs import config_of, rows, write_run

from errata.records import Record
from errata.report.measures import Analysis, analyse, measure
from errata.report.results import read_results
from errata.report.tables import answers

TASK = "p2_conll2003"
KINDS = ("PER", "LOC")
Counts = Sequence[tuple[int, int, int]]


def items(counts: Counts) -> list[Record]:
    """One item for each (tp, fp, fn), kinds in turn."""
    made = []
    for index, (row, (tp, fp, fn)) in enumerate(zip(rows(TASK, len(counts), 1.0), counts, strict=True)):
        weight = 2 * tp + fp + fn
        score = 2 * tp / weight if weight else 1.0
        extra = {"kind": KINDS[index % 2], "score": score, "weight": weight}
        made.append(replace(row, correct=score > 0.5, gold="none", extra=extra))
    return made


def f1(counts: Counts) -> float:
    tp, fp, fn = np.sum(counts, axis=0)
    return float(2 * tp / (2 * tp + fp + fn))


def weighed(tmp_path: Path, before: Counts, after: Counts) -> Analysis:
    config = config_of("rome", edits=[0, 10], tasks=[TASK])
    path = write_run(tmp_path, config, {0: {TASK: items(before)}, 10: {TASK: items(after)}})
    (found,) = analyse([read_results(path)], {})
    return found


BEFORE = [(2, 0, 0), (0, 1, 1), (1, 1, 0), (0, 0, 0)] * 20
AFTER = [(2, 0, 0), (0, 2, 1), (1, 1, 0), (0, 0, 0)] * 20


def test_the_score_is_f1_of_the_whole(tmp_path: Path) -> None:
    found = weighed(tmp_path, BEFORE, AFTER)
    for edits, counts in ((0, BEFORE), (10, AFTER)):
        row = found.measures[edits][TASK]
        assert row.accuracy == pytest.approx(f1(counts)) == row.given_parsed
        assert row.low < f1(counts) < row.high
        assert row.macro == pytest.approx((f1(counts[::2]) + f1(counts[1::2])) / 2)
        # Always "none" is right in every row, and its F1 is 0.
        assert row.best is None and row.blind == 0


def test_a_change_is_that_of_f1_and_the_test_is_of_the_items(tmp_path: Path) -> None:
    change = weighed(tmp_path, BEFORE, AFTER).curve[10][TASK]
    assert change.difference == pytest.approx(f1(AFTER) - f1(BEFORE))
    # No item's own score changed: the items without a hit only got more that is made up.
    assert (change.broke, change.fixed, change.p) == (0, 0, 1)
    worse = weighed(tmp_path / "worse", BEFORE, [(1, 0, 1), *AFTER[1:]]).curve[10][TASK]
    assert (worse.broke, worse.fixed) == (1, 0)


def test_equal_weights_change_nothing(tmp_path: Path) -> None:
    plain = rows(TASK, 40, 0.6)
    same = [replace(row, extra={"weight": 1}) for row in plain]
    config = config_of("rome", edits=[0], tasks=[TASK])
    found = [
        read_results(write_run(tmp_path / name, config, {0: {TASK: made}})).get(0, TASK)
        for name, made in (("plain", plain), ("same", same))
    ]
    assert measure(found[0]) == measure(found[1]) and measure(found[0]).macro is None


def test_the_macro_average_is_in_the_table(tmp_path: Path) -> None:
    (row, _) = answers([weighed(tmp_path, BEFORE, AFTER)]).rows
    assert row["macro"] == pytest.approx((f1(BEFORE[::2]) + f1(BEFORE[1::2])) / 2) != row["accuracy"]
