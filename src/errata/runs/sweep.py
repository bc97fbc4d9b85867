"""Many runs, each brought to its end by whatever launches workers; finished ones are left alone. No torch here."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from errata.errors import BadInput, ErrataError, Interrupted, MissingArtifact, UnsupportedModel
from errata.runs.config import RunConfig, each_run, place
from errata.runs.executors import Executor, Processes
from errata.runs.jobs import PULSE, Job, Needs
from errata.runs.layout import RunDir, is_finished
from errata.runs.machine import cores
from errata.runs.outlook import whole
from errata.types import Progress

PERMANENT = (BadInput, UnsupportedModel, MissingArtifact)
"""What a second attempt would meet again."""
RETRIES = 2
PAUSE = 2.0
"""Seconds before the second attempt; twice as long before each further one."""
LOOK = 10.0
"""Seconds between two looks at the runs for who watches them."""
Watch = Callable[[RunConfig, RunDir], None]
Status = Literal["finished", "kept", "failed"]


@dataclass(frozen=True)
class Outcome:
    """What became of one run of a sweep.

    status: finished, by this call; kept, since it was finished before; failed. attempts: how often it was given to
    a worker. seconds: from the first time to the end. log: what the workers printed, if they were processes.
    """

    config: RunConfig
    run: RunDir
    status: Status
    attempts: int = 0
    seconds: float = 0.0
    error: Exception | None = None
    log: Path | None = None


def run_sweep(
    configs: Sequence[RunConfig | Path],
    root: Path | str = "runs",
    executor: Executor | None = None,
    progress: Progress | None = None,
    *,
    needs: Callable[[RunConfig], Needs] | None = None,
    retries: int = RETRIES,
    watch: Watch | None = None,
) -> list[Outcome]:
    """Bring every run to its end; what became of each, in order. What is named twice runs once.

    configs: as for `start`, or files of several orders. executor: what launches workers; by default processes on
    this machine, one for each core. progress: of each run in seconds, and of the sweep in runs. needs: what a run
    takes of a machine; by default one thread. retries: further attempts at a run that failed, unless it would fail
    the same way (`PERMANENT`). watch: called now and then with each run that is worked on, and when it has ended.
    A run that fails stops no other. Interrupted after Ctrl-C, once every worker has ended.
    """
    launcher = executor or Processes(cores())
    sweep = _Sweep(launcher, progress, retries, watch)
    try:
        for config in each_run(configs):
            sweep.add(config, Path(root), needs)
        return sweep.work()
    except Interrupted:
        raise
    except KeyboardInterrupt:
        raise Interrupted("stopped; finished work is kept. Repeat the command to go on.") from None
    finally:
        launcher.stop()


def raise_failures(outcomes: Sequence[Outcome]) -> None:
    """Raise what went wrong: the error itself if it is one, else an ErrataError with all of them."""
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ErrataError("\n".join(map(str, errors)))


@dataclass
class _Task:
    """One run of a sweep. due: when the next attempt may begin, on the monotonic clock; None while one is made."""

    job: Job
    config: RunConfig
    began: float
    attempts: int = 0
    due: float | None = 0.0


@dataclass
class _Sweep:
    """A sweep while it is worked on. `_open`: runs that have not ended."""

    executor: Executor
    progress: Progress | None
    retries: int
    watch: Watch | None
    _kept: list[Outcome] = field(default_factory=list)
    _open: dict[RunDir, _Task] = field(default_factory=dict)
    _outcomes: dict[RunDir, Outcome | None] = field(default_factory=dict)
    _next_look: float = 0.0

    def add(self, config: RunConfig | Path, root: Path, needs: Callable[[RunConfig], Needs] | None) -> None:
        """One more run, if it is not there yet."""
        parsed, run = place(config, root)
        if run in self._outcomes:
            return
        self._outcomes[run] = None  # in the order of the configs, whichever ends first
        if is_finished(run):
            self._kept.append(Outcome(parsed, run, "kept"))
            return
        folder = config if isinstance(config, Path) and config.is_dir() else parsed
        job = Job(folder, root, Path.cwd(), needs(parsed) if needs else Needs())
        self._open[run] = _Task(job, parsed, time.monotonic())

    def work(self) -> list[Outcome]:
        """All to their ends."""
        for outcome in self._kept:
            self._end(outcome)
        while self._open:
            self._submit()
            if all(task.due is not None for task in self._open.values()):
                time.sleep(PULSE)
                continue
            for job, error in self.executor.wait(self.progress):
                self._handle(self._open[job.run], error)
            self._look()
        return [outcome for outcome in self._outcomes.values() if outcome is not None]

    def _look(self) -> None:
        if self.watch is not None and time.monotonic() >= self._next_look:
            for run, task in self._open.items():
                if run.config.exists():
                    self.watch(task.config, run)
            self._next_look = time.monotonic() + LOOK

    def _submit(self) -> None:
        now = time.monotonic()
        for task in self._open.values():
            if task.due is not None and task.due <= now:
                task.attempts, task.due = task.attempts + 1, None
                task.job.forget_progress()
                self.executor.submit(task.job)

    def _handle(self, task: _Task, error: Exception | None) -> None:
        if error is not None and not isinstance(error, PERMANENT) and task.attempts <= self.retries:
            task.due = time.monotonic() + PAUSE * 2 ** (task.attempts - 1)
            return
        job = task.job
        del self._open[job.run]
        seconds = round(time.monotonic() - task.began, 1)
        log = job.log if job.log.exists() else None
        status: Status = "finished" if error is None else "failed"
        self._end(Outcome(task.config, job.run, status, task.attempts, seconds, error, log))

    def _end(self, outcome: Outcome) -> None:
        self._outcomes[outcome.run] = outcome
        if self.watch is not None and outcome.run.config.exists():
            self.watch(outcome.config, outcome.run)
        if self.progress is not None:
            if outcome.status != "kept":
                self.progress(whole(outcome.run), 1, 1)
            if len(self._outcomes) > 1:
                self.progress("runs", sum(map(bool, self._outcomes.values())), len(self._outcomes))
