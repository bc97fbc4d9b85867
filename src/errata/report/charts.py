"""How one panel is drawn: curves against the number of edits, or changes by benchmark."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import altair as alt
import numpy as np
from scipy.optimize import isotonic_regression

from errata.report.names import Ink

# Each role has its own colour, so that a page can put its variables in their place: see html.py.
INK, MUTED, GRID, REFERENCE, PAPER = "#1d2129", "#656c78", "#e3e5e9", "#8b919b", "#fffffe"
FONT = "Helvetica Neue, Helvetica, Arial, Liberation Sans, DejaVu Sans, sans-serif"
WIDTH, HEIGHT = 300, 190
LABEL_GAP = 13.0
"""Pixels between two labels at the ends of curves."""
LETTER = 7.2
"""Pixels for one letter of such a label, on average."""

Scale = Literal["share", "log"]


@dataclass(frozen=True)
class Point:
    """edits, value, and where known the interval. hollow: collapsed. text: for the tooltip."""

    edits: int
    value: float
    low: float | None = None
    high: float | None = None
    hollow: bool = False
    text: str = ""


@dataclass(frozen=True)
class Series:
    """One run's curve. lost: numbers of edits where there is no finite value."""

    label: str
    ink: Ink
    points: tuple[Point, ...]
    lost: tuple[int, ...] = ()


@dataclass(frozen=True)
class Panel:
    """title, note: head and what is measured. ticks: numbers of edits on the axis, the same in all panels.

    chance: drawn as a dashed line. base: the unedited model, a grey line.
    """

    title: str
    note: str
    scale: Scale
    ticks: tuple[int, ...]
    series: tuple[Series, ...]
    chance: float | None = None
    base: tuple[float, ...] = ()

    @property
    def range(self) -> tuple[float, float]:
        """Of the vertical axis: shares from 0 to 1, others with a little room around the data."""
        if self.scale == "share":
            return 0.0, 1.0
        values = [point.value for line in self.series for point in line.points if point.value > 0] or [1.0]
        low, high = min(values), max(values)
        # A change of a few per cent should not look like one of many times.
        room = max((high / low) ** 0.08, math.sqrt(1.5 * low / high))
        return low / room, high * room

    @property
    def edge(self) -> float:
        """Where a value that is not finite is marked: at the bottom of a score, at the top of what grows."""
        return self.range[0 if self.scale == "share" else 1]

    def height(self, value: float) -> float:
        """Where `value` is on the vertical axis, 0 at the bottom, 1 at the top."""
        low, high = self.range
        if self.scale == "log":
            value, low, high = (math.log(max(limit, 1e-300)) for limit in (value, low, high))
        return (value - low) / (high - low)


@dataclass(frozen=True)
class Change:
    """One run on one benchmark: change in percentage points and its interval."""

    benchmark: str
    label: str
    value: float
    low: float
    high: float
    hollow: bool
    text: str


def curve_chart(panel: Panel) -> alt.LayerChart:
    """Reference lines, bands, curves and points, and names at the right ends, from back to front."""
    layers = [*_references(panel), *(mark for line in panel.series for mark in _marks(panel, line)), *_names(panel)]
    title = alt.TitleParams(panel.title, subtitle=panel.note)
    return alt.LayerChart(layer=layers, width=WIDTH, height=HEIGHT, title=title)


def _x(panel: Panel) -> alt.X:
    # symlog is linear near 0 and logarithmic beyond: the unedited model has a place on the axis.
    # Longer than the data by the names beside the curves' ends, so that they stay inside at any width.
    last, room = panel.ticks[-1], _room(["unedited", *(line.label for line in panel.series)])
    end = math.expm1(math.log1p(max(last, 1)) / (1 - room))
    unit = f"datum.label + (datum.value == {last} ? ' edit{'' if last == 1 else 's'}' : '')"
    return alt.X(
        "edits:Q",
        title=None,
        scale=alt.Scale(type="symlog", constant=1, domain=[0, end]),
        axis=alt.Axis(
            values=_sparse(panel.ticks), format=",d", grid=False, labelExpr=unit, labelFlush=False, labelOverlap=False
        ),
    )


def _room(names: Sequence[str]) -> float:
    """Share of a panel's width that names beside the data take."""
    return min(0.45, (12 + LETTER * max(map(len, names))) / WIDTH)


def _sparse(ticks: Sequence[int]) -> list[int]:
    """The numbers of edits with room for their label: the last one, and from there those far enough to the left."""
    apart = math.log1p(ticks[-1]) / 9
    kept = [ticks[-1]]
    for tick in reversed(ticks[:-1]):
        if math.log1p(kept[-1]) - math.log1p(tick) >= (2 * apart if kept[-1] == ticks[-1] else apart):
            kept.append(tick)
    return kept[::-1]


