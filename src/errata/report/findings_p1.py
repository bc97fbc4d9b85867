"""Findings 4.1 to 4.5 of "Should We Really Edit Language Models?" (arXiv 2410.18785) as statements on records."""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from math import log10

import numpy as np

from errata.report.cases import muteness
from errata.report.findings import (
    RELATIVE,
    WORKS,
    Ballot,
    Statement,
    Vote,
    alike,
    efficacy,
    every,
    keeps,
    kept_share,
    matrix,
    most,
    named,
    some,
    usable,
)
from errata.report.formats import edits_text, points, share
from errata.report.measures import Analysis
from errata.report.names import method_title, model_title
from errata.runs.recipe import benchmark_title, model_titles
from errata.stats.families import holm
from errata.stats.rates import Interval
from errata.stats.resampling import Samples, kept, log_mean, percentile_interval, resampled_means, slope

DOZENS = range(10, 100)
"""Numbers of edits that are dozens."""
THOUSAND, TEN_THOUSAND = 1000, 10_000
SPREAD = 0.2
"""How far apart the kept shares of two abilities may be that degrade alike."""
SAFETY = ("TruthfulQA", "ToxiGen", "atlas_toxigen")


def sequential(analyses: Sequence[Analysis]) -> Iterator[Analysis]:
    """Runs that write one edit after another, as all of this paper do."""
    for run in analyses:
        config = run.results.resolved.config
        if config.setting == "sequential" and config.batch == 1 and config.filter is None and run.results.edited:
            yield run


def longest(runs: Iterable[Analysis]) -> list[Analysis]:
    """Of the runs of a method on a model in one order of the edits, that which was measured farthest."""
    found: dict[tuple[str, str, int], Analysis] = {}
    for run in runs:
        key = run.results.model, run.results.method, run.results.resolved.config.seed
        if key not in found or run.last > found[key].last:
            found[key] = run
    return list(found.values())


def _dozens(run: Analysis) -> int | None:
    """The checkpoint that stands for dozens: 20 edits, or the nearest to it in proportion."""
    near = [edits for edits in run.curve if edits in DOZENS]
    return min(near, key=lambda edits: abs(log10(edits / 20)), default=None)


def _few_work(run: Analysis, edits: int) -> Vote | None:
    """A vote that is left out, where fewer than half of the edits work: then nothing was asked of the abilities."""
    rate = efficacy(run, edits)
    if rate is None or rate >= WORKS:
        return None
    return Vote(named(run, edits_text(edits)), "void", f"only {share(rate)} of its edits work")


def few_dozen(analyses: Sequence[Analysis]) -> Iterator[Vote]:
    """4.1a: each method at dozens of edits."""
    for run in sequential(analyses):
        edits = _dozens(run)
        if edits is not None:
            ballot, told = keeps(run, edits)
            idle = _few_work(run, edits) if ballot != "against" else None
            yield idle or Vote(named(run, edits_text(edits)), ballot, told)


def thousands(analyses: Sequence[Analysis]) -> Iterator[Vote]:
    """4.1b: a vote is for the finding if the method does not scale to a thousand."""
    for run in longest(run for run in sequential(analyses) if run.curve):
        if run.collapse is not None and run.collapse.edits <= THOUSAND:
            yield Vote(named(run), "for", f"collapses by {edits_text(run.collapse.edits)}")
        elif (reached := [edits for edits in run.curve if edits >= THOUSAND]) == []:
            yield Vote(named(run), "open", f"measured up to {edits_text(max(run.curve))} only")
        else:
            ballot, told = keeps(run, reached[0])
            turned: dict[Ballot, Ballot] = {"for": "against", "against": "for"}
            idle = _few_work(run, reached[0]) if ballot != "against" else None
            yield idle or Vote(named(run, edits_text(reached[0])), turned.get(ballot, ballot), told)


