"""What launches workers: this process, or several processes on this machine. No torch here.

What is done and what is not lies in the runs' folders; an executor only has jobs worked on, and says which ended.
"""

import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Protocol

from errata.errors import ErrataError
from errata.runs.jobs import PULSE, Job
from errata.runs.outlook import whole
from errata.types import Progress

PATIENCE = 30.0
"""Seconds that processes get to finish the file in hand after Ctrl-C."""

Ended = tuple[Job, Exception | None]
"""A job that a worker has left, and what went wrong; None if its run is finished."""


class Died(ErrataError):
    """A worker ended without a word: killed, out of memory, or its machine is gone."""


class Executor(Protocol):
    """Has jobs worked on."""

    def submit(self, job: Job) -> None:
        """Take a job; it is begun when there is room."""

    def wait(self, progress: Progress | None) -> list[Ended]:
        """Look after the jobs for a moment (`PULSE` seconds, or until one ends); those that ended."""

    def stop(self) -> None:
        """End what is being worked on, as Ctrl-C does. Finished work is kept."""


class Here:
    """One job after the other, in this process."""

    def __init__(self) -> None:
        self._waiting: list[Job] = []

    def submit(self, job: Job) -> None:
        self._waiting.append(job)

    def wait(self, progress: Progress | None) -> list[Ended]:
        job = self._waiting.pop(0)
        return [(job, job.work(progress))]

    def stop(self) -> None:
        self._waiting.clear()


@dataclass
class Processes:
    """Spawned processes on this machine.

    workers: how many at a time at most. memory: bytes that they may need together, None for any. gpus: those that
    are shared out, as CUDA_VISIBLE_DEVICES names them. A job that needs more than there is runs alone.
    """

    workers: int
    memory: int | None = None
    gpus: Sequence[str] = ()
    _waiting: list[Job] = field(default_factory=list)
    _running: dict[Connection, "_Worker"] = field(default_factory=dict)

    def submit(self, job: Job) -> None:
        self._waiting.append(job)

    def wait(self, progress: Progress | None) -> list[Ended]:
        while self._waiting and self._has_room(self._waiting[0]):
            self._launch(self._waiting.pop(0))
        ended = [self._bury(pipe) for pipe in wait(list(self._running), PULSE) if isinstance(pipe, Connection)]
        report([worker.job for worker in self._running.values()], progress)
        return ended

    def stop(self) -> None:
        """Tell every process to stop until it has. A second signal changes nothing."""
        deadline = time.monotonic() + PATIENCE
        self._waiting.clear()
        with _deaf():
            for pipe, worker in self._running.items():
                # Again and again: a process that is still starting does not hear yet.
                while worker.process.is_alive() and time.monotonic() < deadline:
                    _interrupt(worker.process)
                    worker.process.join(0.5)
                worker.process.kill()  # no harm: a run may be killed at any moment
                worker.process.join()
                pipe.close()
        self._running.clear()

    def _has_room(self, job: Job) -> bool:
        running = [worker.job.needs for worker in self._running.values()]
        memory = job.needs.memory + sum(needs.memory for needs in running)
        fits = self.memory is None or memory <= self.memory
        return not running or (len(running) < self.workers and fits and len(self._free()) >= job.needs.gpus)

    def _free(self) -> list[str]:
        taken = {gpu for worker in self._running.values() for gpu in worker.gpus}
        return [gpu for gpu in self.gpus if gpu not in taken]

    def _launch(self, job: Job) -> None:
        context = multiprocessing.get_context("spawn")
        gpus = self._free()[: math.ceil(job.needs.gpus)]
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_child, args=(job, gpus, theirs))
        with _deaf():
            process.start()
        theirs.close()
        self._running[ours] = _Worker(process, job, gpus)

    def _bury(self, pipe: Connection) -> Ended:
        """A pipe with something in it, or at its end, means that the process has done what it will."""
        worker = self._running.pop(pipe)
        try:
            said = pipe.recv()
        except (EOFError, OSError):  # the latter in the middle of a word
            worker.process.join()
            said = Died(
                f"the process of {worker.job.run.path} ended with code {worker.process.exitcode}, perhaps for want of "
                "memory; repeat the command to go on, with fewer workers if it happens again."
            )
        worker.process.join()
        pipe.close()
        if isinstance(said, KeyboardInterrupt):
            raise said
        return worker.job, said


@dataclass(frozen=True)
class _Worker:
    process: SpawnProcess
    job: Job
    gpus: Sequence[str]


def report(running: Sequence[Job], progress: Progress | None) -> None:
    """Report how far the running jobs have come."""
    for job in running:
        if progress is not None and (at := job.progress()) is not None:
            progress(whole(job.run), *at)


def _child(job: Job, gpus: Sequence[str], pipe: Connection) -> None:
    """One job in a process of its own, which sends at last what went wrong, or None."""
    _end_with_parent()
    signal.signal(signal.SIGINT, _interrupt_once)
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)  # before torch counts them
    try:
        pipe.send(job())
    except KeyboardInterrupt:
        pipe.send(KeyboardInterrupt())


def _interrupt_once(number: int, frame: FrameType | None) -> None:
    """The terminal's Ctrl-C reaches parent and children, and the parent tells the children once more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    """A run whose parent was killed would hold its folder against the repeated command."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _interrupt(process: SpawnProcess) -> None:
    if process.pid is not None and os.name != "nt":  # on Windows the console has told it already
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGINT)


@contextmanager
def _deaf() -> Iterator[None]:
    """Ignore Ctrl-C, also in processes started meanwhile, which set a handler of their own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
