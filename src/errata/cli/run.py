"""errata run: do what is missing of runs."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from errata.cli.output import progress
from errata.errors import BadInput
from errata.runs.layout import RunDir
from errata.types import Engine, Progress

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
    engine: Annotated[
        Engine | None, typer.Option(help="What answers the tasks, in place of the configs' `engine`.")
    ] = None,
) -> None:
    """Edit and measure as configs say. The same command again goes on where a stopped one was."""
    asked = configs if engine is None else [with_engine(path, engine) for path in configs]
    for folder in perform(asked, root, workers, threads):
        typer.echo(folder.path)


def with_engine(path: Path, engine: Engine) -> "RunConfig | Path":
    """The config in a file, with that engine. BadInput for the folder of a run that has another."""
    from errata.runs.config import load_config

    config = load_config(path)
    if not path.is_dir():
        return config.model_copy(update={"engine": engine})
    if config.engine != engine:
        raise BadInput(
            f"{path} was begun with the engine {config.engine}, and all its scores come from one. Leave out --engine "
            f"to go on, or begin another run from a config: errata run CONFIG.yaml --engine {engine}"
        )
    return path


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
