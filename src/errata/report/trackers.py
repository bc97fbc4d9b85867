"""What a sweep measures, sent to a tracker as it comes: trackio, Weights & Biases, MLflow. Each is an extra.

A tracker is one small callback, `Tracker`; what it was told once it is not told again, also when a sweep is repeated.
"""

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from typing import Any, Literal

from errata.errors import BadInput
from errata.report.results import Results, read_results
from errata.runs.config import RunConfig
from errata.runs.layout import RunDir, is_finished, write_json

TrackerName = Literal["trackio", "wandb", "mlflow"]
Tracker = Callable[[str, RunConfig, int, Mapping[str, float]], None]
"""Called with the run's name, its config, a number of edits, and what was measured after them by name."""
PROJECT = "errata"


class Watch:
    """Tells a tracker of each checkpoint once, for `run_sweep`. name: of the tracker, for the note of what it knows."""

    def __init__(self, tracker: Tracker, name: str) -> None:
        self._tracker, self._name = tracker, name

    def __call__(self, config: RunConfig, run: RunDir) -> None:
        """Tell what is new of a run."""
        note = run.path.parent / ".sweep" / f"{run.path.name}.{self._name}.json"
        told: list[int] = json.loads(note.read_text("utf-8")) if note.exists() else []
        fresh = [edits for edits in _complete(config, run) if edits not in told]
        if fresh:
            results = read_results(run.path)
            for edits in fresh:
                with redirect_stdout(sys.stderr):
                    self._tracker(run.path.name, config, edits, measures(results, edits))
                write_json(note, told := [*told, edits])


def measures(results: Results, edits: int) -> dict[str, float]:
    """The score of each table and each measure of health after so many edits; those that are finite."""
    scores = {name: float(table.values.mean()) for name, table in results.scores[edits].items() if table.n}
    found = {**scores, **{f"health/{name}": value for name, value in results.health[edits].items()}}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _complete(config: RunConfig, run: RunDir) -> list[int]:
    """Checkpoints of which nothing is missing; in the single setting they are one, and complete at the end."""
    if config.setting == "single":
        return [0, config.batch] if is_finished(run) else []
    tasks = set(config.tasks)
    return [edits for edits in run.checkpoints() if run.health(edits).exists() and tasks <= run.tables(edits).keys()]


@contextmanager
def tracker(name: TrackerName, project: str = PROJECT) -> Iterator[Tracker]:
    """The tracker of that name, whose runs are closed when the block ends. BadInput if it is not installed."""
    try:
        module = import_module(name)
    except ImportError as error:
        raise BadInput(
            f"the tracker {name} is not installed. Install it: pip install 'errata[{name}]', or in a clone: "
            f"python install.py --extra {name}"
        ) from error
    with redirect_stdout(sys.stderr):  # they greet and take leave where only facts belong
        sink = _Mlflow(module, project) if name == "mlflow" else _Runs(module, project, name == "wandb")
    try:
        yield sink.log
    finally:
        with redirect_stdout(sys.stderr):
            sink.close()


class _Runs:
    """trackio, and Weights & Biases, whose interface it shares; runs are kept apart by their names."""

    def __init__(self, module: Any, project: str, wandb: bool) -> None:
        self._module, self._project = module, project
        self._kept_apart = {"reinit": "create_new", "id": None} if wandb else {}
        self._runs: dict[str, Any] = {}

    def log(self, run: str, config: RunConfig, edits: int, values: Mapping[str, float]) -> None:
        if run not in self._runs:
            options = {key: value or run for key, value in self._kept_apart.items()}
            self._runs[run] = self._module.init(
                project=self._project, name=run, config=config.model_dump(mode="json"), resume="allow", **options
            )
        self._runs[run].log(dict(values), step=edits)

    def close(self) -> None:
        for run in self._runs.values():
            run.finish()


class _Mlflow:
    """MLflow, where an experiment is the project; MLFLOW_TRACKING_URI says where it is kept."""

    def __init__(self, module: Any, project: str) -> None:
        self._client = module.MlflowClient()
        found = self._client.get_experiment_by_name(project)
        self._experiment = found.experiment_id if found else self._client.create_experiment(project)
        self._runs: dict[str, str] = {}

    def log(self, run: str, config: RunConfig, edits: int, values: Mapping[str, float]) -> None:
        if run not in self._runs:
            self._runs[run] = self._resumed(run) or self._created(run, config)
        for name, value in values.items():
            self._client.log_metric(self._runs[run], name.replace(":", "-"), value, step=edits)

    def close(self) -> None:
        for run in self._runs.values():
            self._client.set_terminated(run)

    def _resumed(self, run: str) -> str | None:
        named = f"attributes.run_name = '{run}'"
        found = self._client.search_runs([self._experiment], filter_string=named, max_results=1)
        return found[0].info.run_id if found else None

    def _created(self, run: str, config: RunConfig) -> str:
        made = self._client.create_run(self._experiment, run_name=run)
        for key, value in config.model_dump(mode="json").items():
            self._client.log_param(made.info.run_id, key, str(value)[:500])
        return str(made.info.run_id)
