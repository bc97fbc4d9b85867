"""The papers' tables from records: in their layout, with intervals, the printed numbers beneath. No torch here."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from string import ascii_lowercase
from typing import Any

from errata.report.cases import Ask, case_study, muting_table
from errata.report.efficiency import editing_table, evaluation_table
from errata.report.formats import Column, Table
from errata.report.measures import Analysis, Measure, measure
from errata.report.names import METHODS, method_title
from errata.report.orders import Orders, pooled
from errata.report.printed import Anomaly, Printed, printed, table_faults
from errata.report.results import is_probe, joined
from errata.report.static import benchmark_table
from errata.report.weights import weights_table
from errata.runs.recipe import Recipe, benchmark_title

OF_EDITS = ("efficacy", "generalization", "locality")


@dataclass(frozen=True)
class Reproduced:
    """One run of a recipe. model: as the paper names it, or what it stands for."""

    model: str
    analysis: Analysis


def reproduction(recipe: Recipe, runs: Sequence[Reproduced], ask: Ask | None = None) -> list[Table]:
    """What the recipe shows of these runs. ask: gives the question of an item of a task, for case studies."""
    analyses = [run.analysis for run in runs]
    match recipe.shows:
        case "benchmarks":
            return [benchmark_table(recipe)]
        case "evaluation":
            return [evaluation_table(recipe.id, analyses, recipe.published)]
        case "editing":
            return [editing_table(recipe.id, [(run.model, run.analysis) for run in runs], recipe.published)]
        case "weights":
            return [weights_table(recipe.id, analyses, recipe.published)]
        case "cases":
            return _cases(recipe, analyses, ask)
    return [ability_table(recipe, runs)]


def _cases(recipe: Recipe, analyses: Sequence[Analysis], ask: Ask | None) -> list[Table]:
    study, muting = recipe.cases, muting_table(analyses)
    if recipe.note:
        muting = replace(muting, caption=f"{muting.caption} {recipe.note}")
    if study is None:
        return [muting]
    task = next((t for a in analyses for t in a.results.tasks if study.benchmark in (t, benchmark_title(t))), None)
    return [*([case_study(analyses, task, study.edits, ask=ask)] if task else []), muting]


class Rows:
    """The runs of one model and method, in every order that was run."""

    def __init__(self, model: str, runs: Sequence[Analysis]) -> None:
        self.model, self.runs = model, runs
        several: Sequence[Orders] = pooled(runs) if len(runs) > 1 else ()
        self._orders = several[0] if several else None

    @property
    def edits(self) -> list[int]:
        return sorted({edits for run in self.runs for edits in run.results.edited})

    def task(self, benchmark: str) -> str | None:
        """The task that stands for the paper's benchmark."""
        return next((t for t in self.runs[0].results.tasks if benchmark in (t, benchmark_title(t))), None)

    def score(self, edits: int, table: str | None) -> tuple[float, float, float] | None:
        """Value and 95 % limits, over the orders where there are several; None where it was not measured."""
        if table is None:
            return None
        if self._orders is not None and table in self._orders.accuracy.get(edits, {}):
            mean = self._orders.accuracy[edits][table]
            return mean.value, mean.low, mean.high
        found = self._pooled(edits, table) if is_probe(table) else self.runs[0].get(edits, table)
        return None if found is None or found.accuracy is None else (found.accuracy, found.low, found.high)

    def _pooled(self, edits: int, probe: str) -> Measure | None:
        """Of the edits of all orders; those of different orders count as different."""
        tables = [scores for run in self.runs if (scores := run.results.get(edits, probe)) is not None]
        return measure(joined(tables)) if tables else None

    def note(self, edits: int) -> str:
        """What to know before reading the row."""
        fallen = [run for run in self.runs if run.collapse is not None and run.collapse.edits <= edits]
        works = self.score(edits, "efficacy")
        notes = ["collapsed"] if 2 * len(fallen) > len(self.runs) else []
        return ", ".join([*notes, *(["few edits work"] if works is not None and works[0] < 0.5 else [])])


def ability_table(recipe: Recipe, runs: Sequence[Reproduced]) -> Table:
    """Methods by edits, models and benchmarks side by side; beneath each row what the paper printed of it.

    A fault of a printed number is marked with a letter, which the caption explains.
    """
    groups = grouped(runs)
    sheet = _Sheet(recipe, list(dict.fromkeys(run.model for run in runs)), groups)
    rows = tuple(sheet.rows())
    return Table(recipe.id, _title(recipe, runs), _caption(recipe, sheet.faults), sheet.columns(), rows)


def grouped(runs: Sequence[Reproduced]) -> dict[tuple[str, str], Rows]:
    """By model and title of the row, in the order of the runs."""
    parts: dict[tuple[str, str], list[Analysis]] = {}
    for run in runs:
        parts.setdefault((run.model, row_title(run.analysis)), []).append(run.analysis)
    return {key: Rows(key[0], found) for key, found in parts.items()}


def row_title(run: Analysis) -> str:
    """ "MEMIT (released), batches of 10, RECT 40 %": what a row of a paper's table is called."""
    config = run.results.resolved.config
    parts = [method_title(run.results.method)]
    if config.batch > 1:
        parts.append(f"batches of {config.batch:,}")
    if config.filter:
        keep = config.filter.get("keep")
        parts.append(config.filter["name"].upper() + (f" {100 * keep:.0f} %" if keep is not None else ""))
    return ", ".join(parts)


