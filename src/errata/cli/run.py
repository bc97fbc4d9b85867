"""errata run: do what is missing of runs."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from errata.cli.options import DataDir
from errata.cli.output import progress
from errata.errors import BadInput
from errata.runs.layout import RunDir
from errata.types import Progress

if TYPE_CHECKING:
    from errata.runs.config import RunConfig


def run(
    configs: Annotated[
        list[Path], typer.Argument(metavar="CONFIG...", help="YAML files, or folders of runs that were started before.")
    ],
    root: Annotated[Path, typer.Option(help="Folder of the runs' folders.")] = Path("runs"),
    workers: Annotated[
        int | None, typer.Option(min=1, help="Runs at the same time. Default: one for each core.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="torch threads of each run; they decide the last bits.")] = 1,
    data_dir: DataDir = None,
) -> None:
    """Edit and measure as configs say. The same command again goes on where a stopped one was."""
    asked = configs if data_dir is None else [reading_from(data_dir, path) for path in configs]
    for folder in perform(asked, root, workers, threads):
        typer.echo(folder.path)


def reading_from(data_dir: str, path: Path) -> "RunConfig":
    """The config in a file, with another `data_dir`, which does not change the run's folder. BadInput for a folder."""
    from errata.runs.config import load_config

    if path.is_dir():
        raise BadInput(
            f"{path} is a run that was started; --data-dir is for configs: change data_dir in its config.yaml"
        )
    return load_config(path).model_copy(update={"data_dir": data_dir})


def perform(configs: Sequence["RunConfig | Path"], root: Path, workers: int | None, threads: int) -> list[RunDir]:
    """The runs of those configs, each brought to its end."""
    from errata.runs.executors import run_all

    with progress() as bar:
        shown = bar if len(configs) == 1 else whole_runs(bar)
        return run_all(configs, root, workers or min(len(configs), os.cpu_count() or 1), threads, shown)


def whole_runs(bar: Progress) -> Progress:
    """One bar for each run: what several runs have in hand would overwrite each other."""

    def show(what: str, done: int, total: int) -> None:
        if what.endswith("(seconds)"):
            bar(what, done, total)

    return show
