"""Several runs at once on one machine: a spawned process each, with torch threads of its own."""

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType
from typing import Any

from errata.errors import ErrataError
from errata.runs.config import RunConfig, each_run, place
from errata.runs.layout import RunDir
from errata.runs.runner import Interrupted, start
from errata.types import Progress

PATIENCE = 30.0
"""Seconds that processes get to finish the file in hand after Ctrl-C."""


def run_all(
    configs: Sequence[RunConfig | Path],
    root: Path | str,
    workers: int,
    threads: int = 1,
    progress: Progress | None = None,
) -> list[RunDir]:
    """Bring every run to its end, `workers` at the same time, and return them in order.

    configs: as for `start`, or files of several orders; what is named twice runs once. threads: torch threads of
    each run.
    A run that fails does not stop the others; its error is raised when they are done. Interrupted after Ctrl-C,
    once every process has finished its file and ended.
    """
    runs = {place(config, root)[1]: config for config in each_run(configs)}
    if workers == 1 or len(runs) == 1:
        with _threads(threads):
            return [RunDir(start(config, root, progress)) for config in runs.values()]
    _Pool(runs, root, threads, progress).work(workers)
    return list(runs)


class _Pool:
    """Processes, each with the pipe through which it reports."""

    def __init__(
        self, runs: Mapping[RunDir, RunConfig | Path], root: Path | str, threads: int, progress: Progress | None
    ) -> None:
        self._waiting = list(runs.items())
        self._root, self._threads, self._progress = root, threads, progress
        self._running: dict[Connection, tuple[SpawnProcess, RunDir]] = {}
        self._ended: dict[RunDir, BaseException | None] = {}

    def work(self, workers: int) -> None:
        try:
            while self._waiting or self._running:
                while self._waiting and len(self._running) < workers:
                    self._launch(*self._waiting.pop(0))
                self._listen()
        except KeyboardInterrupt:
            self._stop()
            raise Interrupted("stopped; finished work is kept. Repeat the command to go on.") from None
        _raise_all([error for error in self._ended.values() if error is not None])

    def _launch(self, run: RunDir, config: RunConfig | Path) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_child, args=(config, self._root, self._threads, theirs))
        with _deaf():
            process.start()
        theirs.close()
        self._running[ours] = process, run

    def _listen(self) -> None:
        """Handle what has been reported; a pipe that ends means that its process has."""
        for pipe in wait(list(self._running)):
            assert isinstance(pipe, Connection)
            _, run = self._running[pipe]
            try:
                self._handle(run, pipe.recv())
            except EOFError:
                self._bury(pipe)

    def _handle(self, run: RunDir, message: Any) -> None:
        if isinstance(message, tuple):
            if self._progress is not None:
                self._progress(*message)
        else:
            self._ended[run] = message

    def _bury(self, pipe: Connection) -> None:
        process, run = self._running.pop(pipe)
        process.join()
        if run not in self._ended:
            self._ended[run] = ErrataError(
                f"the process of {run.path} ended with code {process.exitcode}, perhaps for want of memory; repeat the "
                "command to go on, with fewer workers if it happens again."
            )
        elif isinstance(self._ended[run], KeyboardInterrupt):
            raise KeyboardInterrupt

    def _stop(self) -> None:
        """Tell every process to stop as Ctrl-C does, until it has. A second signal changes nothing."""
        deadline = time.monotonic() + PATIENCE
        with _deaf():
            for pipe, (process, _) in self._running.items():
                # Again and again: a process that is still starting does not hear yet.
                while process.is_alive() and time.monotonic() < deadline:
                    _interrupt(process)
                    _drain(pipe)
                process.kill()  # no harm: a run may be killed at any moment
                process.join()


def _child(config: RunConfig | Path, root: Path | str, threads: int, pipe: Connection) -> None:
    """One run in a process of its own. Sends (what, done, total) on the way and at last an error, or None."""
    _end_with_parent()
    signal.signal(signal.SIGINT, _interrupt_once)
    import torch

    torch.set_num_threads(threads)
    try:
        start(config, root, lambda what, done, total: pipe.send((what, done, total)))
        pipe.send(None)
    except KeyboardInterrupt:
        pipe.send(KeyboardInterrupt())
    except ErrataError as error:
        pipe.send(error)
    except Exception:
        pipe.send(RuntimeError(f"a run failed:\n{traceback.format_exc()}"))


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


def _drain(pipe: Connection, seconds: float = 0.5) -> None:
    """Read what comes, so that nobody waits for a full pipe."""
    end = time.monotonic() + seconds
    with suppress(EOFError):
        while (left := end - time.monotonic()) > 0 and pipe.poll(left):
            pipe.recv()


def _raise_all(errors: Sequence[BaseException]) -> None:
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ErrataError("\n".join(map(str, errors)))


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


@contextmanager
def _threads(count: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
