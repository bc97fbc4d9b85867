"""KN: the value vectors of the neurons that an answer rests on are moved from the old answer to the new one.

Paper: Dai, Dong, Hao, Sui, Chang, Wei, "Knowledge Neurons in Pretrained Transformers", ACL 2022 (arXiv 2104.08696):
attribution (section 3.2), refinement over several prompts (3.3), and the edit w <- w - l1 E[old] + l2 E[new] of the
selected columns w of the down projection (5.1), E the embeddings as the first layer receives them. Activations are
those that the down projection receives, steps are 1/m to 1. Several prompts are the request in sampled contexts;
without contexts nothing is refined. The old answer is `target_true`, else what the model says by itself.

Two departures, neither of which changes anything for the paper's model and answers. The neurons of BERT fire
positively or next to not at all, those of a gated MLP fire both ways: where a selected neuron fires negatively its
value vector is moved the other way, for else the edit works against itself. And answers have one token in the paper:
one of several is edited token by token, each behind those before it, save where the model says that token already.
Nothing bounds the change or asks what else the neurons are for.

The public code for decoders, which papers on collapse ran, departs otherwise, and `public_code` brings that back: it
takes the activations before the nonlinearity (of the gate, where there is one) and steps from 0 to 1 inclusive (so
that its single step on Llama stands at 0); answers are tokenised by themselves (so that on Llama BOS is the first
token to be explained), each token behind the model's own guesses for those before it, and attributions are averaged
over them; what is subtracted is what the model says, whatever the old answer was; and the sums of all tokens'
embeddings are added in full to every selected neuron, whichever way it fires.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from errata.artifacts.store import Artifacts, Need
from errata.editors.base import EditResult, Progress, State
from errata.errors import BadInput, Diverged, UnsupportedModel
from errata.gradient.attribution import attributions, attributions_before
from errata.keyvalue.contexts import contexts, even, groups
from errata.model import hooks
from errata.model.editable import EditableModel
from errata.model.scoring import score_targets
from errata.model.tokens import encode, encode_apart, encode_target, pad, subject_index
from errata.types import EditRequest
from errata.update.delta import LowRank, WeightDelta, added

Answer = tuple[list[int], int]
"""Ids of a prompt with its answer, and how many are the prompt's."""


@dataclass(frozen=True)
class Change:
    """What is to follow a text. rows: the text, bare and in contexts, with the tokens whose neurons are sought.

    old, new: ids of the tokens to be forgotten there, and of those to be said.
    """

    rows: list[Answer]
    old: list[int]
    new: list[int]


