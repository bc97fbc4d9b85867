"""LoRA: low-rank factors beside the query and value projections, trained on the target.

Paper: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022 (arXiv 2106.09685), section 4.1:
the change of a matrix is alpha / r times B A, with B zero and A random at the start; the loss is FT-M's. The update
stays in factors, so it can be served as an adapter or merged exactly. Editing toolkits run AdaLoRA with dropout
under this name; here ranks are fixed and nothing is dropped. Trained by the loop that the other methods share:
peft would replace modules of the model and draw from the global random numbers to save a few lines.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from errata.artifacts.store import Artifacts, Need
from errata.editors.base import EditResult, Progress, State
from errata.errors import BadInput
from errata.gradient.examples import autoregressive
from errata.gradient.training import Descent, train
from errata.model import hooks
from errata.model.editable import EditableModel
from errata.types import EditRequest
from errata.update.delta import LowRank, WeightDelta


@dataclass(frozen=True)
class LoRA:
    """Hyperparameters of LoRA; the defaults are EasyEdit's for Llama-2.

    rank: r, of each factor pair. alpha: the change is alpha / rank times B A. modules: maps to adapt, relative to a
    layer; empty for those of queries and values, or the one where a family has them in one. layers: empty for all.
    steps, lr, loss_stop: of Adam, see `Descent`. seed: of A.
    """

    name: ClassVar[str] = "lora"
    paper: ClassVar[str] = "Hu et al. 2022, arXiv 2106.09685"
    batch: ClassVar[bool] = True
    family: ClassVar[str] = "fine-tuning"
    beforehand: ClassVar[str] = ""
    writes: ClassVar[str] = "rank r, query and value maps"
    mergeable: ClassVar[bool] = True

    rank: int = 8
    alpha: float = 32.0
    modules: Sequence[str] = ()
    layers: Sequence[int] = ()
    steps: int = 70
    lr: float = 5e-3
    loss_stop: float = 1e-2
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "modules", tuple(self.modules))
        object.__setattr__(self, "layers", tuple(self.layers))
        if self.rank < 1 or self.alpha <= 0:
            raise BadInput(f"lora: rank {self.rank} and alpha {self.alpha} must be positive.")
        _ = self.descent

    @property
    def descent(self) -> Descent:
        """How long and how fast to train."""
        return Descent(self.steps, self.lr, self.loss_stop)

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
        """One update for all requests, of rank r at every site."""
        sites = self.sites(model)

        def change(factors: Sequence[Tensor]) -> WeightDelta:
            pairs = zip(sites, factors[::2], factors[1::2], strict=True)
            return WeightDelta({site: LowRank(B * (self.alpha / self.rank), A) for site, B, A in pairs})

        examples = [autoregressive(model, request.prompt, request.target_new) for request in requests]
        trained = train(model, examples, self.start(model), change, self.descent, progress=progress)
        return EditResult(trained.update, {**state}, trained.details(model, requests))

    def sites(self, model: EditableModel) -> list[str]:
        """Paths of the maps to adapt."""
        paths = self.modules or model.arch.query_value
        layers = self.layers or range(model.n_layers)
        for layer in layers:
            model.layer(layer)  # says which layers there are
        return [f"{model.arch.layers}.{layer}.{path}" for layer in layers for path in paths]

    def start(self, model: EditableModel) -> list[Tensor]:
        """B (d_out, r) and A (r, d_in) of each site: zero, and uniform within 1 / sqrt(d_in)."""
        generator = torch.Generator().manual_seed(self.seed)
        factors = []
        for site in self.sites(model):
            W = hooks.widened(model.weight(site))
            A = torch.rand(self.rank, W.shape[1], generator=generator) * 2 - 1
            factors += [W.new_zeros(len(W), self.rank), A.to(W) / W.shape[1] ** 0.5]
        return factors
