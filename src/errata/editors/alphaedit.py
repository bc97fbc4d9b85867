"""AlphaEdit: many facts at once, within the directions that other keys hardly have.

Paper: Fang, Jiang, Wang, Ma, Jie, Wang, He, Chua, "AlphaEdit: Null-Space Constrained Knowledge Editing for
Language Models", ICLR 2025 (arXiv 2410.02355): D = R K^T P (K K^T P + H P + l2 I)^-1, where P projects on the
eigenvectors of C with small eigenvalues and H is the sum of k k^T of earlier edits. Targets and their spread
are MEMIT's. It is solved in coordinates of that subspace, where the matrix is symmetric: the same D.
Departures: H holds the keys that were solved for, so that batches equal one joint edit (the authors' code
reads the keys again after all layers were written); and the threshold may be a share of C's trace, for an
absolute eigenvalue depends on the scale of the activations. Details give the `kept` share of directions.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from errata.artifacts.store import SECOND_MOMENT, Artifacts, Need
from errata.editors.bases.spreading import Spreading
from errata.errors import BadInput
from errata.keyvalue.history import Past
from errata.keyvalue.solve import inside, null_space, projected
from errata.model.editable import EditableModel
from errata.update.delta import LowRank


@dataclass(frozen=True)
class AlphaEdit(Spreading):
    """Hyperparameters of AlphaEdit, see `Spreading`.

    l2: weight of |D|^2. threshold: eigenvalues of C below it count as zero. trace_share: in place of the
    threshold, how much of C's trace the directions that count as empty may hold together.
    """

    name: ClassVar[str] = "alphaedit"
    paper: ClassVar[str] = "Fang et al. 2025, arXiv 2410.02355"
    batch: ClassVar[bool] = True

    history: bool = True
    l2: float = 10.0
    threshold: float = 0.02
    trace_share: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        share = self.trace_share if self.trace_share is not None else 1.0
        if self.l2 <= 0 or self.threshold <= 0 or not 0 < share <= 1:
            raise BadInput(
                f"alphaedit: l2 {self.l2} and threshold {self.threshold} must be positive, "
                f"trace_share {self.trace_share} none, or positive and at most 1."
            )

    def solve(
        self, model: EditableModel, artifacts: Artifacts, layer: int, past: Past, K: Tensor, R: Tensor
    ) -> LowRank:
        """The cheapest change within the null space, sparing the keys of earlier batches."""
        N, total = self._null_space(model, artifacts, layer), past.total
        L = None
        if total is not None:
            key = (self.name, artifacts.path(model, Need(SECOND_MOMENT, layer)), N.shape[1], self.l2)
            L = artifacts.renewed(key, total, lambda: inside(N, self.l2, total))
        return projected(K, R, N, self.l2, L, past.recent)

    def remarks(self, model: EditableModel, artifacts: Artifacts) -> dict[str, Any]:
        """kept: for each layer the share of directions that may change."""
        spaces = {layer: self._null_space(model, artifacts, layer) for layer in self.layers}
        return {"kept": {str(layer): N.shape[1] / N.shape[0] for layer, N in spaces.items()}}

    def _null_space(self, model: EditableModel, artifacts: Artifacts, layer: int) -> Tensor:
        """(d_in, r). BadInput where there is none."""
        values, vectors = artifacts.spectrum(model, layer)
        N = null_space(values, vectors, self.threshold, self.trace_share)
        if not N.shape[1]:
            raise BadInput(
                f"alphaedit: no direction of layer {layer} of {model.name} counts as empty: the smallest eigenvalue of "
                f"its second moment is {float(values[0]):.3g}, {float(values[0] / values.sum()):.3g} of the trace. "
                "Raise threshold, or trace_share if that is set."
            )
        return N
