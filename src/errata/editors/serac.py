"""SERAC: a memory of edits, a classifier of their scope, and a counterfactual model that answers in it.

Paper: Mitchell, Lin, Bosselut, Manning, Finn, "Memory-Based Model Editing at Scale", ICML 2022 (arXiv 2206.06520),
section 3. The model itself stays as it is; an edit is an entry of the memory of `errata.update.scope`, which has the
rule of routing and its departures. Trained on edits: the classifier by binary cross entropy, with each edit's own
phrasings in scope and, out of it, its neighbours and everything said of the other edits of the batch; the
counterfactual model by -log p(target. | edit, phrasing), full stop included, without which it learns to repeat the
target and forgets to end. The two share no tensor, so each has a rate of its own.
Departures: the counterfactual model begins from a small model of the same tokenizer and is trained in float32, in
one file with the classifier; it learns nothing of prompts out of scope, which the classifier keeps from it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.func import functional_call

from errata.artifacts.store import Artifacts, Need
from errata.editors.base import EditResult, Progress, Schedule, State
from errata.errors import BadInput
from errata.gradient.examples import Example, autoregressive, labelled, nll
from errata.model import hooks
from errata.model.editable import EditableModel
from errata.model.loading import load, weights_digest
from errata.model.portable import PARAMETER, disassembled, skeleton, values
from errata.model.tokens import Tokens, encode, own_words, subject_index
from errata.types import EditCase, EditRequest
from errata.update.scope import IN_SCOPE, Scope, Trained, embedded, squared_distances
from errata.update.texts import ended, pooled, preceded, sentence

CLASSIFIER = ("projection", "scale")
LEAST = 1e-6
"""Squared distance below which one embedding is not told from another."""


@dataclass(frozen=True)
class Serac:
    """Hyperparameters of SERAC; all but the first three are those of its training.

    counterfactual: name or folder of the small model that learns to answer in scope, of the same tokenizer. layer:
    whose stream, averaged over tokens, stands for a text. width: of the embeddings. radius: of the sphere that they
    lie on, at first. steps, cases_per_step, clip, validate_every, patience: see `Schedule`. lr: of the counterfactual
    model. classifier_lr: of the classifier.
    """

    name: ClassVar[str] = "serac"
    paper: ClassVar[str] = "Mitchell et al. 2022, arXiv 2206.06520"
    batch: ClassVar[bool] = True
    family: ClassVar[str] = "memory"
    beforehand: ClassVar[str] = "training"
    writes: ClassVar[str] = "an entry of a memory that another model answers from"
    mergeable: ClassVar[bool] = False

    counterfactual: str
    layer: int
    width: int = 64
    radius: float = 2.0
    steps: int = 10_000
    cases_per_step: int = 10
    lr: float = 1e-5
    classifier_lr: float = 1e-3
    clip: float = 100.0
    validate_every: int = 100
    patience: int = 2000

    def __post_init__(self) -> None:
        if self.width < 1 or min(self.radius, self.lr, self.classifier_lr) <= 0:
            raise BadInput(
                f"serac: width {self.width}, radius {self.radius}, lr {self.lr} and classifier_lr "
                f"{self.classifier_lr} must be positive."
            )
        _ = self.schedule

    @property
    def schedule(self) -> Schedule:
        """How it is trained."""
        return Schedule(self.steps, self.cases_per_step, self.clip, self.validate_every, self.patience)

    def needs(self, model: EditableModel) -> tuple[Need, ...]:
        """Classifier and counterfactual model, trained from this small model as its folder has it."""
        shape = (("counterfactual", self.counterfactual), ("layer", self.layer), ("width", self.width))
        return (Need(self.name, shape=shape, origin=weights_digest(self.counterfactual)),)

    def edit(
        self,
        model: EditableModel,
        requests: Sequence[EditRequest],
        state: State,
        artifacts: Artifacts,
        progress: Progress | None = None,
    ) -> EditResult:
        """One entry for each request."""
        if not requests:
            raise BadInput("serac got no request; give at least one.")
        (need,) = self.needs(model)
        learned = artifacts.learned(model, need)
        texts = pooled(model, _rows(model, [request.prompt for request in requests]), self.layer)
        edits = tuple((own_words(request.prompt), request.target_new) for request in requests)
        update = Scope(self.layer, embedded(learned.tensors, texts), edits, Trained(learned.digest, learned.tensors))
        return EditResult(update, state, tuple(_details(model, request) for request in requests))

    # Training

    def begin(
        self, model: EditableModel, cases: Sequence[EditCase], seed: int, progress: Progress | None = None
    ) -> dict[str, Tensor]:
        """A random projection of the model's texts, and the counterfactual model as it comes.

        BadInput if that has another tokenizer.
        """
        small = load(self.counterfactual, device="cpu", dtype="float32")
        if small.tokenizer.get_vocab() != model.tokenizer.get_vocab():
            raise BadInput(
                f"the counterfactual model {self.counterfactual} has another tokenizer than {model.name}. Name a small "
                f"model of the same family, as gpt2 is for gpt2-xl: --set counterfactual=NAME_OR_FOLDER"
            )
        texts = pooled(model, _rows(model, [case.request.prompt for case in cases]), self.layer).float()
        generator = torch.Generator().manual_seed(seed)
        projection = torch.randn(self.width, texts.shape[1], generator=generator) / texts.shape[1] ** 0.5
        own = {
            "center": texts.mean(0),
            "deviation": texts.std(0, correction=0).clamp_min(1e-6),
            "projection": projection,
            "scale": torch.tensor(self.radius),
        }
        return {name: tensor.to(model.device) for name, tensor in {**own, **disassembled(small.model)}.items()}

    def rate(self, name: str) -> float:
        """Of the classifier or of the counterfactual model; what texts are measured by is fixed."""
        if name.startswith(PARAMETER):
            return self.lr
        return self.classifier_lr if name in CLASSIFIER else 0.0

    def losses(
        self, model: EditableModel, tensors: Mapping[str, Tensor], cases: Sequence[EditCase], rng: Random
    ) -> dict[str, Tensor]:
        """`scope`, `answer`, their sum, and whether prompts were routed and targets answered rightly.

        Each case is an edit, asked for by one of its phrasings and with one of its neighbours.
        """
        asked = [rng.choice(case.phrasings) for case in cases]
        scope, routed = self._scope(model, tensors, cases, asked, _outside(cases, rng))
        answer, answered = _answers(model, tensors, cases, asked)
        return {"loss": scope + answer, "scope": scope, "answer": answer, "routed": routed, "answered": answered}

    def _scope(
        self,
        model: EditableModel,
        tensors: Mapping[str, Tensor],
        cases: Sequence[EditCase],
        asked: Sequence[str],
        outside: Sequence[str],
    ) -> tuple[Tensor, Tensor]:
        """Cross entropy of `in scope` and whether the prompts about an edit are told apart, (n,) each.

        For each edit the phrasing, the neighbour, and the mean over what was asked of the other edits.
        """
        n, queries = len(cases), [*asked, *outside]
        prompts = [case.request.prompt for case in cases]
        texts = embedded(tensors, pooled(model, _rows(model, [*queries, *prompts]), self.layer))
        distances = squared_distances(texts[: 2 * n], texts[2 * n :])
        apart = torch.tensor([[query not in case.phrasings for case in cases] for query in queries]).to(distances)
        own = torch.eye(n).to(distances)
        missed = -torch.log(-torch.expm1(-distances.clamp_min(LEAST))) * apart
        others = apart * (1 - own).repeat(2, 1)
        far = (missed * others).sum(0) / others.sum(0).clamp_min(1)
        inside, beside = distances[:n].diagonal(), distances[n:].diagonal()
        right = ((-inside).exp() > IN_SCOPE) & (((-beside).exp() <= IN_SCOPE) | (apart[n:].diagonal() == 0))
        return inside + missed[n:].diagonal() + far, right.to(distances)


def _details(model: EditableModel, request: EditRequest) -> dict[str, Any]:
    lookup = subject_index(model.tokenizer, request.prompt, request.subject)
    return {"id": request.id, "loss": None, "steps": 0, "lookup": lookup, "contexts": []}


def _rows(model: EditableModel, texts: Sequence[str]) -> list[Tokens]:
    return [tuple(encode(model.tokenizer, text)) for text in texts]


def _outside(cases: Sequence[EditCase], rng: Random) -> list[str]:
    """For each case a prompt out of its scope: that of a neighbour, or of the next case where there is none."""
    following = [*cases[1:], *cases[:1]]
    return [
        rng.choice(case.neighbours).prompt if case.neighbours else after.request.prompt
        for case, after in zip(cases, following, strict=True)
    ]


def _answers(
    model: EditableModel, tensors: Mapping[str, Tensor], cases: Sequence[EditCase], asked: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """-log p of the counterfactual model's targets, and whether each of their tokens is the most probable, (n,)."""
    rows = labelled(model, [_behind(model, case.request, prompt) for case, prompt in zip(cases, asked, strict=True)])
    batch = rows.batch
    given = {"input_ids": batch.ids, "attention_mask": batch.mask, "position_ids": batch.positions, "use_cache": False}
    logits = functional_call(skeleton(tensors), values(tensors), kwargs=given).logits
    here = torch.arange(len(cases), device=logits.device)[:, None]
    chosen = hooks.widened(logits[here, rows.places])
    right = (chosen.argmax(-1) == rows.targets) | (rows.shares == 0)
    return nll(chosen, rows), right.all(1).to(chosen)


def _behind(model: EditableModel, request: EditRequest, prompt: str) -> Example:
    """The target and its full stop after a prompt with the edit in front of it, as it will be answered."""
    bare = autoregressive(model, prompt, ended(request.target_new))
    ids = preceded(model.tokenizer, sentence(request.prompt, request.target_new), bare.ids)
    moved = len(ids) - len(bare.ids)
    return Example(ids, bare.targets, tuple(place + moved for place in bare.places))
