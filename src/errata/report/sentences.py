"""What runs show, in plain sentences. Every one is computed from the records."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from errata.report.formats import edits_text, number, p_value, points, points_span, share, span
from errata.report.measures import Analysis, Measure
from errata.report.names import ability_title
from errata.report.tables import written
from errata.stats.curves import Break, excluded_loss, items_needed, worst_excluded_loss
from errata.stats.paired import tango

About = Literal["edits", "success", "loss", "collapse", "safe", "care", "unknown"]

SECTIONS: Mapping[str, tuple[About, ...]] = {
    "What was done": ("edits", "success"),
    "What it cost": ("loss", "collapse", "safe"),
    "To be read with care": ("care",),
    "What is not known": ("unknown",),
}


@dataclass(frozen=True)
class Sentence:
    """about: what it is on. run: the label of the run it is of, None if of all."""

    about: About
    run: str | None
    text: str


def sentences(analyses: Sequence[Analysis]) -> list[Sentence]:
    """The summary, from what was done to what is not known."""
    told = [
        Sentence(about, analysis.label, text)
        for about, tell in _TELLERS.items()
        for analysis in analyses
        for text in tell(analysis)
    ]
    return told + [Sentence("unknown", None, text) for text in _unknown(analyses)]


def headline(analyses: Sequence[Analysis]) -> str:
    """The finding in one line."""
    models = {analysis.results.model for analysis in analyses}
    place = f" of {next(iter(models))}" if len(models) == 1 else ""
    first, *others = [f"{analysis.label} {_verdict(analysis, place)}" for analysis in analyses]
    return "; ".join([first, *(text.replace(place, "") if place else text for text in others)])


def _verdict(analysis: Analysis, place: str) -> str:
    last = edits_text(analysis.last)
    if not analysis.curve:
        return (
            f"wrote {last}, but no ability{place} was measured after them"
            if analysis.last
            else "has written no edit yet"
        )
    if analysis.collapse is not None:
        return f"breaks the {_name(analysis.collapse.benchmark)}{place} by {edits_text(analysis.collapse.edits)}"
    if analysis.loss is not None:
        return f"harms the {_name(analysis.loss.benchmark)}{place} by {edits_text(analysis.loss.edits)}"
    if analysis.horizon == analysis.last:
        return f"keeps every ability{place} up to {last}"
    return f"shows no significant loss{place} up to {last}"


def _name(task: str) -> str:
    """An ability in the middle of a sentence."""
    title = ability_title(task)
    return title.lower() if title != task else task


def _edits(analysis: Analysis) -> Iterable[str]:
    config = analysis.results.resolved.config
    counts = written([entry for entry in analysis.results.ledger if entry.edits <= analysis.last])
    how = "one at a time" if config.batch == 1 else f"in batches of up to {config.batch:,}"
    source = "" if config.data == config.model else f" of {config.data}"
    text = f"{analysis.label} wrote {edits_text(analysis.last)}{source} into {config.model}, {how}"
    if counts["seconds_per_edit"] is not None:
        text += f", in {number(counts['seconds_per_edit'])} seconds each"
    lost = [f"{counts[status]:,} {status}" for status in ("diverged", "skipped") if counts[status]]
    yield f"{text}; of these {' and '.join(lost)}." if lost else f"{text}."


_ASKED = {"efficacy": "the new answer", "generalization": "it to paraphrases", "retention": "it for earlier edits"}


def _success(analysis: Analysis) -> Iterable[str]:
    if not analysis.last:
        return
    label = analysis.label
    found = {name: measure for name in _ASKED if (measure := analysis.get(analysis.last, name)) is not None}
    if "efficacy" not in found:
        yield f"Whether the edits of {label} work was not measured: read its abilities with that in mind."
        return
    rates = [f"{_ASKED[name]} {_rate(measure)}" for name, measure in found.items()]
    neighbours = analysis.get(analysis.last, "locality")
    kept = f"; neighbours keep their answer {_rate(neighbours)}" if neighbours is not None else ""
    yield f"After {edits_text(analysis.last)} the model, asked freely, gives {_listed(rates)} with {label}{kept}."
    if (found["efficacy"].accuracy or 0) < 0.5 and analysis.collapse is None:
        yield f"Fewer than half of the edits of {label} work: stable abilities may mean that little was edited."


def _rate(measure: Measure) -> str:
    if measure.accuracy is None:
        return "never (its logits are not finite)"
    return f"in {share(measure.accuracy)} of cases ({span(measure.low, measure.high)})"


def _listed(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _loss(analysis: Analysis) -> Iterable[str]:
    if not analysis.curve:
        return
    label, found = analysis.label, analysis.loss
    if found is None:
        yield f"No benchmark falls significantly with {label} at any checkpoint up to {edits_text(analysis.last)}."
        return
    p = p_value(analysis.adjusted[found.edits][found.benchmark])
    yield (
        f"The first ability to suffer from {label} is {_name(found.benchmark)}: by {edits_text(found.edits)} "
        f"{_fall(analysis, found)} (p {p if p.startswith('<') else f'= {p}'}, Holm)."
    )


def _fall(analysis: Analysis, found: Break) -> str:
    change, measure = found.change, analysis.measures[found.edits][found.benchmark]
    if measure.accuracy is None:
        return f"{share(measure.invalid)} of its logits are not finite"
    return (
        f"it goes from {share(change.before)} to {share(measure.accuracy)}, "
        f"a change of {points(change.difference)} with a 95 % interval of {points_span(change.low, change.high)}"
    )


def _collapse(analysis: Analysis) -> Iterable[str]:
    found = analysis.collapse
    if found is None:
        return
    fallen = [task for task in analysis.curve[found.edits] if _gone(analysis, found.edits, task)]
    which = f"{len(fallen)} of {len(analysis.curve[found.edits])} benchmarks lost more than a tenth of their accuracy"
    worst = "" if _same_break(analysis) else f"; worst is {_name(found.benchmark)}: {_fall(analysis, found)}"
    text = f"{analysis.label} collapses by {edits_text(found.edits)}: {which} for certain{worst}"
    yield f"{text}{_mute(analysis.measures[found.edits][found.benchmark])}.{_perplexity(analysis)}"


def _gone(analysis: Analysis, edits: int, task: str) -> bool:
    return bool({"collapsed", "invalid"}.intersection(analysis.flags(edits, task)))


def _same_break(analysis: Analysis) -> bool:
    """Whether the collapse is the first loss, told already."""
    loss, collapse = analysis.loss, analysis.collapse
    return (
        loss is not None
        and collapse is not None
        and (loss.benchmark, loss.edits) == (collapse.benchmark, collapse.edits)
    )


def _mute(measure: Measure) -> str:
    if measure.empty >= 0.2:
        return f"; {share(measure.empty)} of the answers there are empty"
    return f"; {share(1 - measure.parsed)} of the answers there cannot be read" if measure.parsed <= 0.8 else ""


def _perplexity(analysis: Analysis) -> str:
    first, last = (analysis.results.health.get(edits, {}).get("perplexity") for edits in (0, analysis.last))
    if not first or last is None or last <= 1.2 * first:
        return ""
    grown = f"grows {number(last / first)}-fold" if last < float("inf") else "is no longer finite"
    return f" Perplexity {grown} by {edits_text(analysis.last)}."


def _safe(analysis: Analysis) -> Iterable[str]:
    if not analysis.curve:
        return
    label, margin, edits = analysis.label, points(analysis.margin, sign=False), analysis.horizon
    if edits is None:
        first = edits_text(min(analysis.curve))
        yield f"That {label} is safe is not shown even after {first}: a loss of {margin} cannot be excluded there."
        return
    known = points(worst_excluded_loss(analysis.curve[edits]), sign=False)
    yield (
        f"{label} is safe up to {edits_text(edits)} within {margin}: the most that any benchmark can have lost there, "
        f"at 95 % confidence each, is {known}."
    )


def _care(analysis: Analysis) -> Iterable[str]:
    for task in analysis.results.tasks:
        yield from _constant(analysis, task)
    floor = [_name(task) for task in analysis.results.tasks if "floor" in analysis.flags(0, task)]
    if floor:
        model = analysis.results.model
        yield f"Unedited, {model} is not clearly above chance on {_listed(floor)}: hardly any loss can show there."


def _constant(analysis: Analysis, task: str) -> Iterable[str]:
    """Where answers became constant, most of all where the score rose by it."""
    where = [edits for edits in analysis.curve if "constant" in analysis.flags(edits, task)]
    risen = [edits for edits in where if task in analysis.curve[edits] and analysis.curve[edits][task].difference > 0]
    for edits in (risen or where)[:1]:
        measure = analysis.measures[edits][task]
        same = f"{share(measure.top_share)} of the answers to {_name(task)} are “{(measure.top or '').strip()}”"
        rise = (
            f": that its score rises by {points(analysis.curve[edits][task].difference, sign=False)} shows no ability"
        )
        yield f"With {analysis.label} after {edits_text(edits)}, {same}{rise if risen else ', whatever is asked'}."


_TELLERS: Mapping[About, Callable[[Analysis], Iterable[str]]] = {
    "edits": _edits,
    "success": _success,
    "loss": _loss,
    "collapse": _collapse,
    "safe": _safe,
    "care": _care,
}


def _unknown(analyses: Sequence[Analysis]) -> Iterable[str]:
    """What the records cannot say."""
    yield from _subset(analyses)
    for analysis in analyses:
        yield from _gaps(analysis)
    orders: dict[tuple[str, str], set[int]] = {}
    for analysis in analyses:
        config = analysis.results.resolved.config
        orders.setdefault((config.model, config.method), set()).add(config.seed)
    if min(map(len, orders.values())) == 1:
        yield "One order of edits was run with each method: how much another order would change is not known."


def _subset(analyses: Sequence[Analysis]) -> Iterable[str]:
    counts = [row[task].n for a in analyses for row in a.measures.values() for task in a.results.tasks if task in row]
    if not counts:
        return
    fewest, most = min(counts), max(counts)
    asked = f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"
    limited = any(analysis.results.resolved.config.limit for analysis in analyses)
    drawn = "a seeded sample" if limited else "all it has"
    least = points(-tango(0, 0, fewest, 0.90).low, sign=False)
    yield (
        f"Each benchmark was asked {asked} items, {drawn}. With {fewest:,}, a loss of {least} could not be excluded "
        f"even if no answer changed; to exclude one of 1 point takes about {items_needed(0.01):,}, if one answer in 20 "
        "changes."
    )


def _gaps(analysis: Analysis) -> Iterable[str]:
    label, measured = analysis.label, analysis.results.checkpoints
    if analysis.curve and analysis.collapse is None:
        edits = max(analysis.curve)
        losses = {task: excluded_loss(change) for task, change in analysis.curve[edits].items()}
        worst = max(losses, key=losses.__getitem__)
        loss = points(losses[worst], sign=False)
        yield f"After {edits_text(edits)} with {label}, a loss of up to {loss} on {_name(worst)} is not excluded."
    if analysis.collapse is not None:
        last, end = max(edits for edits in measured if edits < analysis.collapse.edits), analysis.collapse.edits
        if end - last > 1:
            yield f"Where {label} collapses, after {last:,} edits or at the latest by {end:,}, was not measured closer."
    missing = [f"{edits:,}" for edits in analysis.results.resolved.config.edits if edits not in measured]
    if missing:
        yield f"{label} is not finished: the model after {_listed(missing)} edits is still to be measured."
