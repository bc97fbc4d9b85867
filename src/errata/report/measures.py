"""What the rows of a run amount to: rates with intervals, changes against the unedited model, verdicts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from errata.registry import models
from errata.report.names import method_title, model_title
from errata.report.results import Results, Scores, is_probe
from errata.runs.config import RunConfig
from errata.runs.ledger import Entry
from errata.stats.curves import (
    Break,
    Curve,
    collapse_point,
    collapsed,
    first_loss,
    holm_over,
    noninferior,
    safe_horizon,
)
from errata.stats.means import by_weight, mean_interval, micro_macro, score_interval
from errata.stats.paired import PairedDifference, Verdict, mcnemar_exact, paired_difference, tost, verdict
from errata.stats.power import detectable_change
from errata.stats.rates import Interval, wilson_clustered

Status = Literal["unedited", "held", "undecided", "worse", "collapsed", "invalid"]
Flag = Literal["invalid", "collapsed", "lost", "constant", "mute", "unparsed", "floor"]

MOST = 0.9
"""A share of equal answers from which they count as constant."""
HALF = 0.5
"""A share of empty, unparsed or non-finite items from which a table says so, rather than what its score is."""
MARGIN, MARGIN_OF_ATLAS = 0.02, 0.05
"""The loss that "no harm" excludes unless told otherwise: of full benchmarks, and of the embedded world's."""
COMMON = 10
"""How many different answers are kept of a table."""


@dataclass(frozen=True)
class Measure:
    """One table at one checkpoint. Rates are shares of all n items; an item that is invalid is not correct.

    accuracy: None where most items are invalid: non-finite logits are a result, never a score. Of a graded
    benchmark the mean score, by weight where items have one. macro: the mean over kinds of items, such as subjects,
    None if there is one kind. readings: accuracy by other readings, such as a loose one. shortened: number of prompts
    that lost exemplars to fit. given_parsed: of the items with an answer, None if there is none.
    low, high: 95 %, Wilson; with the effective number of items where some go together (`Scores.groupings`).
    chance: of guessing, None where it is not known. best, best_share: the best constant answer and its accuracy.
    non_finite: number of items with logits that were not finite. answers: the most frequent ones and their counts.
    top, top_share: the first of these and its share (None: no answer found).
    legacy, clean_stop, contains, tokens: means, as in `Scores`; None where they do not apply.
    """

    table: str
    edits: int
    n: int
    accuracy: float | None
    macro: float | None
    readings: Mapping[str, float]
    shortened: int
    low: float
    high: float
    chance: float | None
    best: str | None
    best_share: float
    parsed: float
    given_parsed: float | None
    empty: float
    invalid: float
    non_finite: int
    answers: Mapping[str, int]
    top: str | None
    top_share: float
    legacy: float | None
    clean_stop: float | None
    contains: float | None
    tokens: float | None

    @property
    def blind(self) -> float:
        """The accuracy that takes no reading of the question: of guessing or of the best constant answer."""
        return max(self.chance or 0.0, self.best_share)


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
    margin: the loss that `horizon` excludes; it ends before a collapse. ability, change: mean over the tasks, by edits.
    """

    label: str
    results: Results
    measures: Mapping[int, Mapping[str, Measure]]
    curve: Mapping[int, Mapping[str, PairedDifference]]
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
            "constant": _constant(measure) if not edits else _became_constant(measure, base),
            "mute": measure.empty >= HALF,
            "unparsed": 1 - measure.parsed >= HALF and measure.empty < HALF,
            "floor": base is not None and base.low <= base.blind,
        }
        return tuple(flag for flag, holds in found.items() if holds)

    def fallen(self, edits: int, task: str) -> bool:
        """Whether an ability has collapsed: by its score, its answers or its logits."""
        gone: set[Flag] = {"collapsed", "constant", "invalid"}
        return task in self.curve.get(edits, {}) and not gone.isdisjoint(self.flags(edits, task))

    def verdict(self, edits: int, task: str) -> Verdict:
        """What the items show at the margin; a collapse is harm whatever the score."""
        return "harm" if self.fallen(edits, task) else verdict(self.curve[edits][task], self.margin)

    def equivalence(self, edits: int, task: str) -> float | None:
        """p of the two one-sided tests at the margin; None for a graded benchmark, whose limits tell it."""
        change = self.curve[edits][task]
        if self._graded(edits, task) or not change.n:
            return None
        weight = change.effective / change.n
        return tost(change.broke * weight, change.fixed * weight, change.effective, self.margin)

    def detectable(self, edits: int, task: str) -> float | None:
        """The smallest loss that these items show with 80 % power, after Holm's first step; None if none.

        With as many items changing to and fro besides as were seen to (`detectable_change`).
        """
        change = self.curve[edits][task]
        if self._graded(edits, task) or not change.n:
            return None
        exchange = min(change.broke, change.fixed) / change.n
        found = detectable_change(int(change.effective), exchange, 0.05 / len(self.curve[edits]))
        return found if found is not None and found <= change.before else None

    def _graded(self, edits: int, task: str) -> bool:
        return any(scores is not None and scores.graded for scores in map(self.results.get, (0, edits), (task, task)))

    def status(self, edits: int) -> Status:
        """The verdict on one checkpoint, from its worst benchmark."""
        changes = self.curve.get(edits, {})
        if not edits or not changes:
            return "undecided" if edits else "unedited"
        flags = {flag for task in changes for flag in self.flags(edits, task)}
        if "invalid" in flags:
            return "invalid"
        if flags & {"collapsed", "constant"}:
            return "collapsed"
        if "lost" in flags:
            return "worse"
        return "held" if all(noninferior(change, self.margin) for change in changes.values()) else "undecided"


def analyse(runs: Sequence[Results], chances: Mapping[str, float], margin: float | None = None) -> list[Analysis]:
    """Weigh each run. chances: the score of guessing by task, where it is known.

    margin: the loss of accuracy that "no harm" excludes, of all runs alike; by default five points where the
    embedded world is among them, else two.
    """
    agreed = default_margin(runs) if margin is None else margin
    return [_analyse(run, label, chances, agreed) for run, label in zip(runs, labels(runs), strict=True)]


def default_margin(runs: Sequence[Results]) -> float:
    """`MARGIN_OF_ATLAS` if a run is of an embedded model or of the embedded world's benchmarks, else `MARGIN`."""
    embedded = {name for name, info in models().items() if info.kind == "embedded"}
    small = any(run.model in embedded or any(task.startswith("atlas_") for task in run.tasks) for run in runs)
    return MARGIN_OF_ATLAS if small else MARGIN


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


