"""What a benchmark is: work that ours and a reference do in alternation, so that a noisy machine harms both alike.

A row gives trials, each a pair of times and the difference of the two results; the table gives the median ratio
of the pairs with its range. Beside it stands the floor: the time that the work of ours would take if the machine
did nothing but the operations that no exact method can leave out, at the rates that it reaches in large products.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import torch
from torch import Tensor

from benchmarks.machine import Machine, Work
from errata.types import Progress

RESULTS = Path(__file__).parent / "results.json"
T = TypeVar("T")


class Figure(Enum):
    """What a row states of a trial, and on which side of its target it should lie."""

    SPEEDUP = "times faster"
    COST = "times the cost"
    EXTRA = "seconds more"
    SPACE = "times the space"

    def of(self, trial: "Trial") -> float:
        if self is Figure.EXTRA:
            return trial.ours - trial.reference
        return trial.reference / trial.ours if self is Figure.SPEEDUP else trial.ours / trial.reference

    def met(self, value: float, target: float) -> bool:
        return value >= target if self is Figure.SPEEDUP else value <= target


@dataclass(frozen=True)
class Trial:
    """The same work done by both, one right after the other.

    ours, reference: seconds; gigabytes where the row states space. difference: largest relative difference of the two
    results, see `difference`; 0 where they are equal, None where there is nothing to compare.
    """

    ours: float
    reference: float
    difference: float | None = None


@dataclass(frozen=True)
class Contest:
    """trials: as they are done. count: how many there will be. work: asked afterwards, what ours needs for one."""

    trials: Iterator[Trial]
    count: int
    work: Callable[[], Work] | None = None


@dataclass(frozen=True)
class Row:
    """One benchmark.

    contest: of small shapes if its argument is true; those try the benchmark out and prove nothing. unit: what one
    trial is. target: of the median.
    """

    name: str
    unit: str
    target: float
    contest: Callable[[bool], Contest]
    figure: Figure = Figure.SPEEDUP


@dataclass(frozen=True)
class Result:
    """A row of the table. median, min, max: of the ratios, or of the seconds more. difference: the largest.

    ours, reference: medians of the trials. floor: seconds. distance: ours over floor.
    """

    name: str
    unit: str
    median: float
    min: float
    max: float
    target: float
    met: bool
    difference: float | None
    figure: str
    trials: int
    ours: float
    reference: float
    floor: float | None
    bound: str | None
    distance: float | None


def measure(
    row: Row, quick: bool, machine: Machine, progress: Progress | None = None, most: int | None = None
) -> Result:
    """Run the trials of a row. most: how many of them, by default all."""
    contest = row.contest(quick)
    trials: list[Trial] = []
    for trial in islice(contest.trials, most):
        trials.append(trial)
        if progress is not None:
            progress(row.name, len(trials), min(contest.count, most or contest.count))
    values = [row.figure.of(trial) for trial in trials]
    ours = median(trial.ours for trial in trials)
    differences = [trial.difference for trial in trials if trial.difference is not None]
    floor = machine.floor(contest.work()) if contest.work else None
    return Result(
        row.name,
        row.unit,
        median(values),
        min(values),
        max(values),
        row.target,
        row.figure.met(median(values), row.target),
        max(differences, default=None),
        row.figure.value,
        len(trials),
        ours,
        median(trial.reference for trial in trials),
        floor.seconds if floor else None,
        floor.bound if floor else None,
        ours / floor.seconds if floor else None,
    )


def cpu() -> float:
    """Seconds that the processors spent on this process and those it waited for, all threads together."""
    return sum(os.times()[:4])


CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": cpu}
_clock = "wall"


def use(clock: str) -> None:
    """Which clock `timed` reads: where others need the machine, that on the wall says little of one thread's work."""
    global _clock
    _clock = clock


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Seconds, and what the work returned."""
    begun = CLOCKS[_clock]()
    found = work()
    return CLOCKS[_clock]() - begun, found


def difference(found: Tensor, expected: Tensor) -> float:
    """|found - expected| / |expected|, Frobenius norms in float64."""
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def largest(found: Mapping[Any, Tensor], expected: Mapping[Any, Tensor]) -> float:
    """The largest `difference` of tensors by name; all names must be the same."""
    assert found.keys() == expected.keys(), f"{sorted(found)} and {sorted(expected)} differ"
    return max(difference(found[name], expected[name]) for name in expected)


def header() -> list[str]:
    return ["benchmark", "trial", "median", "min", "max", "target", "met", "difference", "ours", "floor", "distance"]


def cells(result: Result) -> list[str]:
    """A line of the table."""
    sign, limit = ("x", "at least") if result.figure == Figure.SPEEDUP.value else ("x", "at most")
    if result.figure == Figure.EXTRA.value:
        sign = " s"
    spread = [f"{value:.2f}{sign}" for value in (result.median, result.min, result.max)]
    floor = ["-", "-"]
    if result.floor is not None and result.distance is not None:
        floor = [f"{_seconds(result.floor)} ({result.bound})", f"{result.distance:.1f}x"]
    apart = "-" if result.difference is None else f"{result.difference:.1e}"
    ours = f"{result.ours:.2f} GB" if result.figure == Figure.SPACE.value else _seconds(result.ours)
    target = f"{limit} {result.target:g}{sign}"
    return [
        result.name,
        result.unit,
        *spread,
        target,
        "yes" if result.met else "NO",
        apart,
        ours,
        *floor,
    ]


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.3g} ms"


def write(results: Sequence[Result], path: Path) -> None:
    """Put results into a file, a list with an entry for each row; rows that were not run keep theirs."""
    held = json.loads(path.read_text("utf-8")) if path.exists() else []
    fresh = {result.name: asdict(result) for result in results}
    kept = [fresh.pop(entry["name"], entry) for entry in held]
    path.write_text(json.dumps([*kept, *fresh.values()], indent=2) + "\n", "utf-8")


def threads(count: int | None) -> int:
    """Let torch use so many threads, by default one for each processor; how many these are."""
    torch.set_num_threads(count or os.cpu_count() or 1)
    return torch.get_num_threads()
