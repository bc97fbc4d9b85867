"""Runs that differ in their order of the edits alone, weighed together. No torch here."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from errata.report.measures import Analysis, Mean, broken, common, labels, rate_interval, sound
from errata.report.results import Results, Scores
from errata.stats.curves import Break, Curve, collapse_point, collapsed, safe_horizon
from errata.stats.means import mean_interval, over_orders
from errata.stats.paired import Change, Verdict, pooled_difference, verdict
from errata.stats.rates import Interval


@dataclass(frozen=True)
class Orders:
    """Several orders of the same edits. Only checkpoints that all of them have reached are pooled.

    accuracy: mean over orders by edits and task; without those where some order has no score. ability: of that
    the mean over tasks, by edits. curve: mean change against the unedited model, by edits and task.
    horizon: of the mean change; it ends before the first collapse of any order. collapse: of the mean change, or
    of the answers or logits of more than half of the orders.
    """

    label: str
    runs: tuple[Analysis, ...]
    checkpoints: tuple[int, ...]
    accuracy: Mapping[int, Mapping[str, Mean]]
    ability: Mapping[int, Mean]
    curve: Curve
    horizon: int | None
    collapse: Break | None

    @property
    def margin(self) -> float:
        return self.runs[0].margin

    @property
    def tasks(self) -> tuple[str, ...]:
        return self.runs[0].results.tasks

    def verdict(self, edits: int, task: str) -> Verdict:
        """What the mean change shows at the margin; a collapse is harm whatever the score."""
        change = self.curve[edits][task]
        gone = task in _mostly_broken(self.runs, edits) or collapsed(change)
        return "harm" if gone else verdict(change, self.margin)


def pooled(analyses: Sequence[Analysis]) -> list[Orders]:
    """The runs that have others of the same config but the seed, together; the others are left out."""
    groups: dict[str, list[Analysis]] = {}
    for analysis in analyses:
        groups.setdefault(_asked(analysis.results), []).append(analysis)
    several = [runs for runs in groups.values() if len({run.results.resolved.config.seed for run in runs}) > 1]
    names = labels([runs[0].results for runs in several])
    return [_pool(name, runs) for name, runs in zip(names, several, strict=True)]


def _asked(run: Results) -> str:
    """All that a run was asked but its order."""
    return json.dumps(run.resolved.config.model_dump(mode="json", exclude={"seed", "name"}), sort_keys=True)


def _pool(label: str, runs: Sequence[Analysis]) -> Orders:
    reached = sorted(set.intersection(*(set(run.results.checkpoints) for run in runs)))
    levels = {edits: _levels(runs, edits) for edits in reached}
    curve = {edits: changes for edits in reached if edits and (changes := _changes(runs, edits))}
    collapse = collapse_point(curve, {edits: _mostly_broken(runs, edits) for edits in curve})
    collapses = [found for found in (collapse, *(run.collapse for run in runs)) if found is not None]
    first = min(collapses, key=lambda found: found.edits, default=None)
    return Orders(
        label=label,
        runs=tuple(runs),
        checkpoints=tuple(reached),
        accuracy={edits: {task: level.mean for task, level in row.items()} for edits, row in levels.items()},
        ability={n: _over_tasks(row) for n, row in levels.items() if row and len(row) == len(runs[0].results.tasks)},
        curve=curve,
        horizon=safe_horizon(sound(curve, first), runs[0].margin),
        collapse=collapse,
    )


@dataclass(frozen=True)
class _Level:
    """means: accuracy in each order. items: interval of their mean for other items in the same orders."""

    means: tuple[float, ...]
    items: Interval

    @property
    def mean(self) -> Mean:
        return _mean(float(np.mean(self.means)), self.items, self.means)


def _mean(value: float, items: Interval, means: Sequence[float]) -> Mean:
    low, high = over_orders(value, items, means)
    return Mean(value, max(low, 0.0), min(high, 1.0))


def _levels(runs: Sequence[Analysis], edits: int) -> dict[str, _Level]:
    """Of the tasks that have a score in every order."""
    found = {}
    for task in runs[0].results.tasks:
        measures = [run.get(edits, task) for run in runs]
        if all(measure is not None and measure.accuracy is not None for measure in measures):
            found[task] = _level([scores for run in runs if (scores := run.results.get(edits, task)) is not None])
    return found


def _level(tables: Sequence[Scores]) -> _Level:
    interval = rate_interval(*(np.concatenate(parts) for parts in zip(*((t.values, t.clusters) for t in tables))))
    return _Level(tuple(float(table.values.mean()) for table in tables), interval)


def _over_tasks(row: Mapping[str, _Level]) -> Mean:
    """The unweighted mean over benchmarks: their items differ, but an order is the same for all of them."""
    levels = list(row.values())
    value, items = mean_interval([level.mean.value for level in levels], [level.items for level in levels])
    return _mean(value, items, [float(mean) for mean in np.mean([level.means for level in levels], axis=0)])


def _changes(runs: Sequence[Analysis], edits: int) -> dict[str, Change]:
    """Of the tasks that were asked in every order both before and after."""
    return {task: change for task in runs[0].results.tasks if (change := _change(runs, edits, task)) is not None}


def _change(runs: Sequence[Analysis], edits: int, task: str) -> Change | None:
    parts = []
    for order, run in enumerate(runs):
        before, after = run.results.get(0, task), run.results.get(edits, task)
        if before is None or after is None or not (rows := common(before, after)).size:
            return None
        old, new = rows.T
        parts.append((before.values[old], after.values[new], before.clusters[old], np.full(len(rows), order)))
    old_score, new_score, clusters, orders = map(np.concatenate, zip(*parts, strict=True))
    return pooled_difference(old_score, new_score, clusters, orders)


def _mostly_broken(runs: Sequence[Analysis], edits: int) -> list[str]:
    counts = Counter(task for run in runs for task in broken(run.measures, edits))
    return [task for task, count in counts.items() if 2 * count > len(runs)]
