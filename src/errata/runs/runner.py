"""A run from its config to its last score: edit, write, measure, and do only what is missing."""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from errata.artifacts.store import Artifacts
from errata.editing import filtered
from errata.editors.base import EditResult, State
from errata.errors import BadInput, Diverged, ErrataError, Interrupted
from errata.runs.beforehand import provide, record_artifacts
from errata.runs.checkpoint import read_state, read_update, write_state, write_update
from errata.runs.config import RunConfig, place
from errata.runs.costs import peak_memory
from errata.runs.layout import RunDir, WriteHook, is_finished, mark_finished, write_json
from errata.runs.ledger import Entry, Ledger
from errata.runs.lock import locked
from errata.runs.outlook import Outlook, whole
from errata.runs.scoring import Scorer
from errata.runs.selection import read_known
from errata.runs.setup import Setup, hyperparameters, prepare, record
from errata.types import EditRequest, Progress
from errata.update.session import Applied, EditSession

BUILD, EDIT = "build", "edit"
DIVERGED = (Diverged, torch.linalg.LinAlgError)  # type: ignore[attr-defined]
"""What a method raises on a model whose weights have become useless."""


def start(
    config: RunConfig | Path,
    root: Path | str = "runs",
    progress: Progress | None = None,
    *,
    on_write: WriteHook | None = None,
) -> Path:
    """Bring a run to its end, from wherever an earlier call was stopped, and return its folder.

    config: a config or its file, whose run is a folder in `root`; or the folder of a run, wherever it is.
    progress: called with (what, done, of how many): for the run as a whole in seconds, and for the work in hand.
    on_write: called around every write, for fault injection.
    BadInput, MissingArtifact, UnsupportedModel: the config asks for what cannot be. RunInUse: another process
    is at it. Interrupted: Ctrl-C. A model that becomes non-finite by editing is no error but a result.
    """
    asked, run = place(config, root)
    try:
        with locked(run):
            run.remove_drafts()
            setup = prepare(asked, read_known(run), progress)
            record(setup, run, on_write)
            _Run(setup, run, progress, on_write).work()
    except KeyboardInterrupt:
        then = f"go on with: errata run {run.path}" if run.config.exists() else "repeat the command to begin again."
        raise Interrupted(f"stopped; finished work is kept; {then}") from None
    return run.path


