"""errata report: runs to one HTML page, tables and figures."""

from pathlib import Path
from typing import Annotated

import typer

from errata.cli.options import Json, Margin
from errata.cli.output import emit


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder, or the page itself if it ends in .html.")] = Path(
        "report"
    ),
    margin: Margin = None,
    json: Json = False,
) -> None:
    """Write a self-contained HTML page on runs, with its tables (CSV, LaTeX) and figures (SVG, PNG) beside it."""
    from errata.report.html import report as write
    from errata.report.summary import summarize

    page = write(runs, out, margin)
    if json:
        emit({"report": str(page), **summarize(runs, margin)})
        return
    typer.echo(summarize(runs, margin)["headline"])
    typer.echo(page)
