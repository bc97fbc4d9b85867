"""Findings of "Model Editing Can Hurt General Abilities of Large Language Models" (arXiv 2401.04700) on records.

P2-1 to P2-4 are those of its sections 6.1 to 6.3; P2-5 and P2-6 of its later form, with RECT.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from math import isnan

import numpy as np

from errata.report.findings import (
    Ballot,
    Statement,
    Vote,
    alike,
    every,
    matrix,
    method_of,
    most,
    named,
    usable,
)
from errata.report.formats import edits_text, points, share
from errata.report.measures import Analysis
from errata.report.names import model_title
from errata.report.results import Results
from errata.runs.recipe import benchmark_title
from errata.stats.rates import Interval
from errata.stats.resampling import Samples, kept, percentile_interval, resampled_means, slope

NOTHING = 0.1
"""A score up to which an ability is nearly gone."""
RETAINED = 0.94
"""The share of edit success that RECT keeps at 40 %, by the paper."""


def kn_destroys(analyses: Sequence[Analysis]) -> Iterator[Vote]:
    """P2-1: every ability is nearly gone after the first one or two edits."""
    for run in analyses:
        first = [edits for edits in run.curve if edits <= 2 and run.results.resolved.config.batch == 1]
        if run.results.resolved.config.method == "kn" and first:
            yield _gone(run, first[-1])


def _gone(run: Analysis, edits: int) -> Vote:
    measures = {task: found for task in usable(run) if (found := run.get(edits, task)) is not None}
    unit = named(run, edits_text(edits))
    if not measures:
        return Vote(unit, "void", "no benchmark that is above chance unedited")
    told = ", ".join(f"{benchmark_title(task)} {share(found.accuracy or 0.0)}" for task, found in measures.items())
    alive = any(found.low > NOTHING for found in measures.values())
    dead = all(found.high <= NOTHING for found in measures.values())
    return Vote(unit, "against" if alive else "for" if dead else "open", told)


def rome_declines(analyses: Sequence[Analysis]) -> Iterator[Vote]:
    """P2-2: each benchmark over the number of edits, by its straight line over the checkpoints."""
    for run in analyses:
        config = run.results.resolved.config
        if config.method == "rome" and config.filter is None and len(run.results.edited) > 1:
            for task in usable(run):
                points_ = [(run.results, edits) for edits in run.results.checkpoints]
                yield _falls(named(run, benchmark_title(task)), points_, task, "edits")


def _falls(unit: str, curve: Sequence[tuple[Results, int]], task: str, over: str) -> Vote:
    """Whether a benchmark falls along a curve of at least two points, by its straight line over their ranks."""
    scores = matrix(curve, task)
    if scores is None:
        return Vote(unit, "void", "not the same items at all points")
    seen = scores.mean(axis=0)
    limits = percentile_interval(_a_step(resampled_means(scores)))
    rises = int((np.diff(seen) > 0).sum())
    told = f"{_points(float(_a_step(seen)), limits)} a step over the {over}"
    return Vote(unit, _below(limits), told + (f", rising at {rises} of {len(seen) - 1}" if rises else ""))


def _a_step(means: Samples) -> Samples:
    """Change from one point of a curve to the next, by its straight line. means: (..., k)"""
    return slope(means, range(means.shape[-1]))


def _below(limits: Interval) -> Ballot:
    return "for" if limits.high < 0 else "against" if limits.low > 0 else "open"


def _points(change: float, limits: Interval) -> str:
    return f"{points(change)} (95 % {points(limits.low)} to {points(limits.high)})"


def _by_batch(analyses: Sequence[Analysis], operations: int) -> Iterator[dict[int, Analysis]]:
    """Runs that differ in their batch size alone, by batch size, ascending; only where there are several sizes.

    operations: numbers of batches, at least, after which a run was measured.
    """
    groups: dict[str, dict[int, Analysis]] = {}
    for run in analyses:
        if run.results.resolved.config.setting == "sequential" and len(_operations(run)) >= operations:
            groups.setdefault(alike(run, "batch", "edits"), {})[run.results.resolved.config.batch] = run
    yield from (dict(sorted(runs.items())) for runs in groups.values() if len(runs) > 1)


def _operations(run: Analysis) -> set[int]:
    """Numbers of whole batches after which abilities were measured."""
    size = run.results.resolved.config.batch
    return {edits // size for edits in run.curve if edits % size == 0}


def larger_batches(analyses: Sequence[Analysis]) -> Iterator[Vote]:
    """P2-3: each benchmark over the size of a single batch."""
    for runs in _by_batch([run for run in analyses if 1 in _operations(run)], 1):
        sizes = ", ".join(f"{size:,}" for size in runs)
        curve = [(run.results, size) for size, run in runs.items()]
        for unit, task in _benchmarks(runs):
            yield _falls(unit, curve, task, f"sizes {sizes}")


def both_hurt(analyses: Sequence[Analysis]) -> Iterator[Vote]:
    """P2-4: each benchmark falls over operations at every batch size taken together, and over sizes as well."""
    for runs in _by_batch(analyses, 2):
        counts = sorted(set.intersection(*map(_operations, runs.values())))
        if len(counts) > 1:
            yield from (_two_ways(unit, runs, counts, task) for unit, task in _benchmarks(runs))


def _benchmarks(runs: Mapping[int, Analysis]) -> Iterator[tuple[str, str]]:
    """(unit of votes, task) for each benchmark on which a loss can show."""
    first = next(iter(runs.values()))
    for task in usable(first):
        yield f"{method_of(first)}, {model_title(first.results.model)}, {benchmark_title(task)}", task


def _two_ways(unit: str, runs: Mapping[int, Analysis], counts: Sequence[int], task: str) -> Vote:
    scores = matrix([(run.results, size * count) for size, run in runs.items() for count in counts], task)
    if scores is None:
        return Vote(unit, "void", "not the same items at all points")
    shape = (len(runs), len(counts))

    def over_edits(means: Samples) -> Samples:
        return _a_step(means.reshape(-1, *shape).mean(axis=1))

    def over_sizes(means: Samples) -> Samples:
        return _a_step(means.reshape(-1, *shape).mean(axis=2))

    drawn, seen = resampled_means(scores), scores.mean(axis=0)
    told, ballots = [], []
    for name, along in (("operations", over_edits), ("sizes", over_sizes)):
        limits = percentile_interval(along(drawn))
        told.append(f"{_points(float(along(seen)[0]), limits)} a step over the {name}")
        ballots.append(_below(limits))
    ballot: Ballot = "against" if "against" in ballots else "for" if ballots == ["for", "for"] else "open"
    return Vote(unit, ballot, "; ".join(told))


def sparse_and_growing(analyses: Sequence[Analysis]) -> Iterator[Vote]:
    """P2-5: by one edit most weights hardly move in proportion; ever more do. Exact: all weights are counted."""
    for run in analyses:
        if run.results.edited[:1] != (1,):
            continue
        health = run.results.health
        moved = [health.get(edits, {}).get("moved_077") for edits in run.results.edited]
        paths = [health.get(edits, {}).get("manhattan") for edits in run.results.edited]
        known = [(m, d) for m, d in zip(moved, paths) if m is not None and d is not None and not isnan(m + d)]
        if len(known) < 2 or run.results.resolved.config.setting == "single":
            continue
        first, last = known[0], known[-1]
        sparse = first[0] < 0.5
        grows = all(a <= b for pair in pairwise(known) for a, b in zip(*pair))
        shrinks = last[0] < first[0] or last[1] < first[1]
        ballot: Ballot = "for" if sparse and grows else "against" if shrinks or not sparse else "open"
        told = (
            f"weights moved by more than 7.7 %: {share(first[0])} after {edits_text(run.results.edited[0])}, "
            f"{share(last[0])} after {edits_text(run.last)}; distance {first[1]:.0f} to {last[1]:.0f}"
        )
        yield Vote(named(run), ballot, told)


def rect_keeps(analyses: Sequence[Analysis]) -> Iterator[Vote]:
    """P2-6: RECT at 40 % beside the same run without it."""
    plain = {alike(run, "filter", "edits"): run for run in analyses if run.results.resolved.config.filter is None}
    for run in analyses:
        clip = run.results.resolved.config.filter
        base = plain.get(alike(run, "filter", "edits"))
        if clip is not None and clip["name"] == "rect" and clip["keep"] == 0.4 and base is not None:
            common = set(run.results.edited) & set(base.results.edited)
            if common:
                yield _regularised(run, base, max(common))


def _regularised(run: Analysis, base: Analysis, edits: int) -> Vote:
    told, ballots = [], list[Ballot]()
    for probe in ("efficacy", "generalization"):
        scores = matrix([(base.results, edits), (run.results, edits)], probe)
        if scores is not None and scores[:, 0].any():
            limits = percentile_interval(_ratio(resampled_means(scores)))
            ballots.append("for" if limits.low >= RETAINED else "against" if limits.high < RETAINED else "open")
            told.append(f"{probe} {float(_ratio(scores.mean(axis=0)[None])[0]):.2f} of that without")
    for name, tables in (("locality", ["locality"]), ("abilities", usable(base))):
        found = [
            m for table in tables if (m := matrix([(base.results, edits), (run.results, edits)], table)) is not None
        ]
        if found:
            gains = np.mean([resampled_means(m, seed=i) @ [-1, 1] for i, m in enumerate(found)], axis=0)
            seen = float(np.mean([m.mean(axis=0) @ [-1, 1] for m in found]))
            limits = percentile_interval(gains)
            ballots.append("for" if limits.low > 0 else "against" if limits.high < 0 else "open")
            told.append(f"{name} {_points(seen, limits)}")
    if not ballots:
        return Vote(named(run), "void", "nothing was measured in common")
    ballot: Ballot = "against" if "against" in ballots else "for" if set(ballots) == {"for"} else "open"
    return Vote(named(run, edits_text(edits)), ballot, "; ".join(told))


def _ratio(means: Samples) -> Samples:
    return kept(means)[:, 1]


STATEMENTS: Sequence[Statement] = (
    Statement(
        "P2-1",
        2,
        "After one or two edits by KN every ability is nearly gone.",
        kn_destroys,
        every,
        "No run of KN was measured after one or two edits.",
        "The figure agrees.",
    ),
    Statement(
        "P2-2",
        2,
        "Abilities fall, if not steadily, as ROME makes one edit after another.",
        rome_declines,
        most,
        "No run of ROME was measured at two numbers of edits.",
        "The figure agrees; the released code applies only the first edit, so it cannot have drawn it.",
    ),
    Statement(
        "P2-3",
        2,
        "A larger single batch leaves lower scores in most cases.",
        larger_batches,
        most,
        "No method was run with single batches of several sizes.",
        "The figure agrees but for reasoning by MEMIT on GPT2-XL, which first rises.",
    ),
    Statement(
        "P2-4",
        2,
        "More edits and larger batches both cost ability.",
        both_hurt,
        most,
        "No method was run with several batch sizes at the same numbers of operations.",
        "The figures agree.",
    ),
    Statement(
        "P2-5",
        2,
        "An edit moves few weights much in proportion, and ever more as edits go on.",
        sparse_and_growing,
        most,
        "No run that changes weights was measured after one edit and after more.",
        "20 % of the weights after one edit, 73 % after 15; a ratio of two normal variables is as sparse.",
    ),
    Statement(
        "P2-6",
        2,
        "RECT at 40 % keeps at least 94 % of edit success, and raises locality and abilities.",
        rect_keeps,
        most,
        "No method was run with RECT at 40 % and without it.",
        "The figure agrees; sentiment stays poor.",
    ),
)