def _analyse(run: Results, label: str, chances: Mapping[str, float], margin: float) -> Analysis:
    measures = {
        edits: {name: measure(scores, chances.get(name)) for name, scores in tables.items()}
        for edits, tables in run.scores.items()
    }
    curve = {edits: changes for edits in run.edited if (changes := _changes(run, edits))}
    collapse = collapse_point(curve, {edits: broken(measures, edits) for edits in curve})
    return Analysis(
        label=label,
        results=run,
        measures=measures,
        curve=curve,
        adjusted={edits: holm_over(changes) for edits, changes in curve.items()},
        margin=margin,
        horizon=safe_horizon(sound(curve, collapse), margin),
        loss=first_loss(curve),
        collapse=collapse,
        ability={edits: mean for edits in run.checkpoints if (mean := _mean_ability(run, measures[edits]))},
        change={edits: _mean_change(changes) for edits, changes in curve.items() if len(changes) == len(run.tasks)},
    )


def broken(measures: Mapping[int, Mapping[str, Measure]], edits: int) -> list[str]:
    """Tables that have collapsed after so many edits whatever their score: see `collapse_point`."""
    base = measures.get(0, {})
    return [
        name
        for name, found in measures[edits].items()
        if not is_probe(name) and (found.invalid >= HALF or _became_constant(found, base.get(name)))
    ]


def sound(curve: Curve, collapse: Break | None) -> Curve:
    """The part of a curve before a collapse."""
    return {edits: row for edits, row in curve.items() if collapse is None or edits < collapse.edits}


