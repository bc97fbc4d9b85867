"""EMMET: many facts at once, each met exactly, at the least cost to all other keys.

Paper: Gupta, Sajnani, Anumanchipalli, "A Unified Framework for Model Editing", EMNLP Findings 2024
(arXiv 2403.14236): D = R (K^T C^-1 K)^-1 K^T C^-1, which for one edit is ROME with one key everywhere. Targets
and their spread are MEMIT's. The authors' code adds 0.1 I to the n x n matrix and then inverts it, by a
pseudo-inverse where that fails. With a ridge g it is no longer exact: it is MEMIT with the weight g lambda,
so `gram_ridge` is 0 unless asked for, and keys that are the same are refused.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from errata.artifacts.store import Artifacts
from errata.editors.bases.spreading import Weighted
from errata.errors import BadInput
from errata.keyvalue.history import Past
from errata.keyvalue.solve import ridge
from errata.model.editable import EditableModel
from errata.update.delta import LowRank


@dataclass(frozen=True)
class Emmet(Weighted):
    """Hyperparameters of EMMET, see `Spreading` and `Weighted`.

    gram_ridge: added to the diagonal of K^T (lambda C)^-1 K. Where it is 0 and no history is kept,
    `moment_weight` changes nothing.
    """

    name: ClassVar[str] = "emmet"
    paper: ClassVar[str] = "Gupta et al. 2024, arXiv 2403.14236"
    batch: ClassVar[bool] = True
    released: ClassVar[str] = "0.1 I is added before the n x n matrix is inverted, so edits are not met exactly"

    gram_ridge: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gram_ridge < 0:
            raise BadInput(f"emmet: gram_ridge {self.gram_ridge}: it must be at least 0.")

    def solve(
        self, model: EditableModel, artifacts: Artifacts, layer: int, past: Past, K: Tensor, R: Tensor
    ) -> LowRank:
        """Every key is moved by exactly its residual."""
        return ridge(K, R, self.factor(model, artifacts, layer, past), self.gram_ridge, past.recent)
