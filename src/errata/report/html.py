"""A report of runs: one self-contained page, and its tables and figures as files beside it."""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import vl_convert
import yaml
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from errata import __version__
from errata.report import charts
from errata.report.charts import themed
from errata.report.figures import Figure, figures
from errata.report.formats import Table, cell, to_csv, to_latex
from errata.report.measures import Analysis
from errata.report.names import PALETTE
from errata.report.sentences import SECTIONS, headline, sentences
from errata.report.summary import read, whole_configs
from errata.report.tables import tables
from errata.runs.layout import atomic

VERDICTS = ("verdicts", "orders")
"""Tables that come before the figures."""
COLUMNS = 3
"""Panels side by side in a figure's file; on the page there are as many as fit."""

DARK = {
    charts.INK: ("ink", "#e9ebee"),
    charts.MUTED: ("muted", "#a3abb6"),
    charts.GRID: ("grid", "#2e333a"),
    charts.REFERENCE: ("reference", "#868d97"),
    charts.PAPER: ("paper", "#15181c"),
    **{ink.light: (f"run-{slot}", ink.dark) for slot, ink in enumerate(PALETTE)},
}
"""Colour on a light page -> name of the page's variable, and its value on a dark page."""


def report(run_dirs: Sequence[Path], out: Path, margin: float | None = None) -> Path:
    """Write the report of the runs in those folders and return its page.

    out: the page if it ends in .html, else a folder for report.html. Tables (CSV, LaTeX) and figures (SVG,
    PNG) go to a folder beside the page. margin: the loss that "no harm" excludes; see `measures.analyse`.
    BadInput if a folder is no measured run; ErrataError if `out` cannot be written.
    """
    out = Path(out)
    page = out if out.suffix.lower() in (".html", ".htm") else out / "report.html"
    beside = page.with_name(f"{page.stem}-files")
    analyses = read(run_dirs, margin)
    built, drawn = tables(analyses), figures(analyses)
    for table in built:
        _write(beside / f"{table.name}.csv", to_csv(table).encode())
        _write(beside / f"{table.name}.tex", to_latex(table).encode())
    for figure in drawn:
        write_figure(beside, figure)
    configs = whole_configs(analyses)
    for name, config in configs.items():
        _write(beside / name, yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode())
    commands = [f"errata run {_quoted(beside / name)}" for name in configs]
    _write(page, render(analyses, built, drawn, commands, beside.name).encode())
    return page


def _write(path: Path, content: bytes) -> None:
    with atomic(path) as draft:
        draft.write_bytes(content)


def _quoted(path: Path) -> str:
    text = path.as_posix()
    return text if re.fullmatch(r"[\w./:@+-]+", text) else f'"{text}"'


def write_figure(folder: Path, figure: Figure) -> None:
    """All panels in one file, on white: SVG and PNG."""
    panels = [_bare(spec) for spec in figure.panels]
    # Equal data have equal names, so gathering them under the whole loses nothing.
    data = {name: rows for panel in panels for name, rows in panel.pop("datasets").items()}
    columns = min(COLUMNS, len(panels))
    whole = {
        "$schema": SCHEMA,
        "concat": panels,
        "columns": columns,
        "spacing": 28,
        "background": "white",
        "datasets": data,
    }
    spec = themed(whole | {"description": figure.description, "padding": 16})
    svg = vl_convert.vegalite_to_svg(spec)
    _write(folder / f"{figure.name}.svg", svg.encode())
    _write(folder / f"{figure.name}.png", vl_convert.svg_to_png(svg, scale=2))


SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
"""Names the version of the format; nothing is fetched from there."""


def _bare(spec: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in spec.items() if key not in ("$schema", "config")}


def render(
    analyses: Sequence[Analysis], built: Sequence[Table], drawn: Sequence[Figure], commands: Sequence[str], folder: str
) -> str:
    """The page. commands: run the whole benchmarks, where a sample was asked. folder: of the files beside it."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["tight"] = lambda text: text.replace(" %", "\N{NARROW NO-BREAK SPACE}%")
    told = sentences(analyses)
    return environment.from_string(files("errata.report").joinpath("page.html.j2").read_text("utf-8")).render(
        headline=headline(analyses),
        sections=[
            (title, list(dict.fromkeys(s.text for s in told if s.about in abouts)))
            for title, abouts in SECTIONS.items()
        ],
        commands=commands,
        verdicts=[table for table in built if table.name in VERDICTS],
        tables=[table for table in built if table.name not in VERDICTS],
        figures=[(figure, [panel(spec) for spec in figure.panels]) for figure in drawn],
        runs=[(analysis, _provenance(analysis)) for analysis in analyses],
        cell=cell,
        folder=folder,
        light={name: light for light, (name, _) in DARK.items()},
        dark=dict(DARK.values()),
        font=charts.FONT,
        bundle=Markup(_in_script(_library())),
        version=__version__,
    )


@cache
def _library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script."""
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle


def panel(spec: Mapping[str, Any]) -> dict[str, Markup]:
    """A panel for the page: `svg` for readers without scripts, and `spec` for those with."""
    quiet = themed(_bare(dict(spec)) | {"$schema": SCHEMA, "background": None})
    fluid = quiet | {"width": "container", "autosize": {"type": "fit-x", "contains": "padding"}}
    svg = vl_convert.vegalite_to_svg(quiet)
    return {
        "svg": Markup(_coloured(svg[svg.index("<svg") :])),
        "spec": Markup(_in_script(_coloured(json.dumps(fluid, ensure_ascii=False)))),
    }


def _coloured(text: str) -> str:
    """Colours become the page's variables, so that figures follow light, dark and print like the text does."""
    return re.sub(r"#[0-9a-f]{6}\b", lambda found: _variable(found[0]), text)


def _variable(color: str) -> str:
    return f"var(--{DARK[color][0]})" if color in DARK else color


def _in_script(text: str) -> str:
    """Without an end of the script element; in JavaScript's and JSON's strings the backslash changes nothing."""
    return re.sub(r"</(script)", r"<\\/\1", text, flags=re.IGNORECASE)


def _provenance(analysis: Analysis) -> Mapping[str, str]:
    resolved = analysis.results.resolved
    return {
        "Folder": analysis.results.path.as_posix(),
        "Config": yaml.safe_dump(
            resolved.config.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True
        ),
        "Hyperparameters": yaml.safe_dump(resolved.editor, sort_keys=False, allow_unicode=True),
        "Model's fingerprint": resolved.model_fingerprint,
        "Edits' sha256": resolved.data_sha256,
        "Versions": ", ".join(f"{name} {version}" for name, version in resolved.versions.items()),
    }
