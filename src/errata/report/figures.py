"""The figures of a report: small panels side by side, edit success always among them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from textwrap import wrap
from typing import Any

from errata.report.charts import Change, Panel, Point, Series, change_chart, curve_chart
from errata.report.formats import edits_text, number, points, points_span, share, span
from errata.report.measures import Analysis, Mean, Measure
from errata.report.names import KIND_NOTES, PROBE_NOTES, Ink, ability_title, inks, probe_title, sign, signs
from errata.report.orders import Orders, pooled
from errata.stats.curves import collapsed

LAST_CHECKPOINTS = 4
"""How many checkpoints the figure of changes shows."""
NO_BREAK = "\N{NO-BREAK SPACE}"
LINE = 38
"""Letters that fit above a panel."""

Looks = Mapping[str, Ink]
"""How each run is drawn, by label: runs of one method look the same."""


@dataclass(frozen=True)
class Figure:
    """name: of its files. description: the figure in words, for who cannot see it. panels: Vega-Lite specs."""

    name: str
    title: str
    caption: str
    description: str
    panels: tuple[dict[str, Any], ...]


def figures(analyses: Sequence[Analysis]) -> list[Figure]:
    """All figures of a report, those without data left out."""
    inked = inks([analysis.results.method for analysis in analyses])
    looks = {analysis.label: inked[analysis.results.method] for analysis in analyses}
    drawn = [draw(analyses, looks) for draw in (_trade, _kinds, _over_orders, _each_ability, _changes, _health)]
    return [figure for figure in drawn if figure.panels]


def _trade(analyses: Sequence[Analysis], looks: Looks) -> Figure:
    return _curves(
        "edits-and-ability",
        "What was gained, and what it cost",
        "Mean accuracy over all benchmarks beside the success of the edits, asked freely. Bands are 95 % intervals; "
        "the grey line is the unedited model.",
        [*_mean_panel(analyses, looks), *_probe_panels(analyses, looks, PROBE_NOTES)],
    )


def _kinds(analyses: Sequence[Analysis], looks: Looks) -> Figure:
    return _curves(
        "kinds",
        "What lasts, and what carries over",
        "Earlier edits asked again: the first and the last ones. Questions that follow from an edit, by how they do. "
        "Bands are 95 % intervals.",
        _probe_panels(analyses, looks, KIND_NOTES),
    )


def _over_orders(analyses: Sequence[Analysis], looks: Looks) -> Figure:
    """Runs that stand alone are not in it."""
    found = pooled(analyses)
    runs = [run for orders in found for run in orders.runs]
    return _curves(
        "orders",
        "Over several orders of the same edits",
        "Mean over orders, beside the efficacy of each. Bands are 95 % intervals for other items and other orders. "
        "Hollow points: the mean has collapsed.",
        [*_probe_panels(runs, looks, ("efficacy",)), *_order_panels(found, looks)] if found else [],
    )


def _order_panels(found: Sequence[Orders], looks: Looks) -> Iterable[Panel]:
    ticks = _ticks([run for orders in found for run in orders.runs])
    means = [(orders, [_mean_point(*mean) for mean in orders.ability.items()]) for orders in found]
    yield Panel("Ability", "mean accuracy of all benchmarks", "share", ticks, _order_series(means, looks))
    for task in dict.fromkeys(task for orders in found for task in orders.tasks):
        lines = [(orders, [_order_point(orders, n, task) for n in orders.checkpoints]) for orders in found]
        yield Panel(ability_title(task), "accuracy", "share", ticks, _order_series(lines, looks))


def _order_series(lines: Iterable[tuple[Orders, Sequence[Point | None]]], looks: Looks) -> tuple[Series, ...]:
    return tuple(
        Series(orders.label, looks[orders.runs[0].label], tuple(point for point in drawn if point is not None))
        for orders, drawn in lines
    )


def _order_point(orders: Orders, edits: int, task: str) -> Point | None:
    mean, change = orders.accuracy[edits].get(task), orders.curve.get(edits, {}).get(task)
    if mean is None:
        return None
    return replace(_mean_point(edits, mean), hollow=change is not None and collapsed(change))


def _each_ability(analyses: Sequence[Analysis], looks: Looks) -> Figure:
    panels = [_ability_panel(analyses, looks, task) for task in _tasks(analyses)]
    return _curves(
        "abilities",
        "Each ability",
        "Accuracy with 95 % intervals, beside edit success. Dashed: the score of guessing, or of the best constant "
        "answer where that is higher. Hollow points: collapsed, by a loss of more than a tenth for sure or by answers "
        "that became one and the same. A cross: logits not finite, no score.",
        [*_probe_panels(analyses, looks, ("efficacy",)), *panels] if panels else [],
    )


def _health(analyses: Sequence[Analysis], looks: Looks) -> Figure:
    found = signs(name for a in analyses for values in a.results.health.values() for name in values)
    panels = [_health_panel(analyses, looks, name) for name in found if sign(name).drawn]
    return _curves(
        "health",
        "Signs of damage",
        "Cheap signs at every checkpoint, beside edit success; growth is on logarithmic axes. "
        "A cross marks a value that is no longer finite.",
        [*_probe_panels(analyses, looks, ("efficacy",)), *panels] if panels else [],
    )


def _curves(name: str, title: str, caption: str, panels: Sequence[Panel]) -> Figure:
    return Figure(
        name, title, caption, " ".join(map(_describe, panels)), tuple(curve_chart(panel).to_dict() for panel in panels)
    )


def _describe(panel: Panel) -> str:
    told = [f"{line.label}: {', '.join(_told(panel, point) for point in line.points)}" for line in panel.series]
    chance = f" Chance: {share(panel.chance)}." if panel.chance is not None else ""
    return f"{panel.title} by number of edits. {'. '.join(told)}.{chance}"


def _told(panel: Panel, point: Point) -> str:
    return f"{share(point.value) if panel.scale == 'share' else number(point.value)} at {point.edits:,}"


def _tasks(analyses: Sequence[Analysis]) -> Sequence[str]:
    return list(dict.fromkeys(task for analysis in analyses for task in analysis.results.tasks))


def _ticks(analyses: Sequence[Analysis]) -> tuple[int, ...]:
    return tuple(sorted({edits for analysis in analyses for edits in analysis.results.checkpoints}))


def _mean_panel(analyses: Sequence[Analysis], looks: Looks) -> list[Panel]:
    lines = [(analysis, [_mean_point(*item) for item in analysis.ability.items()]) for analysis in analyses]
    if not any(drawn for _, drawn in lines):
        return []
    lost = {analysis.label: _without_score(analysis) for analysis in analyses}
    base = _distinct(analysis.ability[0].value for analysis in analyses if 0 in analysis.ability)
    count = len(_tasks(analyses))
    note = f"mean accuracy of {count} benchmark{'' if count == 1 else 's'}"
    return [Panel("Ability", note, "share", _ticks(analyses), _all_series(lines, looks, lost), None, base)]


def _without_score(analysis: Analysis) -> tuple[int, ...]:
    """The checkpoints where some ability has no score, its logits not being finite."""
    tasks = analysis.results.tasks
    return tuple(n for n, row in analysis.measures.items() if any(row[t].accuracy is None for t in tasks if t in row))


def _mean_point(edits: int, mean: Mean) -> Point:
    return Point(edits, mean.value, mean.low, mean.high, text=f"{share(mean.value)} ({span(mean.low, mean.high)})")


def _probe_panels(analyses: Sequence[Analysis], looks: Looks, probes: Iterable[str]) -> list[Panel]:
    measured = {probe for analysis in analyses for probe in analysis.results.probes}
    return [
        Panel(
            probe_title(probe).capitalize(),
            (PROBE_NOTES | KIND_NOTES)[probe],
            "share",
            _ticks(analyses),
            _measured(analyses, looks, probe),
        )
        for probe in probes
        if probe in measured
    ]


def _ability_panel(analyses: Sequence[Analysis], looks: Looks, task: str) -> Panel:
    title = ability_title(task)
    first = [measure for analysis in analyses if (measure := analysis.get(0, task)) is not None]
    items = " or ".join(f"{n:,}" for n in sorted({measure.n for measure in first}))
    note = f"{'accuracy' if title == task else task}, {items} items"
    base = _distinct(measure.accuracy for measure in first if measure.accuracy is not None)
    chance = first[0].blind if first else None
    return Panel(title, note, "share", _ticks(analyses), _measured(analyses, looks, task), chance, base)


def _health_panel(analyses: Sequence[Analysis], looks: Looks, name: str) -> Panel:
    lines, lost = [], {}
    for analysis in analyses:
        values = {edits: row[name] for edits, row in analysis.results.health.items() if name in row}
        lines.append((analysis, [Point(n, v, text=number(v)) for n, v in values.items() if math.isfinite(v)]))
        lost[analysis.label] = tuple(n for n, v in values.items() if not math.isfinite(v))
    series = _all_series(lines, looks, lost)
    known, base = sign(name), _distinct(point.value for line in series for point in line.points if point.edits == 0)
    return Panel(known.title, known.note, "share" if known.share else "log", _ticks(analyses), series, None, base)


def _measured(analyses: Sequence[Analysis], looks: Looks, table: str) -> tuple[Series, ...]:
    lines, lost = [], {}
    for analysis in analyses:
        found = [row[table] for row in analysis.measures.values() if table in row]
        lines.append((analysis, [_point(analysis, measure) for measure in found if measure.accuracy is not None]))
        lost[analysis.label] = tuple(measure.edits for measure in found if measure.accuracy is None)
    return _all_series(lines, looks, lost)


def _point(analysis: Analysis, measure: Measure) -> Point:
    value = measure.accuracy or 0.0
    change = analysis.curve.get(measure.edits, {}).get(measure.table)
    text = f"{share(value)} ({span(measure.low, measure.high)}), {measure.n:,} items"
    if change is not None:
        text += f"; change {points(change.difference)}"
    hollow = analysis.fallen(measure.edits, measure.table)
    return Point(measure.edits, value, measure.low, measure.high, hollow, text)


def _all_series(
    lines: Iterable[tuple[Analysis, list[Point]]], looks: Looks, lost: Mapping[str, tuple[int, ...]] | None = None
) -> tuple[Series, ...]:
    gone = lost or {}
    return tuple(
        Series(a.label, looks[a.label], tuple(sorted(drawn, key=lambda p: p.edits)), gone.get(a.label, ()))
        for a, drawn in lines
    )


def _distinct(values: Iterable[float]) -> tuple[float, ...]:
    """Runs on one model share a reference line."""
    return tuple(sorted({round(value, 6) for value in values}))


def _changes(analyses: Sequence[Analysis], looks: Looks) -> Figure:
    checkpoints = sorted({edits for analysis in analyses for edits in analysis.curve})[-LAST_CHECKPOINTS:]
    rows = {edits: _change_rows(analyses, edits) for edits in checkpoints}
    limits = _limits(row for changes in rows.values() for row in changes)
    told = [f"After {edits_text(edits)}: {'; '.join(row.text for row in rows[edits])}." for edits in checkpoints]
    return Figure(
        "changes",
        "Change against the unedited model",
        "The same items before and after, in percentage points, with 95 % score intervals for paired rates. Left of "
        "the line: worse than unedited. Hollow points: collapsed. Above each panel: efficacy of the edits.",
        " ".join(told),
        tuple(
            change_chart(f"After {edits_text(n)}", _efficacies(analyses, n), rows[n], looks, limits).to_dict()
            for n in checkpoints
        ),
    )


def _limits(rows: Iterable[Change]) -> tuple[float, float]:
    """Room for all intervals, and at least five points on each side."""
    changes = list(rows)
    return min([-5, *(row.low for row in changes)]) - 1, max([5, *(row.high for row in changes)]) + 1


def _change_rows(analyses: Sequence[Analysis], edits: int) -> list[Change]:
    return [
        Change(
            ability_title(task),
            analysis.label,
            100 * change.difference,
            100 * change.low,
            100 * change.high,
            analysis.fallen(edits, task),
            f"{ability_title(task)}, {analysis.label}: {points(change.difference)} "
            f"({points_span(change.low, change.high)})",
        )
        for analysis in analyses
        for task, change in analysis.curve.get(edits, {}).items()
    ]


def _efficacies(analyses: Sequence[Analysis], edits: int) -> list[str]:
    """Efficacy of each run, in lines that are no wider than a panel."""
    found = [(analysis.label, analysis.get(edits, "efficacy")) for analysis in analyses]
    known = [f"{label}: {share(it.accuracy)}" for label, it in found if it and it.accuracy is not None]
    # Spaces that do not break keep a run and its number in one line.
    text = f"efficacy {'; '.join(part.replace(' ', NO_BREAK) for part in known)}"
    return wrap(text, LINE) if known else ["efficacy not measured"]