def _y(panel: Panel, field: str = "value") -> alt.Y:
    share = panel.scale == "share"
    return alt.Y(
        f"{field}:Q",
        title=None,
        scale=alt.Scale(domain=list(panel.range), type="linear" if share else "log", nice=False),
        axis=alt.Axis(values=_levels(panel), format=".0%" if share else "~g", domain=False, ticks=False),
    )


def _levels(panel: Panel) -> list[float]:
    """Heights of grid lines: quarters of a share, else round numbers, as far apart as keeps them few."""
    if panel.scale == "share":
        return [0, 0.25, 0.5, 0.75, 1]
    low, high = panel.range
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps, stride in (((1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8), 1), ((1, 2, 5), 1), ((1,), 1), ((1,), 3), ((1,), 9)):
        levels = [step * 10.0**decade for decade in decades[::stride] for step in steps]
        inside = [level for level in levels if low <= level <= high]
        if len(inside) <= 5:
            break
    return inside


def _chart(rows: Iterable[Mapping[str, Any]]) -> alt.Chart:
    return alt.Chart(alt.InlineData(values=[dict(row) for row in rows]))


def _lines(panel: Panel) -> list[tuple[str, float, list[int]]]:
    """Name, height and dashes of each reference line."""
    chance = [("chance", panel.chance, [3, 3])] if panel.chance is not None else []
    return [*(("unedited", value, [1, 0]) for value in panel.base), *chance]


def _references(panel: Panel) -> Iterable[alt.Chart]:
    for _, value, dash in _lines(panel):
        data = _chart([{"value": value, "edits": panel.ticks[0], "end": panel.ticks[-1]}])
        rule = data.mark_rule(color=REFERENCE, strokeWidth=1.25, strokeDash=dash)
        yield rule.encode(x=_x(panel), x2="end:Q", y=_y(panel))


def _marks(panel: Panel, line: Series) -> Iterable[alt.Chart]:
    color, data = line.ink.light, _chart(_row(line, point) for point in line.points)
    if any(point.low is not None for point in line.points):
        alone = len(line.points) == 1  # an area of one point has no width
        band = data.mark_rule(color=color, strokeWidth=2) if alone else data.mark_area(color=color, opacity=0.13)
        yield band.encode(x=_x(panel), y=_y(panel, "low"), y2="high:Q")
    yield data.mark_line(color=color, strokeWidth=2).encode(x=_x(panel), y=_y(panel))
    points = data.mark_point(shape=line.ink.shape, stroke=color, strokeWidth=1.75, size=44, opacity=1)
    yield points.encode(x=_x(panel), y=_y(panel), fill=_fill(alt.value(color)), tooltip=_tooltip())
    lost = _chart(_row(line, Point(edits, panel.edge, text="not finite")) for edits in line.lost)
    cross = lost.mark_text(text="×", color=color, fontSize=18)
    yield cross.encode(x=_x(panel), y=_y(panel), tooltip=_tooltip())


def _fill(color: Any) -> Any:
    return alt.condition("datum.hollow", alt.value(PAPER), color)


def _tooltip() -> list[alt.Tooltip]:
    edits = alt.Tooltip("edits:Q", title="Edits", format=",")
    return [alt.Tooltip("label:N", title="Run"), edits, alt.Tooltip("text:N", title="Value")]


def _row(line: Series, point: Point) -> dict[str, Any]:
    row = {"edits": point.edits, "value": point.value, "hollow": point.hollow, "text": point.text, "label": line.label}
    return row if point.low is None else row | {"low": point.low, "high": point.high}


def _ends(panel: Panel) -> list[tuple[str, float, str]]:
    """Name, height and colour of what is named at the right ends."""
    drawn = [line for line in panel.series if line.points or line.lost]
    runs = [(line.label, _last_height(panel, line), line.ink.light) for line in drawn]
    return [*runs, *((name, value, MUTED) for name, value, _ in _lines(panel))]


def _last_height(panel: Panel, line: Series) -> float:
    ended = max([-1, *line.lost]) > max([-1, *(point.edits for point in line.points)])
    return panel.edge if ended else line.points[-1].value


def _names(panel: Panel) -> Iterable[alt.Chart]:
    """Names beside the right ends of curves and lines, moved apart where they would overlap."""
    ends = _ends(panel)
    places = [HEIGHT * (1 - panel.height(value)) for _, value, _ in ends]
    free = spread(places, LABEL_GAP, HEIGHT - 4)
    for (name, value, color), place, moved in zip(ends, places, free, strict=True):
        data = _chart([{"edits": panel.ticks[-1], "value": value}])
        weight: Literal[400, 600] = 400 if color == MUTED else 600
        text = data.mark_text(text=name, align="left", dx=9, dy=moved - place, color=color, fontWeight=weight)
        yield text.encode(x=_x(panel), y=_y(panel))


