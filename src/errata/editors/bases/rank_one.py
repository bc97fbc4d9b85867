"""One fact into one layer: what the rank-one methods share.

Source: Meng, Bau, Andonian, Belinkov, "Locating and Editing Factual Associations in GPT", NeurIPS 2022
(arXiv 2202.05262), eqs. 2 to 4. A value is searched for at the down projection's output, and a rank-one
change maps a key to it. Which vectors are the keys is left to the method, in `move`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor

from errata.artifacts.store import SECOND_MOMENT, Artifacts, Need
from errata.editors.base import EditResult, Progress, State
from errata.errors import BadInput
from errata.keyvalue.contexts import contexts, even, groups
from errata.keyvalue.keys import lay_out
from errata.keyvalue.replay import record
from errata.keyvalue.solve import alignment, direction, rank_one
from errata.keyvalue.targets import Objective, Target, at_down, interleave, optimise
from errata.model.editable import EditableModel
from errata.types import EditRequest
from errata.update.delta import WeightDelta


class Move(NamedTuple):
    """What a rank-one change does.

    probe: (d_in,) key that the direction answers to. key: (d_in,) whose output moves. residual: (d_out,), by which.
    """

    probe: Tensor
    key: Tensor
    residual: Tensor


@dataclass(frozen=True)
class RankOne(ABC):
    """Hyperparameters of a rank-one method; the defaults are GPT-2 XL's in the configuration of ROME's authors.

    layer: the one edited. steps, lr, weight_decay, clamp, kl, loss_stop: search for the value, see
    `Objective`. patience: ENCORE's early stop, see there; 0 is off, as in the papers. contexts: (length, count) of
    sampled prefixes. covariance: False leaves C^-1 out, as the papers on collapse ran it. ridge: share of C's mean
    eigenvalue added to C. seed: of the prefixes.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    batch: ClassVar[bool] = False
    family: ClassVar[str] = "locate-then-edit"
    beforehand: ClassVar[str] = "second moment"
    writes: ClassVar[str] = "rank 1, one matrix"
    mergeable: ClassVar[bool] = True
    released: ClassVar[str] = "C, the covariance of the keys, is left out"

    layer: int
    steps: int = 20
    lr: float = 0.5
    weight_decay: float = 0.5
    clamp: float = 4.0
    kl: float = 0.0625
    loss_stop: float = 0.05
    contexts: Sequence[Sequence[int]] = ((5, 10), (10, 10))
    covariance: bool = True
    ridge: float = 0.0
    patience: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "contexts", groups(self.contexts))
        _ = self.objective

    @property
    def objective(self) -> Objective:
        """How the value is searched for."""
        numbers = self.steps, self.lr, self.weight_decay, self.clamp, self.kl, self.loss_stop
        return Objective(*numbers, patience=self.patience)

    def needs(self, model: EditableModel) -> tuple[Need, ...]:
        """The second moment of the layer, unless the covariance is left out."""
        return (Need(SECOND_MOMENT, self.layer),) if self.covariance else ()

    @abstractmethod
    def move(self, keys: Tensor, values: Tensor, target: Target) -> Move:
        """The keys and the residual of the change.

        keys: (contexts, d_in) and values: (contexts, d_out), what the layer's down projection takes and
        gives in each context, the bare prompt's first. target: found for the bare prompt.
        """

    def edit(
        self,
        model: EditableModel,
        requests: Sequence[EditRequest],
        state: State,
        artifacts: Artifacts,
        progress: Progress | None = None,
    ) -> EditResult:
        """The update for one request; BadInput for more."""
        if len(requests) != 1:
            raise BadInput(f"{self.name} writes one edit at a time, not {len(requests)}; use batch 1, or memit.")
        site, sizes = model.site(self.layer), groups(self.contexts)
        factor = artifacts.cholesky(model, self.layer, ridge=self.ridge) if self.covariance else None
        texts = contexts(model, sizes, even(sizes), state, self.seed)
        layout = lay_out(model, requests[0], texts)
        replay = record(model, self.layer, interleave([layout]))
        (target,) = optimise(replay, [layout], replay.values[:1], self.objective, at_down)
        rows = len(layout.rows)
        probe, key, residual = self.move(replay.keys[:rows], replay.values[:rows], target)
        u = direction(probe, factor)
        details = {
            "id": requests[0].id,
            "loss": target.loss,
            "steps": target.steps,
            "lookup": layout.lookup,
            "contexts": list(texts.prefixes),
            "alignment": alignment(key, u),
        }
        change = rank_one(residual, key, u)
        return EditResult(WeightDelta({site: change}), {**state, **texts.state()}, (details,))
