"""GRACE: a codebook of keys and values at one linear map; no weight changes.

Paper: Hartvigsen, Sankaranarayanan, Palangi, Kim, Ghassemi, "Aging with GRACE: Lifelong Model Editing with
Discrete Key-Value Adaptors", NeurIPS 2023 (arXiv 2211.11031), algorithm 1; the rules of the radii are in
`errata.update.codebook`. Departures: the codebook sits at the down projection of a layer (the released
GPT-2 configurations take the up projection); it is asked at every token; answers are compared as texts, where the
released code compares the mean of their token ids; and the first radius is a share of the median distance
between keys of unrelated text of the model's own, since distances differ a thousandfold between models. The
released settings keep their absolute radius (`contexts: []`), their random start (`cold`), their look-up of a
prompt's last token alone (`last_only`) and, as the papers on collapse ran them, write one request in 128 (`chunk`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar

import torch
from torch import Tensor

from errata.artifacts.store import Artifacts, Need
from errata.editors.base import EditResult, Progress, State
from errata.errors import BadInput
from errata.keyvalue.contexts import Contexts, contexts, even, groups
from errata.keyvalue.keys import Layout, Row
from errata.keyvalue.replay import Replay, record
from errata.keyvalue.targets import Objective, at_down, interleave, optimise
from errata.model.editable import EditableModel
from errata.model.tokens import encode_target, pad
from errata.types import EditRequest
from errata.update.codebook import Codebook

SCALE, SEEN = "scale", "seen"


@dataclass(frozen=True)
class Grace:
    """Hyperparameters of GRACE.

    layer: whose down projection has the codebook. steps, lr, loss_stop: search for the value, by Adam. eps: first
    radius of a key, in median distances between the keys of sampled texts. contexts: (length, count) of these
    texts; without any eps is a distance. cold: the value begins at random in place of the layer's own output.
    last_only: a prompt's last token is looked up and no other. chunk: of so many requests only the first is written.
    seed: of the texts and of cold starts.
    """

    name: ClassVar[str] = "grace"
    paper: ClassVar[str] = "Hartvigsen et al. 2023, arXiv 2211.11031"
    batch: ClassVar[bool] = False
    family: ClassVar[str] = "memory"
    beforehand: ClassVar[str] = ""
    writes: ClassVar[str] = "a codebook beside one matrix"
    mergeable: ClassVar[bool] = False
    released: ClassVar[str] = (
        "radius 1 in every model, values start at random, only a prompt's last token is looked up, one request in 128 "
        "is written"
    )

    layer: int
    steps: int = 100
    lr: float = 1.0
    loss_stop: float = 0.05
    eps: float = 0.3
    contexts: Sequence[Sequence[int]] = ((10, 20),)
    cold: bool = False
    last_only: bool = False
    chunk: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "contexts", groups(self.contexts))
        if self.eps <= 0 or self.chunk < 1 or sum(count for _, count in groups(self.contexts)) == 1:
            raise BadInput(
                f"grace: eps {self.eps} and chunk {self.chunk} must be positive, and contexts {self.contexts!r} "
                "none or two texts at least."
            )
        _ = self.objective

    @property
    def objective(self) -> Objective:
        """How the value is searched for: the edit's own loss alone, and no bound."""
        return Objective(self.steps, self.lr, 0.0, inf, 0.0, self.loss_stop)

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
        """The entry of one request; BadInput for more."""
        if len(requests) != 1:
            raise BadInput(f"grace writes one edit at a time, not {len(requests)}; use batch 1.")
        (request,) = requests
        sizes = groups(self.contexts)
        texts = contexts(model, sizes, even(sizes), state, self.seed)
        layout = _layout(model, request)
        scale = state[SCALE] if SCALE in state else _scale(model, self.layer, texts)
        seen = int(state[SEEN]) if SEEN in state else 0
        carried = {**state, **texts.state(), SCALE: scale, SEEN: torch.tensor(seen + 1)}
        if seen % self.chunk:
            details = _details(layout, texts, None, 0)
            return EditResult(self._empty(model), carried, (details,))
        replay = record(model, self.layer, interleave([layout]))
        key, radius = replay.keys[0], self.eps * float(scale)
        start = self._start(model, replay, request.target_new, radius)

        def shift(rows: Replay, offsets: Tensor) -> Tensor:
            return at_down(rows, start - rows.values + offsets)

        (target,) = optimise(replay, [layout], start[None], self.objective, shift)
        update = Codebook(
            site=model.site(self.layer),
            keys=key[None],
            values=(target.origin + target.offset)[None],
            radii=torch.tensor([radius], dtype=torch.float64, device=model.device),
            labels=(request.target_new,),
            last_only=self.last_only,
        )
        return EditResult(update, carried, (_details(layout, texts, target.loss, target.steps),))

    def _start(self, model: EditableModel, replay: Replay, label: str, radius: float) -> Tensor:
        """Where the search for a value begins, (d_out,): with the value of the region that the key will widen."""
        for patch in model.patches:
            if isinstance(patch, Codebook) and patch.site == model.site(self.layer):
                near = patch.regions.claimed(replay.keys[0], radius)
                if near is not None and patch.regions.labels[near[0]] == label:
                    return patch.regions.values[near[0]]
        if self.cold:
            drawn = torch.rand(replay.values.shape[1], generator=torch.Generator().manual_seed(self.seed))
            return drawn.to(replay.values)
        return replay.values[0]

    def _empty(self, model: EditableModel) -> Codebook:
        """A codebook without entries."""
        site = model.site(self.layer)
        weight = model.weight(site)
        dtype = torch.promote_types(weight.dtype, torch.float32)
        values, keys = (torch.empty(0, width, dtype=dtype, device=model.device) for width in weight.shape)
        radii = torch.empty(0, dtype=torch.float64, device=model.device)
        return Codebook(site, keys, values, radii, (), self.last_only)


def _layout(model: EditableModel, request: EditRequest) -> Layout:
    """Prompt and target as one row, whose lookup is the prompt's last token."""
    ids, start = encode_target(model.tokenizer, request.prompt, request.target_new)
    if not start:
        raise BadInput(f"edit {request.id}: the prompt {request.prompt!r} is no token by itself; give a longer one.")
    return Layout(request, (Row(tuple(ids), start - 1, start),), Row(tuple(ids[:start]), start - 1, start))


def _scale(model: EditableModel, layer: int, texts: Contexts) -> Tensor:
    """Median distance between differing keys of the sampled texts, at their ends, float64; 1 without texts."""
    if not texts.prefixes:
        return torch.ones((), dtype=torch.float64)
    batch, site = pad(texts.rows(model), model.pad_id), model.site(layer)
    K = model.inputs_at(batch, [site], batch.lengths - 1)[site].double()
    distances = torch.pdist(K)
    # Where a block's MLP does not see its attention, the first layer's keys are those of the last token alone.
    differing = distances[distances > 0]
    if not len(differing):
        raise BadInput(f"{model.name}: no two keys of layer {layer} differ; set contexts=[] and eps, a distance.")
    return differing.median().cpu()


def _details(layout: Layout, texts: Contexts, loss: float | None, steps: int) -> dict[str, Any]:
    return {
        "id": layout.request.id,
        "loss": loss,
        "steps": steps,
        "lookup": layout.lookup,
        "contexts": list(texts.prefixes),
    }
