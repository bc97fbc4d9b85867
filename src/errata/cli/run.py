"""errata run: do what is missing of runs."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from errata.cli.output import note, progress
from errata.runs.layout import RunDir
from errata.types import Progress

if TYPE_CHECKING:
    from errata.runs.config import RunConfig


def run(
    configs: Annotated[
        list[Path],
        typer.Argument(
            metavar="CONFIG...",
            help="YAML files, each a run or one for each of its `seeds`; or folders of runs that were started before.",
        ),
    ],
    root: Annotated[Path, typer.Option(help="Folder of the runs' folders.")] = Path("runs"),
    workers: Annotated[
        int | None, typer.Option(min=1, help="Runs at the same time. Default: one for each core.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="torch threads of each run; they decide the last bits.")] = 1,
) -> None:
    """Edit and measure as configs say. The same command again goes on where a stopped one was."""
    for folder in perform(configs, root, workers, threads):
        typer.echo(folder.path)


def perform(configs: Sequence["RunConfig | Path"], root: Path, workers: int | None, threads: int) -> list[RunDir]:
    """The runs of those configs, each brought to its end."""
    from errata.runs.config import each_run
    from errata.runs.executors import run_all

    runs = each_run(configs)
    if len(runs) > len(configs):
        note(f"{len(runs)} runs, one for each order of the edits (`seeds`)")
    with progress() as bar:
        shown = bar if len(runs) == 1 else whole_runs(bar)
        return run_all(runs, root, workers or min(len(runs), os.cpu_count() or 1), threads, shown)


def whole_runs(bar: Progress) -> Progress:
    """One bar for each run: what several runs have in hand would overwrite each other."""

    def show(what: str, done: int, total: int) -> None:
        if what.endswith("(seconds)"):
            bar(what, done, total)

    return show