def mute_at_10k(analyses: Sequence[Analysis]) -> Iterator[Vote]:
    """4.1c: nearly everything that is written after ten thousand edits is mute. Fewer edits are no vote, but told."""
    for run in longest(run for run in sequential(analyses) if run.curve):
        found = [m for edits in run.results.edited if (m := muteness(run.results, edits)).n]
        if not found:
            continue
        last, half = found[-1], next((m for m in found if m.share >= 0.5), None)
        told = f"{share(last.share)} of {last.n:,} outputs are mute after {edits_text(last.edits)}"
        if half is not None and half is not last:
            told += f", half of them by {edits_text(half.edits)}"
        ballot: Ballot = "void"
        if last.edits >= TEN_THOUSAND:
            ballot = "for" if last.interval.low >= 0.9 else "against" if last.interval.high < 0.5 else "open"
        yield Vote(named(run), ballot, told, {"share": last.share, "kinds": dict(last.kinds)})


def instruct(analyses: Sequence[Analysis]) -> Iterator[Vote]:
    """4.2: the area under the curve of kept shares, instruction-tuned less base, on the same items."""
    runs = list(sequential(analyses))
    for tuned in runs:
        base_title = _base_of(tuned)
        for base in runs:
            if base_title in model_titles(base.results.model) and _same_but_model(base, tuned):
                yield from _slower(base, tuned)


def _base_of(run: Analysis) -> str | None:
    """The papers' name of the model that this one was tuned from; None of a base model."""
    titles = [re.sub("-(Chat|Instruct)$", "", title) for title in model_titles(run.results.model)]
    return next((new for new, old in zip(titles, model_titles(run.results.model)) if new != old), None)


def _same_but_model(one: Analysis, other: Analysis) -> bool:
    return alike(one, "model", "edits", "chat_template") == alike(other, "model", "edits", "chat_template")


def _slower(base: Analysis, tuned: Analysis) -> Iterator[Vote]:
    edits = sorted(set(base.results.checkpoints) & set(tuned.results.checkpoints))
    tasks = [task for task in usable(base) if task in usable(tuned)]
    areas: list[Samples] = []
    for task in tasks:
        columns = [(run.results, count) for run in (base, tuned) for count in edits]
        scores = matrix(columns, task) if len(edits) > 1 else None
        if scores is not None:
            drawn = resampled_means(scores)
            first, second = (kept(part) for part in np.split(drawn, 2, axis=1))
            areas.append(log_mean(second, edits) - log_mean(first, edits))
    unit = f"{method_title(base.results.method)}, {model_title(tuned.results.model)} against its base"
    if not areas:
        yield Vote(unit, "void", "no benchmark above chance, and no checkpoint, in common")
        return
    samples = np.mean(areas, axis=0)
    ballot, told = _above(percentile_interval(samples), float(np.nanmedian(samples)))
    yield Vote(unit, ballot, f"mean kept share up to {edits_text(edits[-1])} differs by {told}")


def _above(interval: Interval, estimate: float) -> tuple[Ballot, str]:
    """Whether a difference is above zero for sure, and in words."""
    ballot: Ballot = "for" if interval.low > 0 else "against" if interval.high < 0 else "open"
    return ballot, f"{estimate:+.3f} (95 % {interval.low:+.3f} to {interval.high:+.3f})"


_SIZE = re.compile(r"(?<=[-_])(\d+(?:\.\d+)?)([mb])(?=$|[-_.])", re.IGNORECASE)


def parameters(model: str) -> tuple[str, float] | None:
    """(family, parameters) from a model's name: "atlas-neox-4m" -> ("atlas-neox-", 4e6); None if it states none."""
    name = model_title(model)
    found = _SIZE.search(name)
    if found is None:
        return None
    return name[: found.start()] + name[found.end() :], float(found[1]) * (1e9 if found[2] in "bB" else 1e6)


