"""The benchmarks on small shapes: ours equals the frozen oracles; what is printed and written is what was measured."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import editing, harness, machine, moments
from benchmarks.__main__ import rows
from benchmarks.harness import Contest, Figure, Row, Trial
from benchmarks.machine import Machine, Work
from benchmarks.shapes import TINY, moment, random_model, requests

RATES = Machine(float32=100.0, float64=50.0, copy=10.0)


def row(*trials: Trial, target: float = 4.0, figure: Figure = Figure.SPEEDUP, work: Work | None = None) -> Row:
    asked = None if work is None else lambda: work
    return Row("it", "one", target, lambda quick: Contest(iter(trials), len(trials), asked), figure)


def test_a_result_is_the_median_of_the_ratios_with_their_range() -> None:
    trials = Trial(1.0, 3.0, 1e-7), Trial(2.0, 10.0, 3e-6), Trial(1.0, 9.0)
    found = harness.measure(row(*trials), False, RATES)
    assert (found.median, found.min, found.max, found.ours, found.reference) == (5.0, 3.0, 9.0, 1.0, 9.0)
    assert found.met and found.difference == 3e-6 and found.trials == 3 and found.floor is None


@pytest.mark.parametrize(("figure", "value"), [(Figure.SPEEDUP, 0.5), (Figure.COST, 2.0), (Figure.EXTRA, 1.0)])
@pytest.mark.parametrize("target", [0.4, 3.0])
def test_what_counts_as_met_depends_on_the_figure(figure: Figure, value: float, target: float) -> None:
    found = harness.measure(row(Trial(2.0, 1.0), target=target, figure=figure), False, RATES)
    assert found.median == value
    assert found.met == (value >= target if figure is Figure.SPEEDUP else value <= target)


def test_the_floor_is_the_longer_of_operations_and_transfers() -> None:
    assert RATES.floor(Work(200.0, 100.0, 10.0)) == machine.Floor(4.0, "operations")
    assert RATES.floor(Work(float32=100.0).times(2) + Work(bytes=90.0)) == machine.Floor(9.0, "bytes")
    found = harness.measure(row(Trial(8.0, 8.0), work=Work(200.0, 100.0)), False, RATES)
    assert (found.floor, found.bound, found.distance) == (4.0, "operations", 2.0)


def test_results_are_a_list_in_which_rows_that_were_not_run_stay(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps([{"name": "other", "median": 1.0}, {"name": "it", "median": 0.0}]))
    found = harness.measure(row(Trial(1.0, 5.0, 1e-6)), False, RATES)
    harness.write([found], path)
    other, it = json.loads(path.read_text())
    assert other == {"name": "other", "median": 1.0}
    assert {"name", "unit", "median", "min", "max", "target", "difference"} <= it.keys()
    assert (it["median"], it["target"], it["difference"]) == (5.0, 4.0, 1e-6)


def test_names_are_unique_and_every_row_has_a_line() -> None:
    names = [row.name for row in rows()]
    assert len(set(names)) == len(names)
    line = harness.cells(harness.measure(row(Trial(1.0, 5.0)), False, RATES))
    assert len(line) == len(harness.header()) and "5.00x" in line and "at least 4x" in line


def test_differences_are_relative_and_the_largest_counts() -> None:
    ones = torch.ones(2, 2)
    assert harness.largest({0: ones, 1: 1.5 * ones}, {0: ones, 1: ones}) == pytest.approx(0.5)
    with pytest.raises(AssertionError):
        harness.largest({0: ones}, {1: ones})


@pytest.mark.parametrize("row", [*editing.ROWS, *moments.ROWS], ids=lambda row: row.name)
def test_ours_equals_the_reference_on_a_small_shape(row: Row) -> None:
    found = harness.measure(row, True, RATES)
    assert found.difference is not None and found.difference < 1e-4
    assert found.floor is not None and found.floor > 0


def test_facts_of_the_shapes_stand_in_their_prompts_and_moments_are_positive() -> None:
    model, wanted = random_model(TINY), requests(12)
    assert all(request.subject in request.prompt for request in wanted)
    assert len({request.prompt.replace(request.subject, "") for request in wanted}) > 6
    assert len(model.tokenizer) == model.model.config.vocab_size == TINY.vocabulary
    values = torch.linalg.eigvalsh(moment(64).double())
    assert values[0] > 0 and values[-1] > 1000 * values[0]
