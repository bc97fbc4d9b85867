"""errata demo: the whole job on the embedded model, in a few minutes."""

import os
import sys
import time
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from errata.cli.options import Json, Margin
from errata.cli.output import duration, emit, note
from errata.cli.run import perform

RECIPES = ("demo-rome-released.yaml", "demo-rome.yaml", "demo-memit.yaml")


def recipes() -> list[Path]:
    """The run configs of the demo, in the package."""
    return [Path(str(files("errata.runs") / "recipes" / name)) for name in RECIPES]


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the runs and the report.")] = Path("demo"),
    show: Annotated[bool, typer.Option("--open/--no-open", help="Open the report where there is a desktop.")] = True,
    margin: Margin = None,
    json: Json = False,
) -> None:
    """Edit the embedded model with ROME, as released and as published, and MEMIT; measure and report.

    Each run edits 100 times, one edit after another on the same weights, and is measured after 0, 1, 10 and 100.
    """
    from errata.report.html import report
    from errata.report.summary import summarize

    start = time.monotonic()
    note(
        "Edits atlas, the embedded model, one edit after another, and measures it on the way: by ROME without the "
        "covariance of the keys, as papers on collapse ran it (released), by ROME as published, and by MEMIT."
    )
    runs = [run.path for run in perform(recipes(), out / "runs", workers=2, threads=1)]
    page = report(runs, out / "report", margin).resolve()
    found = summarize(runs, margin)
    seconds = time.monotonic() - start
    if json:
        emit({"report": str(page), "seconds": round(seconds, 1), **found})
        return
    typer.echo(found["headline"])
    typer.echo(f"{page} ({duration(seconds)})")
    if show and has_desktop():
        import webbrowser

        webbrowser.open(page.as_uri())


def has_desktop() -> bool:
    """Whether a browser would open before someone's eyes."""
    if "CI" in os.environ or not sys.stdout.isatty():
        return False
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
