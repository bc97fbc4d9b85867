"""Several runs at once, in processes of this machine. What is done and what is not lives in the run folders.

Each run has a process of its own, started afresh (spawn), with its own torch threads. Workers leave the
terminal's Ctrl-C to the parent, which passes it on once; they end when the parent is gone.
"""

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from errata.errors import ErrataError
from errata.runs.config import RunConfig, run_name
from errata.runs.layout import RunDir

if TYPE_CHECKING:
    from errata.editors.base import Progress

GRACE = 120.0  # seconds a worker gets to finish the file in hand after Ctrl-C
QUIET = 0.2  # seconds between two reports of progress from one worker


@dataclass
class _Worker:
    """One started run. ear: where its messages arrive. end: its last message."""

    config: RunConfig
    process: SpawnProcess
    ear: Connection
    end: tuple[str, str] | None = None


def run_all(
    configs: Sequence[RunConfig], root: Path, workers: int, threads: int = 1, progress: "Progress | None" = None
) -> list[RunDir]:
    """Do what is missing of each run, at most `workers` at a time; the runs, in the order of `configs`.

    A run that fails does not stop the others: they are finished first, then ErrataError tells of all failures.
    """
    waiting, working, failures = list(configs), [], []
    try:
        while waiting or working:
            while waiting and len(working) < workers:
                working.append(_start(waiting.pop(0), root, threads))
            for worker in _listen(working, progress):
                working.remove(worker)
                failures += (
                    [f"{run_name(worker.config)}: {worker.end[1]}"] if worker.end and worker.end[0] == "failed" else []
                )
    except KeyboardInterrupt:
        _stop(working)
        raise
    if failures:
        raise ErrataError("; ".join(failures))
    return [RunDir(root / run_name(config)) for config in configs]


def _start(config: RunConfig, root: Path, threads: int) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ear, mouth = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(config, root, threads, mouth), name=run_name(config))
    process.start()
    mouth.close()
    return _Worker(config, process, ear)


def _listen(working: Sequence[_Worker], progress: "Progress | None") -> list[_Worker]:
    """Pass on what the workers say for a moment; those that have ended."""
    by_ear = {worker.ear: worker for worker in working}
    ended = []
    for ear in wait(list(by_ear), timeout=1.0):
        worker = by_ear[ear]  # type: ignore[index]
        try:
            kind, *content = worker.ear.recv()
        except (EOFError, OSError):
            worker.process.join()
            code = worker.process.exitcode
            worker.end = worker.end or ("failed", f"its process ended with code {code}; give the same command to go on")
            ended.append(worker)
            continue
        if kind == "progress" and progress is not None:
            what, done, total = content
            progress(f"{worker.config.method}: {what}", done, total)
        elif kind in ("finished", "failed"):
            worker.end = kind, content[0]
    return ended


def _stop(working: Sequence[_Worker]) -> None:
    """Interrupt the workers and wait until each has finished the file in hand."""
    for worker in working:
        if worker.process.is_alive() and worker.process.pid is not None and hasattr(os, "setsid"):
            os.kill(worker.process.pid, signal.SIGINT)
    end = time.monotonic() + GRACE
    for worker in working:
        worker.process.join(max(0.0, end - time.monotonic()))
        if worker.process.is_alive():
            worker.process.kill()


def _work(config: RunConfig, root: Path, threads: int, mouth: Connection) -> None:
    """The life of a worker process."""
    threading.Thread(target=_follow_parent, daemon=True).start()
    if hasattr(os, "setsid"):
        os.setsid()
    with _silent():
        try:
            import torch

            from errata.runs.runner import start

            torch.set_num_threads(threads)
            start(config, root=root, progress=_reporter(mouth))
            mouth.send(("finished", ""))
        except KeyboardInterrupt:
            mouth.send(("interrupted", ""))
        except ErrataError as error:
            mouth.send(("failed", str(error)))
        except BaseException:
            mouth.send(("failed", traceback.format_exc()))


def _follow_parent() -> None:
    """End with the parent, however it ends: a worker without one would hold the run's lock."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _reporter(mouth: Connection) -> "Progress":
    """Progress that speaks often enough for a bar, and not for every item."""
    last: dict[str, float] = {}

    def report(what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done >= total or now - last.get(what, 0.0) > QUIET:
            last[what] = now
            mouth.send(("progress", what, done, total))

    return report


@contextmanager
def _silent() -> Iterator[None]:
    """What libraries print goes nowhere: several processes share one terminal with the bars."""
    saved: list[Any] = [os.dup(1), os.dup(2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        for descriptor, copy in zip((1, 2), saved):
            os.dup2(copy, descriptor)
            os.close(copy)
        os.close(nowhere)