def spread(places: Sequence[float], gap: float, limit: float) -> list[float]:
    """Places moved as little as keeps them `gap` apart and in their order, between 0 and `limit` if they fit.

    Least squares: without their gaps the places need only not decrease, which is isotonic regression.
    """
    if not places:
        return []
    order = np.argsort(places, kind="stable")
    gaps = gap * np.arange(len(order))
    packed = isotonic_regression(np.asarray(places)[order] - gaps).x
    moved = np.empty(len(order))
    moved[order] = np.clip(packed, 0, max(0.0, limit - gaps[-1])) + gaps
    return [float(place) for place in moved]


def change_chart(
    title: str, note: Sequence[str], changes: Sequence[Change], looks: Mapping[str, Ink], limits: tuple[float, float]
) -> alt.LayerChart:
    """One row for each benchmark and run: the change and its interval around a line at no change.

    limits: of the intervals in all panels, in percentage points.
    """
    benchmarks = list(dict.fromkeys(change.benchmark for change in changes))
    labels, (low, high) = list(dict.fromkeys(change.label for change in changes)), limits
    room = _room(labels)
    x = alt.X(
        "value:Q",
        title=None,
        scale=alt.Scale(domain=[low, high + (high - low) * room / (1 - room)], nice=False),
        axis=alt.Axis(values=_steps(low, high), labelExpr=SIGNED, domain=False, ticks=False),
    )
    axis = alt.Axis(grid=False, domain=False, ticks=False, labelColor=INK, labelLimit=110)
    y = alt.Y("benchmark:N", title=None, sort=benchmarks, axis=axis, scale=alt.Scale(paddingInner=0.25))
    row = {"y": y, "yOffset": alt.YOffset("label:N", sort=labels)}
    data = _chart(vars(change) for change in changes)
    layers = [_chart([{"value": 0}]).mark_rule(color=REFERENCE, strokeWidth=1.25).encode(x=x)]
    for label in labels:
        color, own = looks[label].light, data.transform_filter(alt.datum.label == label)
        layers.append(own.mark_rule(strokeWidth=2, color=color).encode(x=_field(x, "low"), x2="high:Q", **row))
        point = own.mark_point(shape=looks[label].shape, stroke=color, strokeWidth=1.75, size=44, opacity=1)
        tip = [alt.Tooltip("text:N", title=" ")]
        layers.append(point.encode(x=x, fill=_fill(alt.value(color)), tooltip=tip, **row))
        first = own.transform_filter(alt.datum.benchmark == benchmarks[0])
        name = first.mark_text(text=label, align="left", dx=7, color=color, fontWeight=600)
        layers.append(name.encode(x=_field(x, "high"), **row))
    height = max(60, len(benchmarks) * (17 * len(labels) + 4))
    head = alt.TitleParams(title, subtitle=list(note))
    return alt.LayerChart(layer=layers, width=WIDTH, height=height, title=head)


def _steps(low: float, high: float) -> list[float]:
    """Round numbers of points between the limits, six at most."""
    for step in (1, 2, 5, 10, 20, 25, 50):
        inside = [float(step * k) for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
        if len(inside) <= 6:
            break
    return inside


SIGNED = "(datum.value > 0 ? '+' : datum.value < 0 ? '−' : '') + abs(datum.value)"


def _field(x: alt.X, field: str) -> alt.X:
    copied: alt.X = x.copy(deep=True)
    copied.shorthand = f"{field}:Q"
    return copied


def themed(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec with the look shared by all figures: a quiet grid, heads on the left, no frame."""
    axis = {
        "labelColor": MUTED,
        "titleColor": MUTED,
        "titleFontWeight": "normal",
        "titleFontSize": 10,
        "gridColor": GRID,
        "domainColor": REFERENCE,
        "tickColor": REFERENCE,
        "labelFontSize": 10.5,
        "labelPadding": 5,
    }
    head = {
        "anchor": "start",
        "frame": "group",
        "color": INK,
        "fontSize": 14,
        "fontWeight": 600,
        "subtitleColor": MUTED,
        "subtitleFontSize": 11,
        "subtitlePadding": 3,
        "offset": 10,
    }
    text = {"fontSize": 11, "color": MUTED}
    config = {"text": text, "font": FONT, "background": None, "view": {"stroke": None}, "axis": axis, "title": head}
    return spec | {"config": config}
