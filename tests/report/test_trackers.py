"""What trackers are told of a run: each checkpoint once, by modules that stand in for the real ones."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from errata.report.results import read_results
from errata.report.trackers import Watch, measures, tracker
from errata.runs.config import RunConfig
from errata.runs.layout import RunDir

Told = list[tuple[str, int, dict[str, float]]]


class StandIn:
    """trackio or wandb, as far as they are used: init gives a run that takes values at a step."""

    def __init__(self) -> None:
        self.begun: list[dict[str, Any]] = []
        self.told: Told = []
        self.ended: list[str] = []

    def init(self, **options: Any) -> SimpleNamespace:
        name = options["name"]
        self.begun.append(options)
        return SimpleNamespace(
            log=lambda values, step: self.told.append((name, step, values)), finish=lambda: self.ended.append(name)
        )


class Mlflow:
    """MlflowClient, as far as it is used; one store for all clients."""

    def __init__(self) -> None:
        self.runs: dict[str, str] = {}
        self.experiments: dict[str, str] = {}
        self.told: list[tuple[str, str, float, int]] = []
        self.params: dict[str, str] = {}
        self.ended: list[str] = []

    def MlflowClient(self) -> "Mlflow":
        return self

    def get_experiment_by_name(self, name: str) -> SimpleNamespace | None:
        return SimpleNamespace(experiment_id=self.experiments[name]) if name in self.experiments else None

    def create_experiment(self, name: str) -> str:
        self.experiments[name] = f"id of {name}"
        return self.experiments[name]

    def search_runs(self, experiments: list[str], filter_string: str, max_results: int) -> list[SimpleNamespace]:
        found = [run for name, run in self.runs.items() if f"'{name}'" in filter_string]
        return [SimpleNamespace(info=SimpleNamespace(run_id=run)) for run in found]

    def create_run(self, experiment: str, run_name: str) -> SimpleNamespace:
        self.runs[run_name] = f"{experiment}/{run_name}"
        return SimpleNamespace(info=SimpleNamespace(run_id=self.runs[run_name]))

    def log_param(self, run: str, key: str, value: str) -> None:
        self.params[key] = value

    def log_metric(self, run: str, key: str, value: float, step: int) -> None:
        self.told.append((run, key, value, step))

    def set_terminated(self, run: str) -> None:
        self.ended.append(run)


@pytest.fixture
def run(rome: Path, tmp_path: Path) -> RunDir:
    """A copy of a run, in a folder where notes can be kept."""

    return RunDir(Path(shutil.copytree(rome, tmp_path / "runs" / rome.name)))


def config(run: RunDir) -> RunConfig:
    return read_results(run.path).resolved.config


def test_measures_are_the_scores_of_the_report_and_finite(rome: Path) -> None:
    results = read_results(rome)
    found = measures(results, 100)
    score = results.get(100, "atlas_mmlu")
    assert score is not None and found["atlas_mmlu"] == float(score.values.mean())
    assert found["health/perplexity"] == results.health[100]["perplexity"]
    assert all(value == value for value in found.values())


@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_each_checkpoint_is_told_once(run: RunDir, monkeypatch: pytest.MonkeyPatch, name: Any) -> None:
    module = StandIn()
    monkeypatch.setitem(sys.modules, name, module)
    last = max(run.checkpoints())
    hidden = run.health(last).rename(run.path / "hidden")
    with tracker(name) as told:
        watch = Watch(told, name)
        watch(config(run), run)
        watch(config(run), run)
        before = [step for _, step, _ in module.told]
        hidden.rename(run.health(last))
        watch(config(run), run)
    assert before == run.checkpoints()[:-1] and [step for _, step, _ in module.told] == run.checkpoints()
    assert {told for told, _, _ in module.told} == {run.path.name} and module.ended == [run.path.name]
    (begun,) = module.begun
    assert begun["project"] == "errata" and begun["resume"] == "allow" and begun["config"]["method"] == "rome"
    assert begun.get("id") == (run.path.name if name == "wandb" else None)
    with tracker(name) as told:  # a repeated sweep
        Watch(told, name)(config(run), run)
    assert len(module.told) == len(run.checkpoints()) and len(module.begun) == 1


def test_mlflow_goes_on_with_the_run_of_that_name(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    module = Mlflow()
    monkeypatch.setitem(sys.modules, "mlflow", module)
    for values in ({"a": 0.5}, {"p1:paper": 1.0}):
        with tracker("mlflow") as told:
            told("name", config(run), 10, values)
    assert module.told == [("id of errata/name", "a", 0.5, 10), ("id of errata/name", "p1-paper", 1.0, 10)]
    assert module.params["method"] == "rome" and module.ended == ["id of errata/name"] * 2


def test_single_edits_are_told_at_the_end(run: RunDir) -> None:
    told: list[int] = []
    watch = Watch(lambda name, config, edits, values: told.append(edits), "list")
    single = config(run).model_copy(update={"setting": "single", "batch": 10})
    watch(single, run)
    assert told == []
    run.finished.write_text(json.dumps({"files": []}))
    watch(single, run)
    assert told == [0, 10]
