"""Sweeps: what is tried again and what is not, what is told on the way, and bounds on what runs at the same time."""

import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_world import OPTIONS, MakeConfig, content

from errata.errors import BadInput, ErrataError, Interrupted, RunInUse
from errata.runs import sweep
from errata.runs.config import RunConfig, run_name
from errata.runs.executors import Died, Ended, Here, Processes
from errata.runs.jobs import Job, Needs
from errata.runs.layout import RunDir, is_finished
from errata.runs.ledger import read_ledger
from errata.runs.runner import start
from errata.runs.sweep import raise_failures, run_sweep
from errata.types import Progress


class Failing:
    """Ends each job at once with the next of the errors that its seed has; None finishes it."""

    def __init__(self, errors: dict[int, list[Exception | None]]) -> None:
        self._errors = {seed: iter(each) for seed, each in errors.items()}
        self._jobs: list[Job] = []
        self.stopped = False

    def submit(self, job: Job) -> None:
        self._jobs.append(job)

    def wait(self, progress: Progress | None) -> list[Ended]:
        jobs, self._jobs = self._jobs, []
        return [(job, next(self._errors[self._config(job).seed])) for job in jobs]

    def stop(self) -> None:
        self.stopped = True

    def _config(self, job: Job) -> RunConfig:
        assert isinstance(job.config, RunConfig)
        return job.config


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sweep, "PAUSE", 0.0)
    yield
    assert not multiprocessing.active_children()


def test_what_may_pass_is_tried_again_and_what_cannot_is_not(tmp_path: Path, make_config: MakeConfig) -> None:
    died, wrong = Died("killed"), BadInput("no such method")
    executor = Failing({0: [died, RunInUse("in use"), None], 1: [wrong], 2: [died, died, died], 3: [None]})
    outcomes = run_sweep([make_config(seed=seed) for seed in range(4)], tmp_path, executor, retries=2)
    assert [(o.status, o.attempts, o.error) for o in outcomes] == [
        ("finished", 3, None),
        ("failed", 1, wrong),
        ("failed", 3, died),
        ("finished", 1, None),
    ]
    assert executor.stopped
    with pytest.raises(ErrataError, match=r"(?s)no such method.*killed"):
        raise_failures(outcomes)


def test_ctrl_c_stops_the_executor(tmp_path: Path, make_config: MakeConfig) -> None:
    def press(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    executor = Failing({0: [None], 1: [None]})
    with pytest.raises(Interrupted, match="Repeat the command"):
        run_sweep([make_config(), make_config(seed=1)], tmp_path, executor, press)
    assert executor.stopped


def test_finished_runs_are_kept_and_what_is_named_twice_runs_once(tmp_path: Path, make_config: MakeConfig) -> None:
    done, other = make_config(edits=[0]), make_config(edits=[0], seed=1)
    start(done, tmp_path)
    bars: list[tuple[str, int, int]] = []
    watched: list[tuple[int, bool]] = []

    def watch(config: RunConfig, run: RunDir) -> None:
        watched.append((config.seed, is_finished(run)))

    outcomes = run_sweep([other, done, other], tmp_path, Here(), lambda *told: bars.append(told), watch=watch)
    assert [(o.config.seed, o.status, o.attempts) for o in outcomes] == [(1, "finished", 1), (0, "kept", 0)]
    assert ("runs", 1, 2) in bars and bars[-1] == ("runs", 2, 2)
    assert (0, True) in watched and watched[-1] == (1, True)
    RunDir(outcomes[0].run.path).health(0).unlink()
    again, _ = run_sweep([other, done], tmp_path, Here())
    assert again.status == "finished" and again.run.health(0).exists()


def test_folders_of_runs_and_relative_paths(
    tmp_path: Path, make_config: MakeConfig, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    config = make_config(edits=[0], data="edits.jsonl", model="model")
    (outcome,) = run_sweep([config], tmp_path, Processes(1))
    assert outcome.error is None and is_finished(outcome.run)
    assert outcome.log is not None and "finished" in outcome.log.read_text()
    (again,) = run_sweep([outcome.run.path], tmp_path / "unused", Here())
    assert again.status == "kept" and again.run.path == outcome.run.path


@pytest.mark.parametrize(
    ("executor", "needs", "at_once"),
    [
        (Processes(2), Needs(), 2),
        (Processes(8, memory=1000), Needs(memory=400), 2),
        (Processes(8, memory=1000), Needs(memory=4000), 1),
        (Processes(8, gpus=("0", "1", "2")), Needs(gpus=1), 3),
        (Processes(8, gpus=("0", "1", "2")), Needs(gpus=2), 1),
        (Processes(8), Needs(gpus=2), 1),
    ],
)
def test_what_runs_at_the_same_time_is_bounded(
    tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, executor: Processes, needs: Needs,
    at_once: int,
) -> None:  # fmt: skip
    given: list[list[str]] = []

    class Process:
        def __init__(self, target: object, args: tuple[Job, list[str], object]) -> None:
            given.append(args[1])

        def start(self) -> None: ...
        def kill(self) -> None: ...
        def join(self, timeout: float | None = None) -> None: ...
        def is_alive(self) -> bool:
            return False

    monkeypatch.setattr(multiprocessing.get_context("spawn"), "Process", Process)
    monkeypatch.setattr("errata.runs.executors.wait", lambda pipes, seconds: [])
    for seed in range(5):
        executor.submit(Job(make_config(seed=seed), tmp_path, tmp_path, needs))
    executor.wait(None)
    executor.wait(None)
    assert len(given) == at_once
    named = [gpu for gpus in given for gpu in gpus]
    assert len(set(named)) == len(named) == min(len(executor.gpus), at_once * int(needs.gpus))
    executor.stop()


@pytest.mark.slow
def test_a_process_that_is_killed_is_replaced(tmp_path: Path, make_config: MakeConfig) -> None:
    config = make_config(options={**OPTIONS["rome"], "steps": 40, "loss_stop": 0.0}, edits=[2, 4], probe_limit=1)
    run, killed = RunDir(tmp_path / "killed" / run_name(config)), []

    class Murderous(Processes):
        def wait(self, progress: Progress | None) -> list[Ended]:
            if not killed and read_ledger(run.ledger):
                (worker,) = self._running.values()
                killed.append(worker.process.pid)
                worker.process.kill()
            return super().wait(progress)

    outcomes = run_sweep([config], tmp_path / "killed", Murderous(2))
    assert killed and [(o.status, o.attempts) for o in outcomes] == [("finished", 2)]
    assert content(run.path) == content(start(config, tmp_path / "alone"))