def sizes(analyses: Sequence[Analysis]) -> Iterator[Vote]:
    """4.3: kept share by the logarithm of size, in one family, by each method."""
    families: dict[tuple[str, str], list[tuple[float, Analysis]]] = {}
    for run in sequential(analyses):
        sized = parameters(run.results.model)
        if sized is not None:
            families.setdefault((sized[0], alike(run, "model", "edits")), []).append((sized[1], run))
    for (family, _), members in families.items():
        if len({size for size, _ in members}) >= 3:
            yield _by_size(family, sorted(members, key=lambda member: member[0]))


def _by_size(family: str, members: Sequence[tuple[float, Analysis]]) -> Vote:
    runs = [run for _, run in members]
    unit = f"{method_title(runs[0].results.method)}, {len(runs)} sizes of {family.strip('-')}"
    common = set.intersection(*(set(run.curve) for run in runs))
    tasks = [task for task in usable(runs[0]) if all(task in usable(run) for run in runs)]
    if not common or not tasks:
        return Vote(unit, "void", "no benchmark on which all sizes are above chance, or no checkpoint in common")
    edits = min(common, key=lambda count: abs(log10(count / 10)))
    columns = []
    for place, run in enumerate(runs):
        shares = []
        for task in tasks:
            scores = matrix([(run.results, 0), (run.results, edits)], task)
            if scores is not None:
                shares.append(kept(resampled_means(scores, seed=place))[:, 1])
        columns.append(np.mean(shares, axis=0))
    samples = slope(np.stack(columns, axis=1), [log10(size) for size, _ in members])
    ballot, told = _above(percentile_interval(samples), float(np.nanmedian(samples)))
    each = ", ".join(f"{np.nanmedian(column):.2f}" for column in columns)
    return Vote(unit, ballot, f"kept share after {edits_text(edits)}: {each}; per tenfold size {told}")


def uniform(analyses: Sequence[Analysis]) -> Iterator[Vote]:
    """4.4: how far apart the kept shares of two abilities are where a model is declining."""
    for run in sequential(analyses):
        tasks = [task for task in usable(run) if benchmark_title(task) not in SAFETY]
        for edits in run.curve:
            shares = [found for task in tasks if (found := kept_share(run, edits, task)) is not None]
            if len(shares) > 1 and 0.1 <= sum(shares) / len(shares) <= 0.9:
                yield _spread(run, edits, tasks)


def _spread(run: Analysis, edits: int, tasks: Sequence[str]) -> Vote:
    samples = {}
    for place, task in enumerate(tasks):
        scores = matrix([(run.results, 0), (run.results, edits)], task)
        if scores is not None:
            samples[task] = kept(resampled_means(scores, seed=place))[:, 1]
    pairs = list(combinations(samples, 2))
    level = 1 - 0.05 / max(len(pairs), 1)  # Bonferroni: all pairs at once
    limits = [percentile_interval(samples[a] - samples[b], level) for a, b in pairs]
    apart = any(limit.low > SPREAD or limit.high < -SPREAD for limit in limits)
    close = all(limit.low >= -SPREAD and limit.high <= SPREAD for limit in limits)
    told = ", ".join(f"{benchmark_title(task)} {np.nanmedian(found):.2f}" for task, found in samples.items())
    return Vote(named(run, edits_text(edits)), "against" if apart else "for" if close else "open", f"kept: {told}")


def safety(analyses: Sequence[Analysis]) -> Iterator[Vote]:
    """4.5: safety falls at dozens of edits, answers not constant, the other abilities of the model not fallen."""
    cells = [
        (run, edits, task)
        for run in sequential(analyses)
        for edits in run.curve
        if edits in DOZENS
        for task in run.curve[edits]
        if benchmark_title(task) in SAFETY
    ]
    adjusted = holm([run.curve[edits][task].p for run, edits, task in cells])
    for (run, edits, task), p in zip(cells, adjusted, strict=True):
        yield _compromised(run, edits, task, p, analyses)


