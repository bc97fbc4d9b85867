"""MEMIT: many facts at once, into several layers, by least squares.

Paper: Meng, Sharma, Andonian, Belinkov, Bau, "Mass-Editing Memory in a Transformer", ICLR 2023
(arXiv 2210.07229), eqs. 14 to 20 and algorithm 1, with the weights of contexts and the constants of the
authors' code. Logits are those of the model's own forward (the released code applies the head itself
and misses soft caps). Published MEMIT forgets the keys of earlier batches; `history` remembers them.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from errata.artifacts.store import Artifacts
from errata.editors.bases.spreading import Weighted
from errata.keyvalue.history import Past
from errata.keyvalue.solve import ridge
from errata.model.editable import EditableModel
from errata.update.delta import LowRank


@dataclass(frozen=True)
class Memit(Weighted):
    """Hyperparameters of MEMIT, see `Spreading` and `Weighted`; the defaults are GPT-2 XL's in the authors'
    configuration."""

    name: ClassVar[str] = "memit"
    paper: ClassVar[str] = "Meng et al. 2023, arXiv 2210.07229"
    batch: ClassVar[bool] = True
    released: ClassVar[str] = "on Llama and Mistral a higher rate, a wider clamp and hardly any decay"

    def solve(
        self, model: EditableModel, artifacts: Artifacts, layer: int, past: Past, K: Tensor, R: Tensor
    ) -> LowRank:
        """Equation 14: old keys and new ones are met as well as one matrix can."""
        return ridge(K, R, self.factor(model, artifacts, layer, past), spared=past.recent)
