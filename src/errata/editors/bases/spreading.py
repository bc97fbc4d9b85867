"""Many facts into several layers by least squares: what MEMIT and its descendants share.

Source: Meng, Sharma, Andonian, Belinkov, Bau, "Mass-Editing Memory in a Transformer", ICLR 2023
(arXiv 2210.07229), algorithm 1. A target is searched for at the last layer; then each layer in turn takes a
share of what is missing there. Four things are left to the method: how the target is searched for (`search`),
what it is of (`read` and `wanted`), how it is shared out (`power`), and how a layer is solved (`solve`).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from errata.artifacts.store import SECOND_MOMENT, Artifacts, Need
from errata.editors.base import EditResult, Progress, State
from errata.errors import BadInput
from errata.keyvalue.contexts import STARTS, Contexts, contexts, grouped, groups
from errata.keyvalue.history import Past, past
from errata.keyvalue.keys import Layout, Lookups, hidden_at, lay_out
from errata.keyvalue.replay import footprint, record
from errata.keyvalue.spread import spread
from errata.keyvalue.targets import Objective, Target, at_stream, bare, interleave, optimise
from errata.model.editable import EditableModel
from errata.types import EditRequest
from errata.update.delta import LowRank


@dataclass(frozen=True)
class Spreading(ABC):
    """Hyperparameters of a method that spreads its edits; the defaults are GPT-2 XL's in MEMIT's configuration.

    layers: those edited; the target is set at the last. steps, lr, weight_decay, clamp, kl, loss_stop:
    search for the target, see `Objective`. patience: ENCORE's early stop, see there; 0 is off, as in the papers.
    contexts: (length, count) of sampled prefixes. history: keep the keys of all edits so far, so that later batches
    spare them; arXiv 2605.26670 shows that equal to one joint batch, if they are the very keys that were solved
    for. They are: those of each solve, read after the writes below it and before its own. memory: gigabytes beside
    the model and what was built for it, which decide how many targets are searched for together, one at least; by
    default a tenth of the model's size. seed: of the prefixes.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    batch: ClassVar[bool] = True
    family: ClassVar[str] = "locate-then-edit"
    beforehand: ClassVar[str] = "second moment"
    writes: ClassVar[str] = "rank n of n edits, several matrices"
    mergeable: ClassVar[bool] = True
    power: ClassVar[float] = 1.0
    """A layer takes 1 / (layers left) ** power of what is missing."""

    layers: Sequence[int]
    steps: int = 20
    lr: float = 0.5
    weight_decay: float = 0.5
    clamp: float = 0.75
    kl: float = 0.0625
    loss_stop: float = 0.05
    contexts: Sequence[Sequence[int]] = ((10, 5),)
    patience: int = 0
    history: bool = False
    memory: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(sorted(self.layers)))
        object.__setattr__(self, "contexts", groups(self.contexts))
        if not self.layers or len(set(self.layers)) < len(self.layers):
            raise BadInput(f"{self.name}: layers {list(self.layers)}: name each layer once, at least one.")
        if self.memory is not None and self.memory <= 0:
            raise BadInput(f"{self.name}: memory {self.memory}: gigabytes, more than 0; leave it out for the default.")
        _ = self.objective

    @property
    def objective(self) -> Objective:
        """How targets are searched for."""
        numbers = self.steps, self.lr, self.weight_decay, self.clamp, self.kl, self.loss_stop
        return Objective(*numbers, patience=self.patience)

    def needs(self, model: EditableModel) -> tuple[Need, ...]:
        """The second moment of every edited layer."""
        return tuple(Need(SECOND_MOMENT, layer) for layer in self.layers)

    def edit(
        self,
        model: EditableModel,
        requests: Sequence[EditRequest],
        state: State,
        artifacts: Artifacts,
        progress: Progress | None = None,
    ) -> EditResult:
        """One update for all requests."""
        if not requests:
            raise BadInput(f"{self.name} got no request; give at least one.")
        artifacts.require(model, self.needs(model))
        sizes = groups(self.contexts)
        texts = contexts(model, sizes, grouped(sizes), state, self.seed, STARTS)
        layouts = [self.lay_out(model, request, texts) for request in requests]
        room = self._room(model)
        targets = self._targets(model, layouts, room, progress)
        Z = torch.stack([self.wanted(model, target) for target in targets])
        before = {layer: past(state, layer) if self.history else Past() for layer in self.layers}

        def solve(layer: int, K: Tensor, R: Tensor) -> LowRank:
            return self.solve(model, artifacts, layer, before[layer], K, R)

        update, keys = spread(model, layouts, texts.weights, self.layers, Z, solve, self.read, self.power, room)
        remembered = {**state, **texts.state()}
        if self.history:
            for layer, K in keys.items():
                remembered |= before[layer].with_keys(K).state(layer)
        more = self.remarks(model, artifacts)
        found = zip(layouts, targets, strict=True)
        details = tuple({**_details(layout, target, texts), **more} for layout, target in found)
        return EditResult(update, remembered, details)

    # What a method may put in place of MEMIT's

    def lay_out(self, model: EditableModel, request: EditRequest, texts: Contexts) -> Layout:
        """The token rows of a request."""
        return lay_out(model, request, texts)

    def search(self, model: EditableModel, layouts: Sequence[Layout]) -> list[Target]:
        """One target for each request: by default an offset of the stream after the last layer."""
        replay = record(model, self.layers[-1], interleave(layouts))
        first = replay.stream[bare(layouts), 0]
        origins = first.to(torch.promote_types(first.dtype, torch.float32))
        return optimise(replay, layouts, origins, self.objective, at_stream)

    def read(self, bare: Lookups, layer: int, settled: int = 0) -> Tensor:
        """What targets are of, as it is now, (n, d_model): by default the stream after the last layer."""
        return hidden_at(bare, layer, settled)

    def wanted(self, model: EditableModel, target: Target) -> Tensor:
        """What `read` should give at the last layer for one request, (d_model,)."""
        return target.origin + target.offset

    @abstractmethod
    def solve(
        self, model: EditableModel, artifacts: Artifacts, layer: int, past: Past, K: Tensor, R: Tensor
    ) -> LowRank:
        """One layer's update. past: keys of earlier edits, none where they are not kept.

        K: (n, d_in) keys. R: (n, d_out) residuals of the down projection's output.
        """

    def remarks(self, model: EditableModel, artifacts: Artifacts) -> dict[str, Any]:
        """What the details say beyond those of every method, JSON-able."""
        return {}

    def _targets(
        self, model: EditableModel, layouts: Sequence[Layout], room: float, progress: Progress | None
    ) -> list[Target]:
        """In the order of the layouts. Those as long behind the subject are searched for together."""
        found: dict[int, Target] = {}
        for chunk in _chunks(layouts, [footprint(model, layout, self.layers[-1]) for layout in layouts], room):
            found |= zip(chunk, self.search(model, [layouts[index] for index in chunk]), strict=True)
            if progress is not None:
                progress("targets", len(found), len(layouts))
        return [found[index] for index in range(len(layouts))]

    def _room(self, model: EditableModel) -> float:
        """Bytes."""
        return model.bytes / 10 if self.memory is None else 1e9 * self.memory


