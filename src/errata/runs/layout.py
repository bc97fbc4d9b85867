"""Where the files of a run are, and how one comes into being: whole or not at all. No torch here.

runs/memit-atlas-atlas-3fa2c1d0/
  config.yaml                   resolved: config, editor, fingerprints, versions
  known.json                    edits the model knew before, where `prefilter` leaves them out
  artifacts.json                provenance of what was built beforehand, if the method needs any
  ledger.jsonl                  one line for each batch
  updates/00001.safetensors     what batch 1 added to the weights; exists for applied batches
  state/00001.safetensors       what the method carries on from batch 1, if anything
  scores/00010/<table>.parquet  one row for each item after 10 edits; exists <=> complete
  scores/00010/health.json      {measure: value}
  costs.json                    seconds of each kind of step, and the most memory it took
  finished.json                 the files of a run that has come to its end
  lower/<pass>.safetensors      hidden states kept for later checkpoints (`lower_states`), until the run is done
  run.lock, owner.json          who works here now
"""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import quote, unquote

from errata.errors import BadInput, ErrataError

WriteHook = Callable[[Path], None]
"""Called with the file's path before it is written, when it is written but not in place, and when it is in
place; for a ledger line also when half of it is written. Tests of recovery kill the process there."""


@dataclass(frozen=True)
class RunDir:
    """The files of one run. path: the run's folder."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def known(self) -> Path:
        return self.path / "known.json"

    @property
    def artifacts(self) -> Path:
        return self.path / "artifacts.json"

    @property
    def ledger(self) -> Path:
        return self.path / "ledger.jsonl"

    @property
    def costs(self) -> Path:
        return self.path / "costs.json"

    @property
    def finished(self) -> Path:
        return self.path / "finished.json"

    @property
    def lock(self) -> Path:
        return self.path / "run.lock"

    @property
    def owner(self) -> Path:
        return self.path / "owner.json"

    @property
    def lower(self) -> Path:
        return self.path / "lower"

    def update(self, batch: int) -> Path:
        return self.path / "updates" / f"{batch:05d}.safetensors"

    def state(self, batch: int) -> Path:
        return self.path / "state" / f"{batch:05d}.safetensors"

    def table(self, edits: int, name: str) -> Path:
        """The rows of table `name` after `edits` edits; a name with a protocol, p1_mmlu:paper, is quoted as in URLs."""
        return self.path / "scores" / f"{edits:05d}" / f"{quote(name, safe='')}.parquet"

    def health(self, edits: int) -> Path:
        return self.path / "scores" / f"{edits:05d}" / "health.json"

    def checkpoints(self) -> list[int]:
        """Numbers of edits, ascending, after which at least one table is complete."""
        return sorted({int(file.parent.name) for file in self.path.glob("scores/*/*.parquet")})

    def tables(self, edits: int) -> dict[str, Path]:
        """Table name -> file, of the tables that are complete after `edits` edits."""
        return {unquote(file.stem): file for file in sorted(self.table(edits, "any").parent.glob("*.parquet"))}

    def remove_drafts(self) -> None:
        """Delete what a killed process left half-written."""
        for draft in self.path.rglob(".*.tmp"):
            draft.unlink(missing_ok=True)


def open_run(path: Path) -> RunDir:
    """The run in the folder `path`. BadInput if there is none."""
    run = RunDir(path)
    if not run.config.is_file():
        found = "it holds no config.yaml" if path.is_dir() else "there is no such folder"
        raise BadInput(f"{path} is not a run: {found}. Start one: errata run CONFIG.yaml")
    return run


def mark_finished(run: RunDir, hook: WriteHook | None = None) -> None:
    """Note that the run has come to its end, with the files it has then."""
    passing = {run.finished.name, run.costs.name, run.lock.name, run.owner.name}
    files = sorted(file.relative_to(run.path).as_posix() for file in run.path.rglob("*") if file.is_file())
    write_json(run.finished, {"files": [name for name in files if name not in passing]}, hook)


def is_finished(run: RunDir) -> bool:
    """Whether the run has come to its end and no file of it was removed since."""
    if not run.finished.exists():
        return False
    files = json.loads(run.finished.read_text(encoding="utf-8"))["files"]
    return all((run.path / name).exists() for name in files)


@contextmanager
def atomic(path: Path, hook: WriteHook | None = None) -> Iterator[Path]:
    """Yield a draft beside `path`; what the block writes there becomes `path` when the block ends well.

    Ctrl-C waits until the file is in place. ErrataError, and no file, if the folder cannot be written.
    """
    draft = path.with_name(f".{path.name}.tmp")
    with explained(path), held_interrupt():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _call(hook, path)
            yield draft
            sync(draft)
            _call(hook, path)
            draft.replace(path)
            sync(path.parent)
            _call(hook, path)
        finally:
            draft.unlink(missing_ok=True)


def write_json(path: Path, value: Any, hook: WriteHook | None = None) -> None:
    """Write `value` as readable JSON, whole or not at all."""
    with atomic(path, hook) as draft:
        draft.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def append_line(path: Path, line: str, hook: WriteHook | None = None) -> None:
    """Append `line` and make sure that it is on the disk; a killed process may leave a part of it."""
    with explained(path), held_interrupt(), path.open("ab") as file:
        _call(hook, path)
        content = f"{line}\n".encode()
        for part in (content[: len(content) // 2], content[len(content) // 2 :]):
            file.write(part)
            file.flush()
            _call(hook, path)
        os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Make sure that the file, or the folder's list of files, is on the disk."""
    if path.is_dir() and os.name == "nt":  # Windows cannot open folders, and needs no such step
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """An OSError while writing `path` becomes an ErrataError that names the folder and the next step."""
    try:
        yield
    except OSError as error:
        raise ErrataError(
            f"cannot write {path.name} in {path.parent}: {error.strerror or error}. Make room or give write access, "
            "then repeat the command: it goes on from the work already finished."
        ) from error


@contextmanager
def held_interrupt() -> Iterator[None]:
    """Ctrl-C during the block takes effect at its end. Only the main thread receives signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed: list[FrameType | None] = []
    before = signal.signal(signal.SIGINT, lambda _, frame: pressed.append(frame))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed and callable(before):
        before(signal.SIGINT, pressed[-1])


def _call(hook: WriteHook | None, path: Path) -> None:
    if hook is not None:
        hook(path)
