"""errata report: runs to one HTML page, tables and figures."""

from pathlib import Path
from typing import Annotated

import typer

from errata.cli.options import Json
from errata.cli.output import emit


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")] = Path("report"),
    json: Json = False,
) -> None:
    """Write a self-contained HTML report of runs, its tables (CSV, LaTeX) and its figures (SVG, PNG)."""
    from errata.report.html import report as write

    page = write(runs, out)
    if json:
        from errata.report.summary import summarize

        emit({"report": str(page), **summarize(runs)})
    else:
        typer.echo(page)
