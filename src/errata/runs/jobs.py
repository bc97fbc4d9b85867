"""One run as a worker does it, whatever launched the worker: its log, its progress, what came of it. No torch here."""

import json
import os
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import chdir, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from errata.errors import ErrataError
from errata.runs.config import RunConfig, place
from errata.runs.layout import RunDir
from errata.runs.outlook import whole
from errata.types import Progress

PULSE = 0.5
"""Seconds between two reports of a worker, and between two looks at them."""


@dataclass(frozen=True)
class Needs:
    """What a run takes of a machine. memory: bytes, 0 if that is not known. gpus: how many, or a share of one."""

    threads: int = 1
    memory: int = 0
    gpus: float = 0.0


@dataclass(frozen=True)
class Job:
    """One run for a worker. config, root: as for `start`. folder: where their relative paths begin."""

    config: RunConfig | Path
    root: Path
    folder: Path
    needs: Needs = Needs()

    @cached_property
    def run(self) -> RunDir:
        """The run's folder."""
        return place(self.config, self.root)[1]

    @property
    def log(self) -> Path:
        """What a worker prints, one attempt after the other."""
        return self._beside(".log")

    def __call__(self) -> Exception | None:
        """The whole of a worker: what went wrong, None if nothing did. Prints go to the log, progress to a file."""
        with chdir(self.folder), _logged(self.log):
            sys.stdout.write(
                f"--- {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, process {os.getpid()} on {socket.gethostname()}\n"
            )
            error = self.work(self._reporter())
            sys.stdout.write(f"{error or 'finished'}\n")
        return error

    def work(self, progress: Progress | None) -> Exception | None:
        """Bring the run to its end in this process. Errors that Errata raises on purpose, and others with traceback."""
        from errata.runs.runner import start

        try:
            with _threads(self.needs.threads):
                start(self.config, self.root, progress)
        except (ErrataError, OSError) as error:
            return error
        except Exception:
            return RuntimeError(f"{self.run.path.name} failed:\n{traceback.format_exc()}")
        return None

    def progress(self) -> tuple[int, int] | None:
        """(seconds spent, seconds expected in all) as the worker reported last; None before it did."""
        with suppress(OSError, ValueError):
            done, total = json.loads(self._pulse.read_text("utf-8"))
            return int(done), int(total)
        return None

    def forget_progress(self) -> None:
        """So that a new attempt does not seem as far as the last one came."""
        self._pulse.unlink(missing_ok=True)

    @property
    def _pulse(self) -> Path:
        return self._beside(".progress")

    def _beside(self, suffix: str) -> Path:
        return self.run.path.parent / ".sweep" / f"{self.run.path.name}{suffix}"

    def _reporter(self) -> Progress:
        """Writes the progress of the whole run to its file, now and then."""
        said = -PULSE
        draft = self._pulse.with_suffix(f".{os.getpid()}.tmp")

        def report(what: str, done: int, total: int) -> None:
            nonlocal said
            if what == whole(self.run) and time.monotonic() - said >= PULSE:
                said = time.monotonic()
                with suppress(OSError):  # it only serves who looks on
                    draft.write_text(json.dumps([done, total]), "utf-8")
                    draft.replace(self._pulse)

        return report


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Everything this process prints, native code included, goes to the end of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = os.dup(1), os.dup(2)
    with path.open("ab") as file:
        _redirect(file.fileno(), file.fileno())
    try:
        yield
    finally:
        _redirect(*kept)
        for descriptor in kept:
            os.close(descriptor)


def _redirect(out: int, err: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(out, 1)
    os.dup2(err, 2)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