def measure(scores: Scores, chance: float | None = None) -> Measure:
    """The rates of one table."""
    answers = Counter(scores.predicted)
    top, count = answers.most_common(1)[0] if answers else (None, 0)
    # Where items have weights, as in F1, a constant answer does not score its share of the right ones.
    best, most = Counter(scores.gold).most_common(1)[0] if scores.gold and not scores.weighted else (None, 0)
    intervals = [rate_interval(scores.values, labels) for labels in scores.groupings]
    low, high = max(intervals, key=lambda interval: interval.high - interval.low)
    invalid = _share(scores.invalid)
    scored = bool(scores.n) and invalid < HALF
    accuracy, macro = micro_macro(scores.score, scores.weight, scores.kind) if scored else (None, None)
    return Measure(
        table=scores.table,
        edits=scores.edits,
        n=scores.n,
        accuracy=accuracy,
        macro=macro,
        readings={name: float(values.mean()) for name, values in scores.readings.items()} if scored else {},
        shortened=int(scores.shortened.sum()),
        low=low,
        high=high,
        chance=chance,
        best=best,
        best_share=most / scores.n if scores.n else 0.0,
        parsed=_share(scores.parsed),
        given_parsed=_given_parsed(scores),
        empty=_share(scores.empty),
        invalid=invalid,
        non_finite=int(scores.invalid.sum()),
        answers={answer: times for answer, times in answers.most_common(COMMON) if answer is not None},
        top=top,
        top_share=count / scores.n if scores.n else 0.0,
        legacy=_known_mean(scores.legacy),
        clean_stop=_known_mean(scores.clean_stop),
        contains=_known_mean(scores.contains),
        tokens=_known_mean(scores.tokens),
    )


def _given_parsed(scores: Scores) -> float | None:
    values = by_weight(scores.score[scores.parsed], scores.weight[scores.parsed]) if scores.parsed.any() else None
    return None if values is None else float(values.mean())


def rate_interval(score: NDArray[np.float64], clusters: NDArray[Any]) -> Interval:
    """95 % interval of an accuracy or mean score. score, clusters: (n,)."""
    if np.isin(score, (0.0, 1.0)).all():
        return wilson_clustered(score, clusters)
    return score_interval(score, clusters)


def _share(flags: NDArray[np.bool_]) -> float:
    return float(flags.mean()) if flags.size else 0.0


def _known_mean(values: NDArray[np.float64]) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None


def _constant(measure: Measure) -> bool:
    """Whether nearly all answers are the same one, though the right answers are not."""
    return measure.top is not None and measure.top_share >= MOST and measure.best_share < MOST


def _became_constant(measure: Measure, base: Measure | None) -> bool:
    return _constant(measure) and not (base is not None and _constant(base))


def _changes(run: Results, edits: int) -> dict[str, PairedDifference]:
    """Changes of the abilities that were measured both before and after `edits` edits."""
    return {
        task: _paired(before, after)
        for task in run.tasks
        if (before := run.get(0, task)) is not None and (after := run.get(edits, task)) is not None
    }


def common(before: Scores, after: Scores) -> NDArray[np.intp]:
    """(n, 2) row before and row after of each item that is in both."""
    place = {item: row for row, item in enumerate(before.items)}
    found = [(place[item], row) for row, item in enumerate(after.items) if item in place]
    return np.array(found, dtype=np.intp).reshape(-1, 2)


def _paired(before: Scores, after: Scores) -> PairedDifference:
    """The change of the items in common; where they go together in several ways, by the one that tells least."""
    rows = common(before, after)
    old, new = rows[:, 0], rows[:, 1]
    ways = after.groupings if len(after.groupings) > 1 else before.groupings
    at = new if len(after.groupings) > 1 else old
    found = [paired_difference(before.values[old], after.values[new], clusters=labels[at]) for labels in ways]
    change = min(found, key=lambda way: way.effective)
    if len(ways) > 1 and change.n:
        share = change.effective / change.n
        return replace(change, p=mcnemar_exact(round(change.broke * share), round(change.fixed * share)))
    if not (before.weighted or after.weighted):
        return change
    # Linearised values all move with the mean; which items became better or worse, only their scores tell.
    items = paired_difference(before.score[old], after.score[new], clusters=ways[0][at])
    return replace(change, p=items.p, broke=items.broke, fixed=items.fixed)


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