@dataclass
class _Sheet:
    """A table while it is written. faults: of the printed numbers in it so far, in the order of their letters."""

    recipe: Recipe
    models: Sequence[str]
    groups: Mapping[tuple[str, str], Rows]

    def __post_init__(self) -> None:
        self.faults: list[Anomaly] = []
        self.probes = OF_EDITS if self.recipe.shows == "success" else OF_EDITS[:1]

    def columns(self) -> tuple[Column, ...]:
        one = len(self.models) == 1
        several = (
            _score(name if one else f"{model}: {name}", f"{model}/{name}")
            for model in self.models
            for name in (*self.recipe.benchmarks, *(["Kept"] if self.recipe.benchmarks else []), *self.probes)
        )
        head = (Column("Method", "text", ("method",)), Column("# Edits", "count", ("edits",)))
        return (*head, *several, Column("Note", "text", ("note",)))

    def rows(self) -> Iterator[dict[str, Any]]:
        yield from self._pair("w/o Edit", 0)
        for method in dict.fromkeys(method for _, method in self.groups):
            for edits in sorted({n for (_, name), rows in self.groups.items() if name == method for n in rows.edits}):
                yield from self._pair(method, edits)

    def _pair(self, method: str, edits: int) -> Iterator[dict[str, Any]]:
        """What was measured, and what was printed if anything was."""
        head = {"method": method, "edits": edits}
        cells: dict[str, Any] = {}
        notes: dict[str, None] = {}
        for model in self.models:
            rows = self._of(model, method)
            if rows is not None:
                cells |= self._measured(rows, edits)
                notes |= dict.fromkeys(note for note in [rows.note(edits)] if note and edits)
        yield head | {"source": "measured"} | cells | {"note": "; ".join(notes)}
        published = {key: value for model in self.models for key, value in self._printed(model, method, edits)}
        if published:
            yield {"method": "  published", "edits": edits, "source": "published"} | published

    def _of(self, model: str, method: str) -> Rows | None:
        if method == "w/o Edit":
            return next((rows for (name, _), rows in self.groups.items() if name == model), None)
        return self.groups.get((model, method))

    def _measured(self, rows: Rows, edits: int) -> dict[str, Any]:
        found = {name: rows.score(edits, rows.task(name)) for name in self.recipe.benchmarks}
        before = {name: rows.score(0, rows.task(name)) for name in self.recipe.benchmarks}
        shares = [v[0] / b[0] for name, v in found.items() if v is not None and (b := before[name]) and b[0] > 0]
        cells = {f"{rows.model}/Kept": fmean(shares)} if shares and edits else {}
        for name, value in {**found, **{probe: rows.score(edits, probe) for probe in self.probes if edits}}.items():
            if value is not None:
                keys = (f"{rows.model}/{name}", f"{rows.model}/{name}_low", f"{rows.model}/{name}_high")
                cells |= dict(zip(keys, value, strict=True))
        return cells

    def _printed(self, model: str, method: str, edits: int) -> Iterator[tuple[str, Any]]:
        name = _plain(method)
        table = self.recipe.published
        if name is None or table is None:
            return
        found = {b: cell for b in self.recipe.benchmarks if (cell := printed(table, model, name, edits, b)) is not None}
        before = {b: printed(table, model, name, 0, b) for b in found}
        shares = [cell.value / base.value for b, cell in found.items() if (base := before[b]) and _sound(cell, base)]
        for benchmark, cell in found.items():
            yield f"{model}/{benchmark}", cell.value
            if cell.faults:
                yield f"{model}/{benchmark}_mark", ", ".join(map(self._letter, cell.faults))
        if shares and edits:
            yield f"{model}/Kept", fmean(shares)

    def _letter(self, fault: Anomaly) -> str:
        if fault not in self.faults:
            self.faults.append(fault)
        return letter(self.faults.index(fault))


def letter(place: int) -> str:
    """a, b, ..., z, aa, bb, ..."""
    return ascii_lowercase[place % 26] * (place // 26 + 1)


def _sound(cell: Printed, base: Printed) -> bool:
    """Whether a printed number may be compared with others."""
    return base.value > 0 and not any(fault.severity == "high" for fault in cell.faults)


def _plain(method: str) -> str | None:
    """The method as the papers print it, of a row without batches and filters; None for others."""
    if method == "w/o Edit":
        return method
    name = method.removesuffix(" (released)")
    return name if name in METHODS.values() else None


def _score(title: str, key: str) -> Column:
    return Column(title, "score", (key, f"{key}_low", f"{key}_high", f"{key}_mark"))


def _title(recipe: Recipe, runs: Sequence[Reproduced]) -> str:
    names = dict.fromkeys((run.model, run.analysis.results.model) for run in runs)
    stand_ins = ", ".join(f"{title} by {name}" for title, name in names if title != name)
    return f"{recipe.title}{f' ({stand_ins})' if stand_ins else ''}"


def _caption(recipe: Recipe, faults: Sequence[Anomaly]) -> str:
    parts = [
        "Scores with 95 % intervals; beneath, what the paper printed of its own models and benchmarks: compare shares, "
        "not values. Kept: mean share of the unedited score. Efficacy: an edit's own prompt gives the new answer. "
        "Collapsed: a whole interval lies below a loss of a tenth of the unedited score, or answers became constant.",
        recipe.note,
        *(f"[{letter(i)}] {fault.told}." for i, fault in enumerate(faults)),
        *(f"Of the published table: {fault.issue}." for fault in table_faults(_published_name(recipe))),
    ]
    return " ".join(part for part in parts if part)


def _published_name(recipe: Recipe) -> str:
    """Of a table its name, of a figure that under which its faults are listed."""
    figure = recipe.id.removeprefix("p1-figure")
    return f"fig{figure}" if recipe.id.startswith("p1-figure") else recipe.published or ""
