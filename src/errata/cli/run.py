"""errata run: do what is missing of runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from errata.cli.options import DataDir
from errata.cli.output import note, progress
from errata.errors import BadInput
from errata.runs.layout import RunDir
from errata.types import Engine

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
    tasks: Annotated[
        str | None,
        typer.Option(help="Measure these instead of the configs' tasks: names of `errata list tasks`, with commas."),
    ] = None,
    data_dir: DataDir = None,
    engine: Annotated[
        Engine | None, typer.Option(help="What answers the tasks, in place of the configs' `engine`.")
    ] = None,
    prefix_cache: Annotated[
        float | None, typer.Option(min=0, metavar="GIB", help="Memory for what prompts have in common; default 0.25.")
    ] = None,
    lower_states: Annotated[
        str | None,
        typer.Option(
            metavar="WHERE:GIB",
            help="Keep hidden states below the first edited layer from checkpoint to checkpoint: memory:2, disk:8.",
        ),
    ] = None,
) -> None:
    """Edit and measure as configs say. The same command again goes on where a stopped one was."""
    named = tasks and [name.strip() for name in tasks.split(",")]
    given = {
        "tasks": named,
        "data_dir": data_dir,
        "engine": engine,
        "prefix_cache": prefix_cache,
        "lower_states": lower_states,
    }
    changes = {key: value for key, value in given.items() if value is not None}
    asked = [config for path in configs for config in changed(path, changes)] if changes else configs
    for folder in perform(asked, root, workers, threads):
        typer.echo(folder.path)


def changed(path: Path, changes: Mapping[str, object]) -> list["RunConfig"]:
    """The configs in a file with some keys changed. BadInput for the folder of a run, which was begun with its own."""
    from errata.runs.config import load_configs, parse_config

    if path.is_dir():
        options = " and ".join(f"--{key.replace('_', '-')}" for key in changes)
        raise BadInput(
            f"{path} is a run that was begun: {options} of no use; give its config instead, or change data_dir in its "
            "config.yaml if the benchmarks have moved"
        )
    return [parse_config({**config.model_dump(mode="json"), **changes}, str(path)) for config in load_configs(path)]


def perform(configs: Sequence["RunConfig | Path"], root: Path, workers: int | None, threads: int) -> list[RunDir]:
    """The runs of those configs, each brought to its end. The first error of one that failed, when all have ended."""
    from errata.runs.config import each_run
    from errata.runs.executors import Here, Processes
    from errata.runs.jobs import Needs
    from errata.runs.machine import cores
    from errata.runs.sweep import raise_failures, run_sweep

    runs = each_run(configs)
    if len(runs) > len(configs):
        note(f"{len(runs)} runs, one for each order of the edits (`seeds`)")
    most = workers or min(len(runs), cores())
    executor = Here() if most == 1 else Processes(most)
    with progress() as bar:
        ended = run_sweep(runs, root, executor, bar, needs=lambda config: Needs(threads), retries=0)
    raise_failures(ended)
    return [outcome.run for outcome in ended]
