"""What runs show, in plain sentences. Every one is computed from the records."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from errata.report.formats import edits_text, p_value, points, points_span, share, span
from errata.report.measures import Analysis, Measure
from errata.report.names import ability_title, model_title
from errata.report.orders import Orders, pooled
from errata.report.singles import worst
from errata.report.tables import written
from errata.stats.curves import Break, excluded_loss, worst_excluded_loss
from errata.stats.paired import one_sided
from errata.stats.power import detectable_change, items_needed

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
    told += [Sentence("safe", orders.label, text) for orders in pooled(analyses) for text in _orders(orders)]
    return told + [Sentence("unknown", None, text) for text in dict.fromkeys(_unknown(analyses))]


def headline(analyses: Sequence[Analysis]) -> str:
    """The finding in one line; of many runs, the best and the worst."""
    models = {analysis.results.model for analysis in analyses}
    place = f" of {model_title(next(iter(models)))}" if len(models) == 1 else ""
    ranked = sorted(analyses, key=_endurance, reverse=True)
    shown, start = (analyses, "") if len(analyses) <= SHORT else ([ranked[0], ranked[-1]], f"Of {len(analyses)} runs, ")
    told = [f"{analysis.label} {_verdict(analysis, place if i == 0 else '')}" for i, analysis in enumerate(shown)]
    return start + "; ".join(told)


SHORT = 3
"""How many runs a headline can name."""


def _endurance(analysis: Analysis) -> tuple[float, float, int]:
    """Edits until the collapse, until the first loss, and shown to be safe."""
    ends = [float("inf") if found is None else found.edits for found in (analysis.collapse, analysis.loss)]
    return ends[0], ends[1], analysis.horizon or 0


def _verdict(analysis: Analysis, place: str) -> str:
    last = edits_text(analysis.last)
    if not analysis.curve:
        return (
            f"wrote {last}, but measured no ability{place} after them" if analysis.last else "has written no edit yet"
        )
    if analysis.collapse is not None:
        fallen, edits = _fallen(analysis), edits_text(analysis.collapse.edits)
        what = f"{len(fallen)} of {len(analysis.results.tasks)} abilities" if fallen[1:] else f"the {_name(fallen[0])}"
        return f"breaks {what}{place} by {edits}"
    few = _few_work(analysis)
    if analysis.loss is not None:
        return f"harms the {_name(analysis.loss.benchmark)}{place} by {edits_text(analysis.loss.edits)}{few}"
    if analysis.horizon == analysis.last:
        return f"keeps every ability{place} up to {last}{few}"
    return f"shows no significant loss{place} up to {last}{few}"


def _few_work(analysis: Analysis) -> str:
    """What takes the shine off stable abilities: edits that do not work."""
    efficacy = analysis.get(analysis.last, "efficacy")
    rate = None if efficacy is None else efficacy.accuracy
    return f", but only {share(rate)} of its edits work" if rate is not None and rate < 0.5 else ""


def _fallen(analysis: Analysis) -> list[str]:
    """The benchmarks that have collapsed where the first of them has."""
    found = analysis.collapse
    return [task for task in analysis.curve[found.edits] if analysis.fallen(found.edits, task)] if found else []


def _name(task: str) -> str:
    """An ability in the middle of a sentence."""
    title = ability_title(task)
    return title.lower() if title != task else task


def _edits(analysis: Analysis) -> Iterable[str]:
    config = analysis.results.resolved.config
    counts = written(analysis.entries)
    how = "one at a time" if config.batch == 1 else f"in batches of up to {config.batch:,}"
    made = analysis.last
    if config.setting == "single":
        made = sum(len(entry.requests) for entry in analysis.entries if entry.batch)
        how += ", each on the unedited weights"
    source = "" if config.data == config.model else f" of {config.data}"
    text = f"{analysis.label} wrote {edits_text(made)}{source} into {model_title(config.model)}, {how}"
    if counts["seconds_per_edit"] is not None:
        text += f", in {counts['seconds_per_edit']:.2g} seconds each"
    lost = [f"{counts[status]:,} {status}" for status in ("diverged", "skipped") if counts[status]]
    if again := _again(analysis):
        lost.append(f"{again:,} had been made before, since {config.data} holds no more")
    yield f"{text}; of these {' and '.join(lost)}." if lost else f"{text}."


def _again(analysis: Analysis) -> int:
    """Edits of a second round and later ones, where the data was gone through again (`repeat`)."""
    if not analysis.results.resolved.config.repeat:
        return 0
    made = {name for entry in analysis.entries for name in entry.requests}
    return sum(name.rpartition("#")[0] in made for name in made)


_WHO = {"efficacy": "edits", "generalization": "paraphrases", "retention": "earlier edits"}


def _success(analysis: Analysis) -> Iterable[str]:
    if not analysis.last:
        return
    found = {name: measure for name in _WHO if (measure := analysis.get(analysis.last, name)) is not None}
    if "efficacy" not in found:
        yield f"Whether the edits of {analysis.label} work was not measured: read its abilities with that in mind."
        return
    rates = _listed([_rate(measure, _WHO[name]) for name, measure in found.items()])
    neighbours = analysis.get(analysis.last, "locality")
    kept = f"; {_rate(neighbours, 'neighbours')} keep their answer" if neighbours is not None else ""
    edits = edits_text(analysis.last)
    yield f"After {edits} with {analysis.label}, {rates} give the new answer when asked freely{kept}."
    if (found["efficacy"].accuracy or 0) < 0.5 and analysis.collapse is None:
        yield f"Fewer than half of the edits of {analysis.label} work: abilities may be stable for that reason only."


def _rate(measure: Measure, who: str) -> str:
    if measure.accuracy is None:
        return f"none of the {who} (the logits are not finite)"
    return f"{share(measure.accuracy)} of the {who} ({span(measure.low, measure.high)})"


def _listed(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _loss(analysis: Analysis) -> Iterable[str]:
    if not analysis.curve:
        return
    if alone := worst(analysis):
        change, most = points(alone[0]["ability"] or 0.0), alone[0]["requests"]
        yield f"Of {len(alone):,} batches by {analysis.label}, {most} costs most: {change} on average over benchmarks."
    label, found = analysis.label, analysis.loss
    if found is None:
        yield f"No benchmark falls significantly with {label} at any checkpoint up to {edits_text(analysis.last)}."
        return
    yield f"The first ability that {label} harms is {_name(found.benchmark)}: {_fall(analysis, found)}."


def _fall(analysis: Analysis, found: Break) -> str:
    change, measure = found.change, analysis.measures[found.edits][found.benchmark]
    edits, p = edits_text(found.edits), p_value(analysis.adjusted[found.edits][found.benchmark])
    if measure.accuracy is None:
        return f"by {edits}, {share(measure.invalid)} of its logits are not finite"
    return (
        f"from {share(change.before)} to {share(measure.accuracy)} by {edits} ({points(change.difference)}, "
        f"95 % interval {points_span(change.low, change.high)}, p {p if p[0] == '<' else f'= {p}'} after Holm)"
    )


def _collapse(analysis: Analysis) -> Iterable[str]:
    found = analysis.collapse
    if found is None:
        return
    where = f"{analysis.label} collapses by {edits_text(found.edits)}"
    if analysis.measures[found.edits][found.benchmark].accuracy is None:
        count = f"{len(_fallen(analysis))} of {len(analysis.curve[found.edits])} benchmarks"
        yield f"{where}: {count} are lost, and {_name(found.benchmark)} has logits that are not finite."
        return
    told = analysis.loss is not None and (analysis.loss.benchmark, analysis.loss.edits) == (
        found.benchmark,
        found.edits,
    )
    worst = (
        "" if told or found.change.difference >= 0 else f"; worst is {_name(found.benchmark)}, {_fall(analysis, found)}"
    )
    mute = _mute(analysis.measures[found.edits][found.benchmark])
    yield f"{where}: {_how_many(analysis, found)}{worst}{mute}.{_perplexity(analysis)}"


def _how_many(analysis: Analysis, found: Break) -> str:
    """How many benchmarks collapsed, and in which way."""
    lost = [task for task in _fallen(analysis) if "collapsed" in analysis.flags(found.edits, task)]
    same = [task for task in _fallen(analysis) if "constant" in analysis.flags(found.edits, task) and task not in lost]
    one = f"give{'' if same[1:] else 's'} one answer to all"
    if not lost:
        return f"{len(same)} of {len(analysis.curve[found.edits])} benchmarks {one}"
    text = f"{len(lost)} of {len(analysis.curve[found.edits])} benchmarks lose more than a tenth of their accuracy"
    return f"{text}, and {len(same)} {one}" if same else text


def _mute(measure: Measure) -> str:
    if measure.empty >= 0.2:
        return f"; {share(measure.empty)} of the answers there are empty"
    return f"; {share(1 - measure.parsed)} of the answers there cannot be read" if measure.parsed <= 0.8 else ""


def _perplexity(analysis: Analysis) -> str:
    first, last = (analysis.results.health.get(edits, {}).get("perplexity") for edits in (0, analysis.last))
    if not first or last is None or not last > 1.2 * first:
        return ""
    grown = f"{last / first:,.0f}-fold" if last >= 10 * first else f"to {last / first:.1f} times"
    return f" Perplexity grows {grown} by {edits_text(analysis.last)}."


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
        f"{label} holds {edits_text(edits)} safely: no benchmark can have lost more than {known} there "
        f"(95 % confidence; {margin} would be too much)."
    )


def _orders(orders: Orders) -> Iterable[str]:
    """What holds on average over several orders of the same edits."""
    if not orders.curve:
        return
    many, margin = f"Over {len(orders.runs)} orders of the same edits", points(orders.margin, sign=False)
    if orders.collapse is not None:
        each = sorted(run.collapse.edits for run in orders.runs if run.collapse is not None)
        seen = f"{len(each)} of the {len(orders.runs)} orders collapse" + (
            f", the first by {each[0]:,}" if each else ""
        )
        yield f"{many}, {orders.label} collapses on average by {edits_text(orders.collapse.edits)}; {seen}."
    if orders.horizon is None:
        yield f"{many}, that {orders.label} is safe on average is not shown: a loss of {margin} cannot be excluded."
    else:
        edits = edits_text(orders.horizon)
        yield f"{many}, {orders.label} holds {edits} safely on average: no benchmark loses {margin} (95 % confidence)."


def _care(analysis: Analysis) -> Iterable[str]:
    for task in analysis.results.tasks:
        yield from _constant(analysis, task)
    floor = [_name(task) for task in analysis.results.tasks if "floor" in analysis.flags(0, task)]
    if floor:
        model = model_title(analysis.results.model)
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
        orders.setdefault((config.model, analysis.results.method), set()).add(config.seed)
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
    least = points(-one_sided(0, 0, fewest).low, sign=False)
    yield (
        f"Each benchmark was asked {asked} items, {drawn}. With {fewest:,}, a loss of {least} could not be excluded "
        f"even if no answer changed{_found(analyses, fewest)}; to exclude one of 1 point takes about "
        f"{items_needed(0.01):,}, if one answer in 20 changes."
    )


def _found(analyses: Sequence[Analysis], items: int) -> str:
    """What loss so many items find, if no other answer changes."""
    most = max(len(analysis.results.tasks) for analysis in analyses)
    found = detectable_change(items, alpha=0.05 / most)
    return "" if found is None else f", and one of {points(found, sign=False)} is found in four of five cases"


def _gaps(analysis: Analysis) -> Iterable[str]:
    label, measured = analysis.label, analysis.results.checkpoints
    if analysis.curve and analysis.collapse is None:
        edits = max(analysis.curve)
        losses = {task: excluded_loss(change) for task, change in analysis.curve[edits].items()}
        worst = max(losses, key=losses.__getitem__)
        loss = points(losses[worst], sign=False)
        yield f"After {edits_text(edits)} with {label}, a loss of up to {loss} on {_name(worst)} is not excluded."
    if analysis.collapse is not None:
        end = analysis.collapse.edits
        last = max(edits for edits in measured if edits < end)
        if end - last > 1:
            yield f"{label} may collapse anywhere from {last + 1:,} to {end:,} edits: nothing was measured in between."
    asked, done = analysis.results.resolved.cases, max((one.edits for one in analysis.results.singles), default=0)
    missing = [f"{edits:,}" for edits in analysis.results.asked if edits not in measured]
    if done and done < asked:
        yield f"{label} is not finished: {edits_text(asked - done)} are still to be made and measured."
    elif missing:
        yield f"{label} is not finished: the model after {_listed(missing)} edits is still to be measured."