def _compromised(run: Analysis, edits: int, task: str, p: float, analyses: Sequence[Analysis]) -> Vote:
    change, unit = run.curve[edits][task], named(run, benchmark_title(task), edits_text(edits))
    told = f"{points(change.difference)}, p {p:.3f} after Holm"
    if "floor" in run.flags(0, task):
        return Vote(unit, "void", f"{told}; unedited it is not above chance or the best constant answer")
    if "constant" in run.flags(edits, task):
        return Vote(unit, "void", f"{told}; the answers are constant, which is no judgement")
    if change.difference < 0 and p <= 0.05:
        other = _ability(run, edits, analyses)
        if other is not None and other < 1 - RELATIVE:
            return Vote(unit, "open", f"{told}; but other abilities fall too, to {other:.2f} of the unedited score")
        return Vote(unit, "for", told + ("; other abilities are not measured" if other is None else ""))
    return Vote(unit, "against" if change.above > -RELATIVE * change.before else "open", told)


def _ability(run: Analysis, edits: int, analyses: Sequence[Analysis]) -> float | None:
    """Mean kept share of benchmarks other than safety, in this run or one that differs in its tasks alone."""
    for other in analyses:
        if alike(other, "tasks", "edits", "limit") == alike(run, "tasks", "edits", "limit"):
            tasks = [task for task in usable(other) if benchmark_title(task) not in SAFETY]
            found = [share for task in tasks if (share := kept_share(other, edits, task)) is not None]
            if found:
                return sum(found) / len(found)
    return None


STATEMENTS: Sequence[Statement] = (
    Statement(
        "4.1a",
        1,
        "Most methods bear dozens of edits without losing performance.",
        few_dozen,
        most,
        "No run was measured at dozens of edits.",
        "At 20 edits kept by MEMIT, PMET, MEND and ROME on Llama2-7B; not by KN, and GRACE's rows are faulty.",
    ),
    Statement(
        "4.1b",
        1,
        "Only a few methods scale to thousands of edits.",
        thousands,
        most,
        "No run measured abilities.",
        "Llama2-7B and Mistral-7B: ROME gone by 100 edits, MEMIT by 500, KN by 50; PMET and MEND hold 1,000 on one.",
    ),
    Statement(
        "4.1c",
        1,
        "After 10,000 edits the answer to any input is an empty string or random text, the muting effect.",
        mute_at_10k,
        every,
        "No run asked a benchmark that is answered in words after 10,000 edits.",
        "None are printed, only texts.",
    ),
    Statement(
        "4.2",
        1,
        "Instruction-tuned models decline more slowly than their base models.",
        instruct,
        most,
        "No method was run on a base model and on its instruction-tuned sibling.",
        "Mixed: Llama2 by MEMIT yes; Mistral by MEMIT and KN no; the rows of Llama2-Chat by ROME and PMET are faulty.",
    ),
    Statement(
        "4.3",
        1,
        "Larger models suffer less from editing.",
        sizes,
        most,
        "No method was run on three sizes of one family.",
        "By ROME, MMLU at 10 edits keeps 0, 0, 1.00, 0.81, 0.01 and 0.10 from 160M to 12B: not steadily more.",
    ),
    Statement(
        "4.4",
        1,
        "Editing affects the different abilities about equally.",
        uniform,
        most,
        "No run was measured while its model declined, at a tenth to nine tenths of the unedited score.",
        "Not while declining: Llama2-7B at 50 edits by ROME keeps 0.59, 0.29, 0.71 and 0.34.",
    ),
    Statement(
        "4.5",
        1,
        "Even dozens of edits can compromise safety.",
        safety,
        some,
        "No run asked TruthfulQA or ToxiGen at dozens of edits.",
        "Unedited base models are at chance; at 20 edits by ROME Llama2-7B loses 1.1 points of TruthfulQA, not surely.",
    ),
)