@dataclass(frozen=True)
class KN:
    """Hyperparameters of KN; the defaults are the paper's, for BERT.

    steps: of the integral, m. threshold: share of the largest attribution that a neuron of a prompt must exceed.
    share: of the prompts in which a neuron must do so. contexts: (length, count) of sampled prefixes that make the
    prompts beside the bare one. old_weight, new_weight: l1 and l2. public_code: depart from the paper, see above.
    seed: of the prefixes.
    """

    name: ClassVar[str] = "kn"
    paper: ClassVar[str] = "Dai et al. 2022, arXiv 2104.08696"
    batch: ClassVar[bool] = False
    family: ClassVar[str] = "locate-then-edit"
    beforehand: ClassVar[str] = ""
    writes: ClassVar[str] = "columns of some neurons, rank of the answer's tokens"
    mergeable: ClassVar[bool] = True
    released: ClassVar[str] = (
        "one prompt alone, so no refinement; neurons before their nonlinearity, scaled from 0, on Llama and Mistral by "
        "0 alone, moved the same way however they fire; the model's own guesses in place of the old answer"
    )

    steps: int = 20
    threshold: float = 0.2
    share: float = 0.7
    contexts: Sequence[Sequence[int]] = ((5, 4), (10, 4))
    old_weight: float = 1.0
    new_weight: float = 8.0
    public_code: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "contexts", groups(self.contexts))
        if self.steps < 1 or not 0 <= self.threshold < 1 or not 0 <= self.share < 1:
            raise BadInput(
                f"kn: steps {self.steps} must be positive, threshold {self.threshold} and share {self.share} "
                "at least 0 and less than 1."
            )

    def needs(self, model: EditableModel) -> tuple[Need, ...]:
        """Nothing."""
        return ()

    def edit(
        self,
        model: EditableModel,
        requests: Sequence[EditRequest],
        state: State,
        artifacts: Artifacts,
        progress: Progress | None = None,
    ) -> EditResult:
        """The update for one request, of rank at most its tokens; BadInput for more requests.

        It is empty where no neuron is selected, or where the model says all of it already.
        """
        if len(requests) != 1:
            raise BadInput(f"kn writes one edit at a time, not {len(requests)}; use batch 1.")
        request, sizes = requests[0], groups(self.contexts)
        texts = contexts(model, sizes, even(sizes), state, self.seed)
        changes = self.changes(model, request, texts.texts(request.prompt))
        update = added(self.moved(model, change, progress) for change in changes)
        with model.overlay(update):
            (score,) = score_targets(model, [(request.prompt, request.target_new)])
        details = {
            "id": request.id,
            "loss": -score.mean,
            "steps": self.steps,
            "lookup": subject_index(model.tokenizer, request.prompt, request.subject),
            "contexts": list(texts.prefixes),
            "neurons": _neurons(model, update),
        }
        return EditResult(update, {**state, **texts.state()}, (details,))

    def changes(self, model: EditableModel, request: EditRequest, texts: Sequence[str]) -> list[Change]:
        """One for each token of the new answer that the model does not say by itself; the public code's is one."""
        new, start = self.encoded(model, request.prompt, request.target_new)
        answers = self.old_answers(model, request, texts, len(new) - start)
        if self.public_code:
            return [Change(answers, _continued(model, new[:start], len(new) - start)[start:], new[start:])]
        ids, given = answers[0]
        changes = []
        for place in range(start, len(new)):
            own = _continued(model, new[:place], 1)[-1]
            old = ids[given] if place == start else own
            rows = [([*row[:n], *new[start:place], old], n + place - start) for row, n in answers]
            if own != new[place]:
                changes.append(Change(rows, [old], [new[place]]))
        return changes

    def moved(self, model: EditableModel, change: Change, progress: Progress | None = None) -> WeightDelta:
        """The value vectors of the selected neurons, moved the way that each fires behind the bare text."""
        vector = self.new_weight * _embedded(model, change.new) - self.old_weight * _embedded(model, change.old)
        ways = self.select(self.attribute(model, change.rows, progress)).to(vector)
        if not self.public_code:
            ids, end = change.rows[0]
            ways = ways * _fired(model, ids[:end]).sign()
        layers = [layer for layer in range(model.n_layers) if ways[layer].any()]
        return WeightDelta({model.site(layer): LowRank(vector[:, None], ways[layer][None]) for layer in layers})

    def attribute(self, model: EditableModel, answers: Sequence[Answer], progress: Progress | None = None) -> Tensor:
        """Attributions of all neurons to each prompt's answer, the mean over its tokens: (prompts, layers, d_in)."""
        seen = [_continued(model, ids[:n], len(ids) - n - 1) if self.public_code else ids for ids, n in answers]
        attributed = attributions_before if self.public_code else attributions
        rows = [
            (prompt, seen[prompt][:end], ids[end])
            for prompt, (ids, n) in enumerate(answers)
            for end in range(n, len(ids))
        ]
        tokens = torch.tensor([token for _, _, token in rows])
        owners = torch.tensor([prompt for prompt, _, _ in rows], device=model.device)
        layers = []
        for layer in range(model.n_layers):
            found = attributed(model, [text for _, text, _ in rows], tokens, layer, self.steps)
            total = found.new_zeros(len(answers), found.shape[1]).index_add_(0, owners, found)
            layers.append(total / owners.bincount()[:, None])
            if progress is not None:
                progress("layers", layer + 1, model.n_layers)
        return torch.stack(layers, 1)

    def select(self, scores: Tensor) -> Tensor:
        """Which neurons (layers, d_in) exceed the threshold in enough prompts. Diverged if a score is not finite."""
        if not torch.isfinite(scores).all():
            raise Diverged("attributions of this edit are not finite: the model did not survive its earlier edits.")
        coarse = scores > self.threshold * scores.amax((1, 2), keepdim=True)
        return coarse.double().mean(0) > self.share

    def encoded(self, model: EditableModel, prompt: str, answer: str) -> Answer:
        """A prompt with an answer behind it."""
        return (encode_apart if self.public_code else encode_target)(model.tokenizer, prompt, answer)

    def old_answers(
        self, model: EditableModel, request: EditRequest, texts: Sequence[str], tokens: int
    ) -> list[Answer]:
        """What is to be forgotten, behind each text: `target_true`, else as many `tokens` as the model says itself."""
        if request.target_true is not None:
            return [self.encoded(model, text, request.target_true) for text in texts]
        own = _continued(model, encode(model.tokenizer, request.prompt), tokens)[-tokens:]
        prompts = [encode(model.tokenizer, text) for text in texts]
        return [([*prompt, *own], len(prompt)) for prompt in prompts]


def _continued(model: EditableModel, ids: Sequence[int], tokens: int) -> list[int]:
    """The ids with so many of the model's own most probable tokens behind them."""
    row = list(ids)
    for _ in range(tokens):
        row.append(int(model.logits(pad([row], model.pad_id))[0, -1].argmax()))
    return row


def _fired(model: EditableModel, ids: Sequence[int]) -> Tensor:
    """Activations of all neurons at the last of the tokens: (layers, d_in)."""
    batch, sites = pad([ids], model.pad_id), [model.site(layer) for layer in range(model.n_layers)]
    found = model.inputs_at(batch, sites, batch.lengths - 1)
    return torch.cat([found[site] for site in sites])


def _neurons(model: EditableModel, update: WeightDelta) -> dict[str, int]:
    """How many value vectors of each layer are moved."""
    counts = {
        model.layer_of(site): int(c.right.any(0).sum()) for site, c in update.sites.items() if isinstance(c, LowRank)
    }
    return {str(layer): counts[layer] for layer in sorted(counts)}


@torch.no_grad()
def _embedded(model: EditableModel, ids: Sequence[int]) -> Tensor:
    """Sum of the tokens' embeddings, scaled where the family scales them: (d_model,)."""
    embedding = model.model.get_submodule(model.arch.embedding)
    total = hooks.widened(embedding(torch.tensor(list(ids), device=model.device))).sum(0)
    width = len(model.weight(model.site(0)))
    if len(total) != width:
        raise UnsupportedModel(
            f"kn writes embeddings, of width {len(total)} in {model.name}, into value vectors of width {width}; "
            "use another method for this model."
        )
    return total
