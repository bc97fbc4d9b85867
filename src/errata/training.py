"""What a method learns before it can edit: one loop for every method that is `Trainable`.

Adam on the tensors of the method, over edits in an order that seed and step alone decide; validated on edits set
aside; the best tensors become the artifact. Stopped at any point, the same call goes on and ends with the same bits.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from errata.artifacts.store import Artifacts, Learned, Need, read_tensors, write_tensors
from errata.editing import choose_editor, hyperparameters
from errata.editors.base import Editor, Trainable
from errata.errors import BadInput, Diverged
from errata.keyvalue.adam import adam
from errata.model.editable import EditableModel
from errata.model.tokens import encode_target
from errata.types import EditCase, Progress

AT_ONCE = 32
"""Edits whose losses are computed together in validation."""
VALIDATED = 100
"""Edits set aside for validation, at most; one in ten of fewer."""
SAVE_EVERY = 60.0
"""Seconds between checkpoints."""


def train(
    model: EditableModel,
    cases: Sequence[EditCase],
    method: str | Editor = "mend",
    *,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    artifacts: Artifacts | None = None,
    source: str = "",
    progress: Progress | None = None,
) -> Learned:
    """Train a method for a model on edits, and keep the result in the cache folder; at once if it is there already.

    cases: none that the method will be measured on: requests, paraphrases and neighbours are all learned from.
    options: hyperparameters over the model's preset. source: of the cases, for the provenance.
    BadInput for a method that learns nothing, an edited model, too few edits, or a training that another process
    has in hand; Diverged if a loss is not finite.
    """
    editor = _trainable(choose_editor(method, model, options) if isinstance(method, str) else method)
    store = artifacts or Artifacts()
    if not store.is_unedited(model):
        raise BadInput(f"{model.name} is edited; {editor.name} is trained on the unedited model. Load it anew.")
    fitting = [case for case in cases if _fits(model, case)]
    aside = min(VALIDATED, -(-len(fitting) // 10))
    if len(fitting) - aside < 1:
        raise BadInput(f"{editor.name} is trained on two edits at least, of which one is for validation.")
    (need,) = editor.needs(model)
    job = _Job(editor, model, fitting[:-aside], fitting[-aside:], seed, store, need)
    with _alone(job.checkpoint.with_suffix(".lock"), editor):
        if (found := job.finished()) is not None:
            return found
        return job.finish(job.run(job.resumed(progress), progress), source)


def _trainable(editor: Editor) -> Trainable:
    if isinstance(editor, Trainable):
        return editor
    raise BadInput(f"{editor.name} learns nothing beforehand; it can edit as it is: errata edit --method {editor.name}")


def _fits(model: EditableModel, case: EditCase) -> bool:
    """Whether the model can read the request and its paraphrases with the target."""
    target = case.request.target_new
    longest = max(len(encode_target(model.tokenizer, prompt, target)[0]) for prompt in case.phrasings)
    return longest <= model.context


@contextmanager
def _alone(path: Path, editor: Editor) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=0):
            yield
    except Timeout:
        raise BadInput(f"another process trains {editor.name} in this way; wait for it: {path}") from None


@dataclass(frozen=True)
class _State:
    """After `step` steps: all tensors, Adam's moments of those that are learned, and the best tensors so far.

    history: the mean of each loss over the validation edits, with its step, in order.
    """

    step: int
    tensors: Mapping[str, Tensor]
    first: Mapping[str, Tensor]
    second: Mapping[str, Tensor]
    best: Mapping[str, Tensor]
    history: tuple[dict[str, float], ...] = ()

    @property
    def chosen(self) -> dict[str, float]:
        """The validation of the best tensors."""
        return min(self.history, key=lambda row: row["loss"])


@dataclass(frozen=True)
class _Job:
    editor: Trainable
    model: EditableModel
    learned: Sequence[EditCase]
    aside: Sequence[EditCase]
    seed: int
    store: Artifacts
    need: Need
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        """The digest of all that decides the result."""
        texts = [asdict(replace(case, source="")) for case in (*self.learned, *self.aside)]
        where = self.store.path(self.model, self.need).name
        decisive = [
            where,
            hyperparameters(self.editor),
            self.seed,
            texts,
            str(self.model.device),
            *_versions().values(),
        ]
        object.__setattr__(self, "digest", sha256(json.dumps(decisive).encode()).hexdigest())

    @property
    def checkpoint(self) -> Path:
        return self.store.cache / "training" / f"{self.editor.name}-{self.digest[:40]}.safetensors"

    def finished(self) -> Learned | None:
        """What this very training gave before."""
        if self.store.missing(self.model, [self.need]):
            return None
        found = self.store.learned(self.model, self.need)
        return found if found.provenance.get("training") == self.digest else None

    def resumed(self, progress: Progress | None) -> _State:
        """Where the training was stopped, or its beginning."""
        if self.checkpoint.exists():
            return _read(self.checkpoint, self.model.device)
        tensors = self.editor.begin(self.model, self.learned, self.seed, progress)
        zeros = {name: torch.zeros_like(t) for name, t in tensors.items() if self.editor.rate(name)}
        return self.validated(_State(0, tensors, zeros, zeros, tensors), progress)

    def run(self, state: _State, progress: Progress | None) -> _State:
        """Steps until the last or until patience ends; whatever happens, the step in hand is all that is lost."""
        plan, saved = self.editor.schedule, time.monotonic()
        try:
            while state.step < plan.steps and state.step - state.chosen["step"] < plan.patience:
                state = self.stepped(state)
                if state.step % plan.every == 0 or state.step == plan.steps:
                    state = self.validated(state, progress)
                if progress is not None:
                    progress(f"training {self.editor.name}", state.step, plan.steps)
                if time.monotonic() - saved > SAVE_EVERY:
                    _write(self.checkpoint, state)
                    saved = time.monotonic()
        except BaseException:
            _write(self.checkpoint, state)
            raise
        return state

    def stepped(self, state: _State) -> _State:
        """After one step of Adam on the next edits."""
        plan, learned = self.editor.schedule, dict(state.first)
        tensors = {name: t.detach().requires_grad_(name in learned) for name, t in state.tensors.items()}
        cases = _portion(self.learned, state.step, plan.cases, self.seed)
        loss = self.editor.losses(self.model, tensors, cases, Random(f"{self.seed}-{state.step}"))["loss"].mean()
        gradients = dict(zip(learned, torch.autograd.grad(loss, [tensors[name] for name in learned]), strict=True))
        norm = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
        if not torch.isfinite(norm):
            raise Diverged(
                f"training {self.editor.name} diverged at step {state.step}. Give a smaller learning rate, such as "
                f"--set lr={getattr(self.editor, 'lr', 1e-3) / 10:g}"
            )
        share = float((plan.clip / (norm + 1e-6)).clamp_max(1))
        moved, first, second = dict(state.tensors), {}, {}
        for name, gradient in gradients.items():
            moved[name], first[name], second[name] = adam(
                state.tensors[name].detach(),
                gradient * share,
                state.first[name],
                state.second[name],
                state.step + 1,
                self.editor.rate(name),
            )
        return replace(state, step=state.step + 1, tensors=moved, first=first, second=second)

    @torch.no_grad()
    def validated(self, state: _State, progress: Progress | None) -> _State:
        """With the mean losses over the edits set aside; the best tensors are those of the lowest loss."""
        rng, rows = Random(f"{self.seed}-validation"), []
        for start in range(0, len(self.aside), AT_ONCE):
            part = self.aside[start : start + AT_ONCE]
            rows.append(self.editor.losses(self.model, state.tensors, part, rng))
        means = {name: float(torch.cat([row[name] for row in rows]).mean()) for name in rows[0]}
        best = not state.history or means["loss"] < state.chosen["loss"]
        history = (*state.history, {"step": state.step, **means})
        return replace(state, history=history, best=state.tensors if best else state.best)

    def finish(self, state: _State, source: str) -> Learned:
        """The best tensors with their provenance, in the cache folder."""
        provenance: dict[str, Any] = {
            "model": self.model.name,
            "fingerprint": self.model.fingerprint(),
            "method": self.editor.name,
            "options": hyperparameters(self.editor),
            "edits": source,
            "trained": len(self.learned),
            "validated": len(self.aside),
            "seed": self.seed,
            "steps": state.step,
            "validation": state.chosen,
            "history": list(state.history),
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "training": self.digest,
            **_versions(),
        }
        as_read = json.loads(json.dumps(provenance))
        result = Learned({name: t.detach().cpu() for name, t in state.best.items()}, as_read)
        self.store.put(self.model, self.need, result)
        self.checkpoint.unlink(missing_ok=True)
        return result


def _portion(cases: Sequence[EditCase], step: int, size: int, seed: int) -> list[EditCase]:
    """The edits of a step: each epoch has an order of its own, and all edits in it."""
    n = len(cases)
    places = range(step * size, (step + 1) * size)
    orders = {epoch: Random(f"{seed}-epoch-{epoch}").sample(range(n), n) for epoch in {p // n for p in places}}
    return [cases[orders[place // n][place % n]] for place in places]


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("errata", "torch", "transformers")}


def _write(path: Path, state: _State) -> None:
    groups = {name: getattr(state, name) for name in ("tensors", "first", "second", "best")}
    tensors = {f"{group}/{name}": t.detach().clone() for group, held in groups.items() for name, t in held.items()}
    write_tensors(path, tensors, {"step": str(state.step), "history": json.dumps(state.history)})


def _read(path: Path, device: torch.device) -> _State:
    try:
        tensors, metadata = read_tensors(path)
        groups: dict[str, dict[str, Tensor]] = {"tensors": {}, "first": {}, "second": {}, "best": {}}
        for name, tensor in tensors.items():
            group, _, rest = name.partition("/")
            groups[group][rest] = tensor.to(device)
        return _State(step=int(metadata["step"]), history=tuple(json.loads(metadata["history"])), **groups)
    except Exception as error:
        raise BadInput(f"{path} is no checkpoint of a training ({error}). Delete it; training begins anew.") from error
