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
LABEL_SPACE = 1.3
"""How much longer the axis is than the data, so that the labels fit inside at any width."""

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
    """title, note: head and what is measured. chance: a dashed line. base: the unedited model, a grey line."""

    title: str
    note: str
    scale: Scale
    series: tuple[Series, ...]
    chance: float | None = None
    base: tuple[float, ...] = ()

    @property
    def ticks(self) -> list[int]:
        return sorted({edits for line in self.series for edits in [*(p.edits for p in line.points), *line.lost]})

    @property
    def range(self) -> tuple[float, float]:
        """Of the vertical axis: shares from 0 to 1, others with a little room around the data."""
        if self.scale == "share":
            return 0.0, 1.0
        values = [point.value for line in self.series for point in line.points if point.value > 0] or [1.0]
        low, high = min(values), max(max(values), 1.2 * min(values))
        room = (high / low) ** 0.08
        return low / room, high * room

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
    """Reference lines, bands, curves, points and labels at the curves' ends, from back to front."""
    layers = [*_references(panel), *(mark for line in panel.series for mark in _marks(panel, line)), *_ends(panel)]
    title = alt.TitleParams(panel.title, subtitle=panel.note)
    return alt.LayerChart(layer=layers, width=WIDTH, height=HEIGHT, title=title)


def _x(panel: Panel) -> alt.X:
    # symlog is linear near 0 and logarithmic beyond: the unedited model has a place on the axis.
    end = math.expm1(LABEL_SPACE * math.log1p(max([*panel.ticks, 1])))
    return alt.X(
        "edits:Q",
        title="edits",
        scale=alt.Scale(type="symlog", constant=1, domain=[0, end]),
        axis=alt.Axis(values=panel.ticks, format=",d", grid=False, labelOverlap="greedy", titleAnchor="end"),
    )


def _y(panel: Panel, field: str = "value") -> alt.Y:
    share = panel.scale == "share"
    return alt.Y(
        f"{field}:Q",
        title=None,
        scale=alt.Scale(domain=list(panel.range), type="linear" if share else "log", nice=False),
        axis=alt.Axis(format=".0%" if share else "~g", tickCount=4, domain=False, ticks=False),
    )


def _chart(rows: Iterable[Mapping[str, Any]]) -> alt.Chart:
    return alt.Chart(alt.InlineData(values=[dict(row) for row in rows]))


def _references(panel: Panel) -> Iterable[alt.Chart]:
    lines = [(value, "unedited", [1, 0]) for value in panel.base]
    if panel.chance:
        lines.append((panel.chance, "chance", [3, 3]))
    for value, name, dash in lines:
        data = _chart([{"value": value, "edits": 0}])
        yield data.mark_rule(color=REFERENCE, strokeWidth=1.25, strokeDash=dash).encode(y=_y(panel))
        below = panel.height(value) > 0.9 or name == "chance"
        text = data.mark_text(text=name, align="left", dx=6, dy=9 if below else -7, color=MUTED, fontSize=10)
        yield text.encode(x=_x(panel), y=_y(panel))


def _marks(panel: Panel, line: Series) -> Iterable[alt.Chart]:
    color, data = line.ink.light, _chart(_row(line, point) for point in line.points)
    if any(point.low is not None for point in line.points):
        band = data.mark_area(color=color, opacity=0.13)
        yield band.encode(x=_x(panel), y=_y(panel, "low"), y2="high:Q")
    yield data.mark_line(color=color, strokeWidth=2).encode(x=_x(panel), y=_y(panel))
    points = data.mark_point(shape=line.ink.shape, stroke=color, strokeWidth=1.75, size=44, opacity=1)
    yield points.encode(x=_x(panel), y=_y(panel), fill=_fill(alt.value(color)), tooltip=_tooltip())
    # A cross where the value is not finite: at the bottom of a score, at the top of a measure that grows.
    edge = panel.range[0 if panel.scale == "share" else 1]
    lost = _chart(_row(line, Point(edits, edge, text="not finite")) for edits in line.lost)
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


def _ends(panel: Panel) -> Iterable[alt.Chart]:
    """The runs' names beside the last points of their curves, moved apart where they would overlap."""
    lines = [line for line in panel.series if line.points]
    places = [HEIGHT * (1 - panel.height(line.points[-1].value)) for line in lines]
    for line, place, free in zip(lines, places, spread(places, LABEL_GAP, HEIGHT), strict=True):
        text = _chart([_row(line, line.points[-1])]).mark_text(
            text=line.label, align="left", dx=9, dy=free - place, color=line.ink.light, fontWeight=600, fontSize=11
        )
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


def change_chart(title: str, note: str, changes: Sequence[Change], looks: Mapping[str, Ink]) -> alt.LayerChart:
    """One row for each benchmark and run: the change and its interval around a line at no change."""
    rows = [{**vars(change), "row": f"{change.benchmark}\t{change.label}"} for change in changes]
    benchmarks = list(dict.fromkeys(change.benchmark for change in changes))
    labels = list(dict.fromkeys(change.label for change in changes))
    low, high = min(c.low for c in changes), max(c.high for c in changes)
    x = alt.X(
        "value:Q",
        title="points",
        scale=alt.Scale(domain=[min(low, -5) - 2, max(high, 5) + 2], nice=False),
        axis=alt.Axis(tickCount=5, format="+d", domain=False, ticks=False, titleAnchor="end"),
    )
    axis = alt.Axis(grid=False, domain=False, ticks=False, labelColor=INK, labelLimit=110)
    y = alt.Y("benchmark:N", title=None, sort=benchmarks, axis=axis, scale=alt.Scale(paddingInner=0.35))
    offset = alt.YOffset("label:N", sort=labels)
    hues = alt.Scale(domain=labels, range=[looks[label].light for label in labels])
    shapes = alt.Scale(domain=labels, range=[looks[label].shape for label in labels])
    color = alt.Color("label:N", scale=hues, legend=None)
    data = _chart(rows)
    points = data.mark_point(strokeWidth=1.75, size=44, opacity=1).encode(
        x=x,
        y=y,
        yOffset=offset,
        stroke=color,
        shape=alt.Shape("label:N", scale=shapes, legend=None),
        fill=_fill(alt.Fill("label:N", scale=hues, legend=None)),
        tooltip=[alt.Tooltip("text:N", title=" ")],
    )
    zero = _chart([{"value": 0}]).mark_rule(color=REFERENCE, strokeWidth=1.25).encode(x=x)
    bars = data.mark_rule(strokeWidth=2).encode(x=_field(x, "low"), x2="high:Q", y=y, yOffset=offset, color=color)
    height = max(60, len(benchmarks) * (14 * len(labels) + 10))
    head = alt.TitleParams(title, subtitle=note)
    return alt.LayerChart(layer=[zero, bars, points], width=WIDTH, height=height, title=head)


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
    config = {"font": FONT, "background": None, "view": {"stroke": None}, "axis": axis, "title": head}
    return spec | {"config": config}
