"""The papers' figures from records: the same panels, lines and axes, with intervals."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from errata.report.charts import Panel, Point, Series, curve_chart
from errata.report.figures import Figure
from errata.report.formats import number, share, span
from errata.report.names import Ink, inks
from errata.report.reproduction import Reproduced, Rows, grouped
from errata.runs.recipe import Panels, Recipe


@dataclass(frozen=True)
class _Line:
    """One benchmark of one row of the table."""

    model: str
    method: str
    benchmark: str
    rows: Rows

    def panel(self, panels: Panels) -> str:
        """Title of the panel that it is drawn in."""
        parts = {"method": self.method, "benchmark": self.benchmark, "model": self.model}
        return ", ".join(parts[what] for what in panels.split(" and "))

    def label(self, panels: Panels) -> str:
        return {"method": self.benchmark, "benchmark": self.method, "method and benchmark": self.model}.get(
            panels, self.benchmark
        )


def paper_figure(recipe: Recipe, runs: Sequence[Reproduced]) -> Figure | None:
    """The figure of a recipe that has one: scores against the number of edits."""
    if recipe.panels is None:
        return None
    lines = [line for line in _lines(recipe, runs) if _points(line)]
    looks = inks(list(dict.fromkeys(line.label(recipe.panels) for line in lines)))
    titles = dict.fromkeys(line.panel(recipe.panels) for line in lines)
    ticks = tuple(sorted({0} | {edits for line in lines for edits in line.rows.edits}))
    drawn = {title: [line for line in lines if line.panel(recipe.panels) == title] for title in titles}
    panels = [_panel(title, found, recipe.panels, ticks, looks) for title, found in drawn.items()]
    return Figure(
        f"{recipe.id}-figure",
        recipe.title,
        "Scores against the number of edits, on a logarithmic axis, the unedited model at 0. Bands: 95 % intervals.",
        " ".join(map(_described, panels)),
        tuple(curve_chart(panel).to_dict() for panel in panels),
    )


def _lines(recipe: Recipe, runs: Sequence[Reproduced]) -> Iterator[_Line]:
    for (model, method), rows in grouped(runs).items():
        yield from (_Line(model, method, benchmark, rows) for benchmark in recipe.benchmarks)


def _points(line: _Line) -> tuple[Point, ...]:
    task = line.rows.task(line.benchmark)
    found = [(edits, line.rows.score(edits, task)) for edits in [0, *line.rows.edits]]
    return tuple(
        Point(edits, score[0], score[1], score[2], text=f"{share(score[0])} ({span(score[1], score[2])})")
        for edits, score in found
        if score is not None
    )


def _panel(
    title: str, lines: Sequence[_Line], panels: Panels, ticks: tuple[int, ...], looks: Mapping[str, Ink]
) -> Panel:
    series = tuple(Series(x.label(panels), looks[x.label(panels)], _points(x)) for x in lines)
    return Panel(title, "score", "share", ticks, series)


def _described(panel: Panel) -> str:
    told = (
        f"{line.label}: {', '.join(f'{number(point.value)} at {point.edits:,}' for point in line.points)}"
        for line in panel.series
    )
    return f"{panel.title} by number of edits. {'. '.join(told)}."
