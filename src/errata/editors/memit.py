"""MEMIT: many facts at once, into several layers, by least squares.

Paper: Meng, Sharma, Andonian, Belinkov, Bau, "Mass-Editing Memory in a Transformer", ICLR 2023
(arXiv 2210.07229), eqs. 14 to 20 and algorithm 1, with the weights of contexts and the constants of the
authors' code. Logits are those of the model's own forward (the released code applies the head itself
and misses soft caps). Published MEMIT forgets the keys of earlier batches; `history` remembers them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from errata.artifacts.store import SECOND_MOMENT, Artifacts, Need
from errata.editors.base import EditResult, Progress, State
from errata.errors import BadInput
from errata.keyvalue.contexts import STARTS, Contexts, contexts, grouped, groups
from errata.keyvalue.keys import Layout, lay_out
from errata.keyvalue.replay import record
from errata.keyvalue.solve import factor, ridge
from errata.keyvalue.spread import spread
from errata.keyvalue.targets import Objective, Target, at_stream, bare, interleave, optimise
from errata.model.editable import EditableModel
from errata.types import EditRequest
from errata.update.delta import LowRank

ROWS_AT_ONCE = 128


@dataclass(frozen=True)
class Memit:
    """Hyperparameters of MEMIT; the defaults are GPT-2 XL's in the authors' configuration.

    layers: those edited; the target is set at the last. steps, lr, weight_decay, clamp, kl, loss_stop:
    search for the target, see `Objective`. moment_weight: how many samples C stands for, lambda.
    contexts: (length, count) of sampled prefixes. ridge: share of the mean eigenvalue of lambda C added
    to it. history: keep the sum of k k^T of all edits so far, so that later batches spare them (as in
    AlphaEdit; arXiv 2605.26670 shows it equal to one joint batch). seed: of the prefixes.
    """

    name: ClassVar[str] = "memit"
    paper: ClassVar[str] = "Meng et al. 2023, arXiv 2210.07229"
    batch: ClassVar[bool] = True

    layers: Sequence[int]
    steps: int = 20
    lr: float = 0.5
    weight_decay: float = 0.5
    clamp: float = 0.75
    kl: float = 0.0625
    loss_stop: float = 0.05
    moment_weight: float = 20000.0
    contexts: Sequence[Sequence[int]] = ((10, 5),)
    ridge: float = 0.0
    history: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(sorted(self.layers)))
        object.__setattr__(self, "contexts", groups(self.contexts))
        if not self.layers or len(set(self.layers)) < len(self.layers) or self.moment_weight <= 0:
            raise BadInput(
                f"memit: layers {list(self.layers)}, moment_weight {self.moment_weight}: "
                "name each layer once, at least one, and a positive weight."
            )
        _ = self.objective

    @property
    def objective(self) -> Objective:
        """How targets are searched for."""
        return Objective(self.steps, self.lr, self.weight_decay, self.clamp, self.kl, self.loss_stop)

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
            raise BadInput("memit got no request; give at least one.")
        artifacts.require(model, self.needs(model))
        sizes = groups(self.contexts)
        texts = contexts(model, sizes, grouped(sizes), state, self.seed, STARTS)
        layouts = [lay_out(model, request, texts) for request in requests]
        targets = self._targets(model, layouts, progress)
        Z = torch.stack([target.origin + target.offset for target in targets])

        def solve(layer: int, K: Tensor, R: Tensor) -> LowRank:
            return ridge(K, R, self._factor(model, artifacts, state, layer))

        update, keys = spread(model, layouts, texts.weights, self.layers, Z, solve)
        remembered = {**state, **texts.state(), **(_history(state, keys) if self.history else {})}
        found = zip(layouts, targets, strict=True)
        return EditResult(update, remembered, tuple(_details(layout, target, texts) for layout, target in found))

    def _targets(self, model: EditableModel, layouts: Sequence[Layout], progress: Progress | None) -> list[Target]:
        """What the stream after the last layer should be at each request's subject."""
        found: list[Target] = []
        for chunk in _chunks(layouts):
            replay = record(model, self.layers[-1], interleave(chunk))
            first = replay.stream[bare(chunk), 0]
            origins = first.to(torch.promote_types(first.dtype, torch.float32))
            found += optimise(replay, chunk, origins, self.objective, at_stream)
            if progress is not None:
                progress("targets", len(found), len(layouts))
        return found

    def _factor(self, model: EditableModel, artifacts: Artifacts, state: State, layer: int) -> Tensor:
        """Cholesky factor of lambda C, with the keys of earlier batches if they are remembered."""
        past = state.get(_past(layer)) if self.history else None
        if past is None:
            return artifacts.cholesky(model, layer, self.moment_weight, self.ridge)
        C = artifacts.second_moment(model, layer).C.to(model.device)
        return factor(C, self.moment_weight, self.ridge, past.to(model.device))


def _past(layer: int) -> str:
    return f"history.{layer}"


def _history(state: State, keys: Any) -> dict[str, Tensor]:
    """For each layer the sum of k k^T over all edits so far, (d_in, d_in) float32, on the CPU."""
    grams = {layer: (K.T.double() @ K.double()).cpu() for layer, K in keys.items()}
    before = {layer: state[_past(layer)].double() if _past(layer) in state else 0.0 for layer in keys}
    return {_past(layer): (before[layer] + gram).float() for layer, gram in grams.items()}


def _chunks(layouts: Sequence[Layout]) -> Iterator[Sequence[Layout]]:
    """As many requests at once as give a bounded number of rows."""
    size = max(1, ROWS_AT_ONCE // (len(layouts[0].rows) + 1))
    for start in range(0, len(layouts), size):
        yield layouts[start : start + size]


def _details(layout: Layout, target: Target, texts: Contexts) -> dict[str, Any]:
    return {
        "id": layout.request.id,
        "loss": target.loss,
        "steps": target.steps,
        "lookup": layout.lookup,
        "contexts": list(texts.prefixes),
    }
