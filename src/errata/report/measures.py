"""What the rows of a run amount to: rates with intervals, changes against the unedited model, verdicts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from errata.report.names import method_title, model_title
from errata.report.results import Results, Scores, is_probe
from errata.runs.config import RunConfig
from errata.runs.ledger import Entry
from errata.stats.curves import (
    Break,
    Curve,
    certifiable_margin,
    collapse_point,
    collapsed,
    first_loss,
    holm_over,
    noninferior,
    safe_horizon,
)
from errata.stats.paired import (
    Interval,
    PairedDifference,
    mcnemar_exact,
    mean_interval,
    paired_difference,
    wilson,
    wilson_clustered,
)

Status = Literal["unedited", "held", "undecided", "worse", "collapsed", "invalid"]
Flag = Literal["invalid", "collapsed", "lost", "constant", "mute", "unparsed", "floor"]

MOST = 0.9
"""A share of equal answers from which they count as constant."""
HALF = 0.5
"""A share of empty, unparsed or non-finite items from which a table says so, rather than what its score is."""


@dataclass(frozen=True)
class Measure:
    """One table at one checkpoint. Rates are shares of all n items; an item that is invalid is not correct.

    accuracy: None where most items are invalid: non-finite logits are a result, never a score.
    low, high: 95 %, Wilson; with the effective number of items where some go together (`Scores.groups`).
    chance: of guessing. top, top_share: the most frequent answer and its share (None: no answer found).
    legacy, clean_stop, contains, tokens: means, as in `Scores`; None where they do not apply.
    """

    table: str
    edits: int
    n: int
    accuracy: float | None
    low: float
    high: float
    chance: float
    parsed: float
    empty: float
    invalid: float
    top: str | None
    top_share: float
    legacy: float | None
    clean_stop: float | None
    contains: float | None
    tokens: float | None


@dataclass(frozen=True)
class Mean:
    """The unweighted mean over benchmarks and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Analysis:
    """One run, weighed. Everything a report says of it is read from here.

    curve, adjusted: changes against the unedited model by edits and task; p after Holm over the tasks.
    margin: the loss that `horizon` excludes. ability, change: mean over the tasks, by edits.
    """

    label: str
    results: Results
    measures: Mapping[int, Mapping[str, Measure]]
    curve: Curve
    adjusted: Mapping[int, Mapping[str, float]]
    margin: float
    horizon: int | None
    loss: Break | None
    collapse: Break | None
    ability: Mapping[int, Mean]
    change: Mapping[int, Mean]

    @property
    def last(self) -> int:
        return self.results.checkpoints[-1]

    @property
    def entries(self) -> list[Entry]:
        """Of the ledger, up to the last checkpoint."""
        ledger = self.results.ledger
        return list(ledger) if self.results.singles else [entry for entry in ledger if entry.edits <= self.last]

    def get(self, edits: int, table: str) -> Measure | None:
        return self.measures.get(edits, {}).get(table)

    def flags(self, edits: int, task: str) -> tuple[Flag, ...]:
        """What to know before reading the score of `task`, gravest first."""
        measure, base = self.get(edits, task), self.get(0, task)
        if measure is None:
            return ()
        change = self.curve.get(edits, {}).get(task)
        found: dict[Flag, bool] = {
            "invalid": measure.invalid >= HALF,
            "collapsed": change is not None and collapsed(change),
            "lost": change is not None and change.difference < 0 and self.adjusted[edits][task] <= 0.05,
            "constant": _constant(measure) and not (edits and base is not None and _constant(base)),
            "mute": measure.empty >= HALF,
            "unparsed": 1 - measure.parsed >= HALF and measure.empty < HALF,
            "floor": base is not None and base.low <= base.chance,
        }
        return tuple(flag for flag, holds in found.items() if holds)

    def status(self, edits: int) -> Status:
        """The verdict on one checkpoint, from its worst benchmark."""
        changes = self.curve.get(edits, {})
        if not edits or not changes:
            return "undecided" if edits else "unedited"
        flags = {flag for task in changes for flag in self.flags(edits, task)}
        if "invalid" in flags:
            return "invalid"
        if "collapsed" in flags:
            return "collapsed"
        if "lost" in flags:
            return "worse"
        return "held" if all(noninferior(change, self.margin) for change in changes.values()) else "undecided"


def analyse(runs: Sequence[Results], chances: Mapping[str, float], margin: float | None = None) -> list[Analysis]:
    """Weigh each run. chances: the score of guessing by task, where it is known.

    margin: the loss of accuracy that "safe" excludes; by default the smallest that the fewest items of any
    benchmark of any run can certify, so that all runs are held to the same one.
    """
    fewest = min((scores.n for run in runs for scores in _abilities(run)), default=0)
    agreed = margin or certifiable_margin(fewest) or 0.20
    return [_analyse(run, label, chances, agreed) for run, label in zip(runs, labels(runs), strict=True)]


def labels(runs: Sequence[Results]) -> list[str]:
    """A short name for each run: the method, and whatever else differs between them."""
    configs = [run.resolved.config for run in runs]
    parts = [[method_title(run.method), *_clipped(run.resolved.config)] for run in runs]
    for key in ("model", "data", "setting", "batch", "seed"):
        if len({getattr(config, key) for config in configs}) > 1:
            for part, config in zip(parts, configs, strict=True):
                value = getattr(config, key)
                part.append(f"{key} {value}" if key in ("batch", "seed") else model_title(value))
    names = [", ".join(part) for part in parts]
    twice = {name for name, count in Counter(names).items() if count > 1}
    return [
        f"{name} ({run.path.name.rpartition('-')[2]})" if name in twice else name
        for name, run in zip(names, runs, strict=True)
    ]