@dataclass(frozen=True)
class Weighted(Spreading):
    """A method that spares all keys through their second moment C.

    moment_weight: how many samples C stands for, lambda. ridge: share of the mean eigenvalue of lambda C
    added to it.
    """

    moment_weight: float = 20000.0
    ridge: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.moment_weight <= 0:
            raise BadInput(f"{self.name}: moment_weight {self.moment_weight}: it must be positive.")

    def factor(self, model: EditableModel, artifacts: Artifacts, layer: int, past: Past) -> Tensor:
        """Cholesky factor of lambda C, and of the summed keys of earlier batches if they are remembered."""
        return artifacts.cholesky(model, layer, self.moment_weight, self.ridge, past.total)


def _chunks(layouts: Sequence[Layout], sizes: Sequence[int], room: float) -> Iterator[list[int]]:
    """Indices of the layouts, as many at once as fit, the shortest behind the subject first. sizes: bytes of each."""
    order = sorted(range(len(layouts)), key=lambda index: layouts[index].span)
    chunk: list[int] = []
    for index in order:
        # Shorter ones are padded to this one's length.
        if chunk and (len(chunk) + 1) * sizes[index] > room:
            yield chunk
            chunk = []
        chunk.append(index)
    yield chunk


def _details(layout: Layout, target: Target, texts: Contexts) -> dict[str, Any]:
    return {
        "id": layout.request.id,
        "loss": target.loss,
        "steps": target.steps,
        "lookup": layout.lookup,
        "contexts": list(texts.prefixes),
    }
