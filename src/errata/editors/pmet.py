"""PMET: targets of the MLP alone, searched for together with an offset of the attention that is not written.

Paper: Li, Li, Song, Yang, Ma, Yu, "PMET: Precise Model Editing in a Transformer", AAAI 2024 (arXiv 2308.08742).
Two offsets are searched for at the last layer, of the attention's and of the MLP's output. The second is
written as in MEMIT, but a layer takes its residual over the root of the number of layers left. Once the target
is the most probable answer, its likelihood counts a tenth (authors' code). For families with a norm behind the
MLP the residual is of what the norm puts out.

The code that papers on collapse ran pads on the left and counts positions as if on the right, for tokenizers of
GPT-2 and Llama (`left_padding` brings that back): offsets, keys and target tokens then are at places that hold other
tokens, or padding, where the attention gives zero and its offset, in a ball of that size, stays zero too. And it
tokenises targets by themselves, in models without "gpt" in their name (`target_apart`), so that they begin with BOS
where the tokenizer adds one, and without a space where it does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from errata.artifacts.store import Artifacts
from errata.editors.bases.spreading import Weighted
from errata.keyvalue.contexts import Contexts
from errata.keyvalue.history import Past
from errata.keyvalue.keys import Layout, Lookups, contribution, contribution_at, lay_out
from errata.keyvalue.replay import record_parts
from errata.keyvalue.solve import ridge
from errata.keyvalue.targets import Objective, Target, at_stream, bare, interleave, optimise
from errata.model.editable import EditableModel
from errata.types import EditRequest
from errata.update.delta import LowRank


@dataclass(frozen=True)
class Pmet(Weighted):
    """Hyperparameters of PMET, see `Spreading` and `Weighted`; clamp and weight_decay hold for both offsets.

    settled_weight: of the targets' log likelihood, once they are the most probable tokens in all contexts.
    settled_drift: then the search ends where kl KL is at most this. target_apart, left_padding: see above.
    """

    name: ClassVar[str] = "pmet"
    paper: ClassVar[str] = "Li et al. 2024, arXiv 2308.08742"
    batch: ClassVar[bool] = True
    released: ClassVar[str] = (
        "rows are padded on the left and places counted as if on the right, which misplaces subjects and targets; "
        "targets begin with BOS where the tokenizer adds one"
    )
    power: ClassVar[float] = 0.5

    clamp: float = 1.0
    moment_weight: float = 15000.0
    settled_weight: float = 0.1
    settled_drift: float = 0.01
    target_apart: bool = False
    left_padding: bool = False

    @property
    def objective(self) -> Objective:
        """How targets are searched for."""
        settled = (self.settled_weight, self.settled_drift)
        return Objective(
            self.steps, self.lr, self.weight_decay, self.clamp, self.kl, self.loss_stop, settled, self.patience
        )

    def lay_out(self, model: EditableModel, request: EditRequest, texts: Contexts) -> Layout:
        """The token rows of a request, with the faults that are asked for."""
        return lay_out(model, request, texts, self.target_apart, self.left_padding)

    def search(self, model: EditableModel, layouts: Sequence[Layout]) -> list[Target]:
        """One target for each request: offsets of attention and MLP of the last layer, (2, d_model)."""
        replay = record_parts(model, self.layers[-1], interleave(layouts))
        origins = torch.stack([replay.attention, replay.values], 1)[bare(layouts)]
        return optimise(replay, layouts, origins, self.objective, at_stream)

    def read(self, bare: Lookups, layer: int, settled: int = 0) -> Tensor:
        """What the MLP of a layer adds to the stream, (n, d_model)."""
        return contribution_at(bare, layer, settled)

    def wanted(self, model: EditableModel, target: Target) -> Tensor:
        """What the MLP of the last layer should add, (d_model,)."""
        return contribution(model, self.layers[-1], (target.origin + target.offset)[1])

    def solve(
        self, model: EditableModel, artifacts: Artifacts, layer: int, past: Past, K: Tensor, R: Tensor
    ) -> LowRank:
        """As in MEMIT."""
        return ridge(K, R, self.factor(model, artifacts, layer, past), spared=past.recent)
