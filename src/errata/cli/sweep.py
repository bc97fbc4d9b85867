"""errata sweep: many runs from one file, on this machine or a cluster."""

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from errata.cli.options import Json, settings
from errata.cli.output import duration, emit, note, progress, table
from errata.runs.machine import cores, free_memory, gpus

if TYPE_CHECKING:
    from errata.report.trackers import Watch
    from errata.runs.config import RunConfig
    from errata.runs.estimates import Planner
    from errata.runs.executors import Executor
    from errata.runs.sweep import Outcome

GB = 1024**3
SPARED = 0.9
"""Share of the free memory that runs may take."""


class ExecutorName(StrEnum):
    PROCESSES = "processes"
    RAY = "ray"
    SLURM = "slurm"


class TrackerName(StrEnum):
    TRACKIO = "trackio"
    WANDB = "wandb"
    MLFLOW = "mlflow"


def sweep(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="SWEEP...", help="YAML files of sweeps (docs/sweeps.md), or of single runs."),
    ],
    root: Annotated[Path, typer.Option(help="Folder of the runs' folders.")] = Path("runs"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done, and what it would take.")
    ] = False,
    executor: Annotated[
        ExecutorName, typer.Option(help="What launches workers: processes here, a Ray cluster, or Slurm.")
    ] = ExecutorName.PROCESSES,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes at the same time at most. Default: as cores and memory allow.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="torch threads of each run; they decide the last bits.")] = 1,
    memory: Annotated[
        float | None, typer.Option(min=0, help="GB of main memory that a run needs. Default: as estimated.")
    ] = None,
    gpu: Annotated[
        float | None, typer.Option("--gpus", min=0, help="GPUs that a run needs. Default: one where there are any.")
    ] = None,
    address: Annotated[str | None, typer.Option(help="Of the Ray cluster. Default: RAY_ADDRESS, or one here.")] = None,
    slurm: Annotated[
        list[str] | None,
        typer.Option(
            "--slurm", help="Option of sbatch, NAME=VALUE, such as partition=gpu, or timeout_min=600; repeatable."
        ),
    ] = None,
    retries: Annotated[int, typer.Option(min=0, help="Further attempts at a run that fails.")] = 2,
    tracker: Annotated[
        TrackerName | None, typer.Option(help="Report measurements there as they come; each is an extra.")
    ] = None,
    json: Json = False,
) -> None:
    """Bring every run of a grid to its end. The same command again does what is missing.

    A run that fails stops no other; it is tried again, and listed with its log at the end. Exit code 1 if any failed.
    """
    from errata.runs.config import run_name
    from errata.runs.estimates import Planner
    from errata.runs.grid import load_sweep

    configs = list({run_name(config): config for file in files for config in load_sweep(file)}.values())
    planner = Planner(root, threads, gpu, None if memory is None else int(memory * GB))
    most = workers or max(1, cores() // threads)
    if dry_run:
        preview(configs, planner, most, json)
        return
    outcomes = carry_out(configs, planner, launcher(executor, most, root, address, settings(slurm)), retries, tracker)
    tell(outcomes, json)
    if any(outcome.status == "failed" for outcome in outcomes):
        raise typer.Exit(1)


def launcher(name: ExecutorName, workers: int, root: Path, address: str | None, slurm: Mapping[str, Any]) -> "Executor":
    """What launches workers. workers: processes on this machine at the most, where it is that which launches."""
    from errata.runs.clusters import RayCluster, Slurm
    from errata.runs.executors import Processes

    if name is ExecutorName.RAY:
        return RayCluster(address)
    if name is ExecutorName.SLURM:
        return Slurm(root.absolute() / ".sweep" / "slurm", slurm)
    return Processes(workers, int(SPARED * free_memory()), gpus())


def carry_out(
    configs: Sequence["RunConfig"], planner: "Planner", executor: "Executor", retries: int, to: TrackerName | None
) -> list["Outcome"]:
    """Every run to its end, with bars on the way. to: a tracker that is told of each checkpoint."""
    from errata.runs.sweep import run_sweep

    with ExitStack() as stack:
        watch = stack.enter_context(_watching(to)) if to else None
        bar = stack.enter_context(progress())
        return run_sweep(configs, planner.root, executor, bar, needs=planner.needs, retries=retries, watch=watch)


@contextmanager
def _watching(name: TrackerName) -> Iterator["Watch"]:
    from errata.report.trackers import Watch, tracker

    with tracker(name.value) as told:
        yield Watch(told, name.value)


def preview(configs: Sequence["RunConfig"], planner: "Planner", workers: int, json: bool) -> None:
    """What is done already, and what the rest will take. workers: runs at the same time."""
    from errata.runs.config import run_name
    from errata.runs.estimates import edits_tried
    from errata.runs.layout import RunDir, is_finished

    rows = []
    for config in configs:
        run, found = RunDir(planner.root / run_name(config)), planner.estimate(config)
        tried, most = edits_tried(run), max(config.edits)
        state = "finished" if is_finished(run) else f"{tried} of {most} edits" if tried else "to do"
        rows.append({"run": run.path.name, "state": state, **asdict(found)})
    document = {"runs": rows, "workers": workers, **_totals(rows, workers), "disk_free": _free_disk(planner.root)}
    if json:
        emit(document)
        return
    header = ("run", "state", "time", "memory", "disk", "")
    table(header, [(r["run"], r["state"], *amounts(r), "measured" if r["measured"] else "guessed") for r in rows])
    time, memory, disk = amounts(document)
    note(
        f"{len(rows)} runs; about {time} with {workers} at a time, up to {memory} for one run, {disk} of disk "
        f"({document['disk_free'] / GB:.0f} GB are free)"
    )


def _totals(rows: Sequence[Mapping[str, Any]], workers: int) -> dict[str, Any]:
    """Of all runs: seconds by the clock, the memory of the largest, bytes of disk; None where one is not known."""
    seconds, memory, disk = ([row[name] for row in rows] for name in ("seconds", "memory", "disk"))
    left = [each for each in seconds if each]
    return {
        "seconds": None if None in seconds else max([sum(left) / workers, *left], default=0.0),
        "memory": max((each for each in memory if each is not None), default=None),
        "disk": None if None in disk else sum(disk),
    }


def amounts(row: Mapping[str, Any]) -> tuple[str, str, str]:
    seconds, memory, disk = row["seconds"], row["memory"], row["disk"]
    return (
        "unknown" if seconds is None else duration(seconds),
        "unknown" if memory is None else f"{memory / GB:.1f} GB",
        "unknown" if disk is None else f"{disk / 1024**2:,.0f} MB",
    )


def _free_disk(root: Path) -> int:
    there = next(folder for folder in (root.absolute(), *root.absolute().parents) if folder.exists())
    return shutil.disk_usage(there).free


def tell(outcomes: Sequence["Outcome"], json: bool) -> None:
    """What became of each run; what failed, with its log, at the end."""
    if json:
        emit({"runs": [_document(outcome) for outcome in outcomes]})
    else:
        rows = [(str(o.run.path), o.status, str(o.attempts), duration(o.seconds)) for o in outcomes]
        table(("run", "status", "attempts", "time"), rows)
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    counts = Counter(outcome.status for outcome in outcomes)
    note(f"{len(outcomes)} runs: " + ", ".join(f"{n} {status}" for status, n in counts.items()))
    for outcome in failed:
        note(f"failed: {outcome.run.path.name}: {outcome.error}" + (f" Log: {outcome.log}" if outcome.log else ""))


def _document(outcome: "Outcome") -> dict[str, Any]:
    return {
        "run": str(outcome.run.path),
        "config": outcome.config.model_dump(mode="json"),
        "status": outcome.status,
        "attempts": outcome.attempts,
        "seconds": outcome.seconds,
        "error": None if outcome.error is None else str(outcome.error),
        "log": None if outcome.log is None else str(outcome.log),
    }