class _Run:
    """A run while it is worked on.

    `_recorded`: batches of the ledger that the weights do not hold yet. `_done`: those that were replayed or
    tried since. `_carrier`: the last of them that was applied, whose state the next one takes up. `_lost`: recorded
    batches that are computed anew, since a file of theirs is gone.
    """

    def __init__(self, setup: Setup, run: RunDir, progress: Progress | None, hook: WriteHook | None) -> None:
        self._setup, self._run, self._hook = setup, run, hook
        self._artifacts = Artifacts()
        self._artifacts.bind(setup.model)
        self._session = EditSession(setup.model)
        self._ledger = Ledger(run.ledger, hook)
        self._recorded = deque(self._ledger.batches)
        self._done: list[Entry] = []
        self._carrier: Entry | None = None
        self._lost = self._find_lost()
        self._scorer = Scorer(setup, run, self._session, hook)
        self._outlook = Outlook(whole(run), self._expected(), progress)

    @property
    def _single(self) -> bool:
        """Whether each batch is made on the unedited weights."""
        return self._setup.config.setting == "single"

    @property
    def _tried(self) -> int:
        """Requests that were tried, applied or not."""
        return self._done[-1].edits if self._done else 0

    def work(self) -> None:
        """Everything that is missing, in order."""
        self._build()
        self._note_skipped()
        for edits in self._setup.checkpoints:
            while self._tried < edits:
                self._advance(edits)
            newest = len(self._done[-1].requests) if self._done else 0
            self._scorer.measure(edits, newest, self._outlook)
            if self._single and self._session.applied:
                self._session.undo()
            if self._setup.config.stop_at_collapse and self._scorer.has_collapsed(edits):
                break
        self._scorer.finish()
        self._note_end()
        self._outlook.finish()

    def _note_end(self) -> None:
        """That the run is finished; and what it took, as far as this process did it."""
        steps = self._outlook.spent
        if not self._run.costs.exists():
            write_json(self._run.costs, {"steps": steps, "memory": peak_memory(self._setup.model.device)}, self._hook)
        if not is_finished(self._run):
            mark_finished(self._run, self._hook)

    def _expected(self) -> dict[str, tuple[int, float]]:
        """Kind of step -> (how many, seconds for one until the first is measured)."""
        checkpoints = self._setup.checkpoints
        lost = sum(len(entry.requests) for entry in self._recorded if entry.batch in self._lost)
        replayed = self._recorded[-1].edits - lost if self._recorded else 0
        scores = {kind: (len(checkpoints), guess) for kind, guess in self._scorer.kinds().items()}
        return {BUILD: (1, 20.0), EDIT: (max(0, checkpoints[-1] - replayed), 1.0), **scores}

    def _build(self) -> None:
        with self._outlook.step(BUILD) as inside:
            provide(self._setup, self._artifacts, inside)
            record_artifacts(self._setup, self._artifacts, self._run, self._hook)

    def _note_skipped(self) -> None:
        noted = {entry.requests for entry in self._ledger.entries if not entry.batch}
        for request, reason in self._setup.skipped:
            if (request,) not in noted:
                entry = Entry(0, 0, "skipped", (request,), self._setup.config.method, reason)
                self._ledger.append(entry)

    def _advance(self, checkpoint: int) -> None:
        """The next batch: as recorded, or anew."""
        if self._recorded:
            entry = self._recorded.popleft()
            self._replay(entry)
        else:
            entry = self._batch(checkpoint)
        self._done.append(entry)
        if entry.status == "applied":
            self._forget(self._carrier)
            self._carrier = entry

    def _forget(self, entry: Entry | None) -> None:
        """Delete a state that a newer one replaces, but for those of checkpoints: some weigh gigabytes."""
        if entry is not None and entry.edits not in self._setup.checkpoints:
            self._run.state(entry.batch).unlink(missing_ok=True)

    def _find_lost(self) -> set[int]:
        """Applied batches without their update, or without a state that is kept or that a lost one takes up."""
        lost: set[int] = set()
        taken_up = True
        for entry in reversed([entry for entry in self._recorded if entry.status == "applied"]):
            kept = entry.carries and (taken_up or entry.edits in self._setup.checkpoints)
            files = [self._run.update(entry.batch), *([self._run.state(entry.batch)] if kept else [])]
            taken_up = not all(file.exists() for file in files)
            if taken_up:
                lost.add(entry.batch)
        return lost

    def _replay(self, entry: Entry) -> None:
        """Bring the weights to where they were after a recorded batch; a single one that is measured is left out."""
        lost, requests = entry.batch in self._lost, self._requests(entry.edits, len(entry.requests))
        if self._single and not lost and self._scorer.is_complete(entry.edits, len(requests)):
            return
        if lost:
            with self._outlook.step(EDIT, len(requests)) as inside:
                self._attempt(entry.batch, entry.edits, requests, inside)
        elif entry.status == "applied":
            self._apply(entry.batch, requests)
        last = self._single or not self._recorded
        if (last or lost) and entry.fingerprint != self._session.fingerprint():
            raise ErrataError(
                f"{self._run.path}: after replaying batch {entry.batch} the weights are not those of the ledger. Go on "
                "in the environment that config.yaml names, or move the folder away and start again."
            )

    def _batch(self, checkpoint: int) -> Entry:
        """Edit, write, apply, and record what came of it."""
        edits = min(self._tried + self._setup.config.batch, checkpoint)
        requests = self._requests(edits, edits - self._tried)
        began = time.monotonic()
        with self._outlook.step(EDIT, len(requests)) as inside:
            entry = self._attempt(len(self._done) + 1, edits, requests, inside)
        entry = replace(entry, fingerprint=self._session.fingerprint(), seconds=round(time.monotonic() - began, 3))
        self._ledger.append(entry)
        return entry

    def _attempt(self, batch: int, edits: int, requests: Sequence[EditRequest], progress: Progress) -> Entry:
        names = tuple(request.id for request in requests)
        entry = Entry(batch, edits, "applied", names, self._setup.config.method)
        state = self._state()
        try:
            result = self._edit(batch, requests, state, progress)
            result = replace(result, update=filtered(self._session, result.update, self._setup.filter))
        except BadInput as error:
            if self._carrier is None:  # a method that refuses the first batch would refuse them all
                raise
            return replace(entry, status="skipped", reason=str(error))
        except DIVERGED as error:
            return replace(entry, status="diverged", reason=str(error))
        entry = replace(entry, losses=tuple(d.get("loss") for d in result.details), details=result.details)
        carried = {} if self._single else result.state
        # The update goes to the disk first and is applied as read again: so does every repetition of the run.
        write_state(self._run.state(batch), carried, self._hook)
        write_update(self._run.update(batch), result.update, self._hook)
        try:
            applied = self._apply(batch, requests)
        except Diverged as error:
            self._run.update(batch).unlink()
            self._run.state(batch).unlink(missing_ok=True)
            return replace(entry, status="diverged", reason=str(error), norms=result.update.norms())
        sizes = {name: getattr(applied, name) for name in ("norms", "relative_norms", "entries", "bytes")}
        return replace(entry, **sizes, carries=bool(carried))

    def _state(self) -> State:
        """What the method carries on from the last batch that was applied."""
        if self._carrier is None or not self._carrier.carries:
            return {}
        return read_state(self._run.state(self._carrier.batch))

    def _edit(self, batch: int, requests: Sequence[EditRequest], state: State, progress: Progress) -> EditResult:
        """What the method computes, with a random state that depends on seed and batch alone."""
        device = self._setup.model.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed((self._setup.config.seed << 32) + batch)
            return self._setup.editor.edit(self._setup.model, requests, state, self._artifacts, progress)

    def _apply(self, batch: int, requests: Sequence[EditRequest]) -> Applied:
        return self._session.apply(
            read_update(self._run.update(batch)),
            requests,
            self._setup.config.method,
            hyperparameters(self._setup.editor),
            self._setup.config.filter,
        )

    def _requests(self, edits: int, count: int) -> list[EditRequest]:
        """The last `count` requests of the first `edits`."""
        return self._setup.requests[edits - count : edits]
