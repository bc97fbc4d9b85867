"""R-ROME: ROME with one key everywhere.

Paper: Gupta, Baskaran, Anumanchipalli, "Rebuilding ROME: Resolving Model Collapse during Sequential
Model Editing", EMNLP 2024 (arXiv 2403.07175). The key averaged over the contexts stands in the
direction, in the denominator and in the old output W k, which is averaged too; so the denominator
k^T C^-1 k is never small by accident. The value is searched for as in ROME (arXiv 2202.05262, eq. 4).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from errata.artifacts.store import SECOND_MOMENT, Artifacts, Need
from errata.editors.base import EditResult, Progress, State
from errata.errors import BadInput
from errata.keyvalue.contexts import contexts, even, groups
from errata.keyvalue.keys import lay_out
from errata.keyvalue.replay import record
from errata.keyvalue.solve import alignment, direction, rank_one
from errata.keyvalue.targets import Objective, at_down, interleave, optimise
from errata.model.editable import EditableModel
from errata.types import EditRequest
from errata.update.delta import WeightDelta


@dataclass(frozen=True)
class RRome:
    """Hyperparameters of R-ROME, the same as ROME's; the defaults are GPT-2 XL's in the ROME's configuration.

    layer: the one edited. steps, lr, weight_decay, clamp, kl, loss_stop: search for the value, see
    `Objective`. contexts: (length, count) of sampled prefixes. covariance: False leaves C^-1 out.
    ridge: share of C's mean eigenvalue added to C. seed: of the prefixes.
    """

    name: ClassVar[str] = "r_rome"
    paper: ClassVar[str] = "Gupta et al. 2024, arXiv 2403.07175"
    batch: ClassVar[bool] = False

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
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "contexts", groups(self.contexts))
        _ = self.objective

    @property
    def objective(self) -> Objective:
        """How the value is searched for."""
        return Objective(self.steps, self.lr, self.weight_decay, self.clamp, self.kl, self.loss_stop)

    def needs(self, model: EditableModel) -> tuple[Need, ...]:
        """The second moment of the layer, unless the covariance is left out."""
        return (Need(SECOND_MOMENT, self.layer),) if self.covariance else ()

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
            raise BadInput(f"r_rome writes one edit at a time, not {len(requests)}; use batch 1, or memit.")
        site, sizes = model.site(self.layer), groups(self.contexts)
        factor = artifacts.cholesky(model, self.layer, ridge=self.ridge) if self.covariance else None
        texts = contexts(model, sizes, even(sizes), state, self.seed)
        layout = lay_out(model, requests[0], texts)
        replay = record(model, self.layer, interleave([layout]))
        (target,) = optimise(replay, [layout], replay.values[:1], self.objective, at_down)
        rows = len(layout.rows)
        k, old = replay.keys[:rows].mean(0), replay.values[:rows].mean(0)
        u = direction(k, factor)
        change = rank_one(target.origin + target.offset - old, k, u)
        details = {
            "id": requests[0].id,
            "loss": target.loss,
            "steps": target.steps,
            "lookup": layout.lookup,
            "contexts": list(texts.prefixes),
            "alignment": alignment(k, u),
        }
        return EditResult(WeightDelta({site: change}), {**state, **texts.state()}, (details,))