def _clipped(config: RunConfig) -> list[str]:
    return [f"{config.filter['name'].upper()} filter"] if config.filter else []


def _abilities(run: Results) -> list[Scores]:
    return [scores for tables in run.scores.values() for name, scores in tables.items() if not is_probe(name)]


def _analyse(run: Results, label: str, chances: Mapping[str, float], margin: float) -> Analysis:
    measures = {
        edits: {name: measure(scores, chances.get(name)) for name, scores in tables.items()}
        for edits, tables in run.scores.items()
    }
    curve = {edits: changes for edits in run.edited if (changes := _changes(run, edits))}
    return Analysis(
        label=label,
        results=run,
        measures=measures,
        curve=curve,
        adjusted={edits: holm_over(changes) for edits, changes in curve.items()},
        margin=margin,
        horizon=safe_horizon(curve, margin),
        loss=first_loss(curve),
        collapse=_collapse(curve, measures),
        ability={edits: mean for edits in run.checkpoints if (mean := _mean_ability(run, measures[edits]))},
        change={edits: _mean_change(changes) for edits, changes in curve.items() if len(changes) == len(run.tasks)},
    )


def measure(scores: Scores, chance: float | None = None) -> Measure:
    """The rates of one table. chance: that of the best constant answer on these items if not given."""
    right = int(scores.correct.sum())
    answers = Counter(scores.predicted)
    top, count = answers.most_common(1)[0] if answers else (None, 0)
    low, high = _interval(scores)
    invalid = _share(scores.invalid)
    return Measure(
        table=scores.table,
        edits=scores.edits,
        n=scores.n,
        accuracy=right / scores.n if scores.n and invalid < HALF else None,
        low=low,
        high=high,
        chance=_best_constant(scores) if chance is None else chance,
        parsed=_share(scores.parsed),
        empty=_share(scores.empty),
        invalid=invalid,
        top=top,
        top_share=count / scores.n if scores.n else 0.0,
        legacy=_known_mean(scores.legacy),
        clean_stop=_known_mean(scores.clean_stop),
        contains=_known_mean(scores.contains),
        tokens=_known_mean(scores.tokens),
    )


def _interval(scores: Scores) -> Interval:
    found = [wilson_clustered(scores.correct, labels) for labels in scores.groups]
    return max(found, key=lambda i: i.high - i.low) if found else wilson(int(scores.correct.sum()), scores.n)


def _share(flags: NDArray[np.bool_]) -> float:
    return float(flags.mean()) if flags.size else 0.0


def _known_mean(values: NDArray[np.float64]) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None


def _best_constant(scores: Scores) -> float:
    """Accuracy of always giving the most frequent right answer."""
    counts = Counter(scores.gold)
    return max(counts.values()) / scores.n if counts else 0.0


def _constant(measure: Measure) -> bool:
    """Whether nearly all answers are the same one, though the right answers are not."""
    return measure.top is not None and measure.top_share >= MOST and measure.chance < MOST


def _changes(run: Results, edits: int) -> dict[str, PairedDifference]:
    """Changes of the abilities that were measured both before and after `edits` edits."""
    return {
        task: _paired(before, after)
        for task in run.tasks
        if (before := run.get(0, task)) is not None and (after := run.get(edits, task)) is not None
    }


def _paired(before: Scores, after: Scores) -> PairedDifference:
    place = {item: row for row, item in enumerate(before.items)}
    common = [(place[item], row) for row, item in enumerate(after.items) if item in place]
    rows = np.array(common, dtype=np.intp).reshape(-1, 2)
    pair = before.correct[rows[:, 0]], after.correct[rows[:, 1]]
    if not after.groups:
        return paired_difference(*pair)
    change = min((paired_difference(*pair, labels[rows[:, 1]]) for labels in after.groups), key=lambda c: c.effective)
    share = change.effective / change.n if change.n else 1.0
    return replace(change, p=float(mcnemar_exact(round(change.broke * share), round(change.fixed * share))))


def _collapse(curve: Curve, measures: Mapping[int, Mapping[str, Measure]]) -> Break | None:
    """The first collapse, by a loss or by logits that are no longer finite."""
    fallen = collapse_point(curve)
    for edits in sorted(curve):
        if fallen is not None and fallen.edits <= edits:
            break
        invalid = [task for task in curve[edits] if measures[edits][task].invalid >= HALF]
        if invalid:
            return Break(invalid[0], edits, curve[edits][invalid[0]])
    return fallen


def _mean_ability(run: Results, measures: Mapping[str, Measure]) -> Mean | None:
    """None unless every ability has a score: a mean over fewer would not be comparable."""
    rows = [measures[task] for task in run.tasks if task in measures]
    values = [row.accuracy for row in rows if row.accuracy is not None]
    if not values or len(values) < len(run.tasks):
        return None
    value, (low, high) = mean_interval(values, [Interval(row.low, row.high) for row in rows])
    return Mean(value, low, high)


def _mean_change(changes: Mapping[str, PairedDifference]) -> Mean:
    rows = list(changes.values())
    value, (low, high) = mean_interval([row.difference for row in rows], [Interval(row.low, row.high) for row in rows])
    return Mean(value, low, high)
