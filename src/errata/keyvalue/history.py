"""Keys of the edits so far, which later edits spare: most of them as one sum of k k^T, the latest as they are.

The sum H changes what a layer's matrix is factored from, and a factorisation costs d_in^3 / 3. The keys since then
enter the n x n dual instead, as a rank-m update of the factor: each costs a triangular solve, d_in^2. They join the sum
when they are so many that this would cost more. arXiv 2605.26670 shows batches with all their keys to be equal to one
joint batch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor

_TOTAL, _RECENT = "history", "recent"


@dataclass(frozen=True)
class Past:
    """Keys of one layer, on the CPU in float32. total: (d_in, d_in) sum of k k^T. recent: (m, d_in), not in it."""

    total: Tensor | None = None
    recent: Tensor | None = None

    def with_keys(self, K: Tensor) -> "Past":
        """After a batch with keys K (n, d_in). At n keys a batch, m = sqrt(n d_in) costs the least."""
        keys = K.float().cpu()
        if self.recent is None:
            return Past(self.total, keys)
        if len(self.recent) + len(keys) <= isqrt(len(keys) * keys.shape[1]):
            return Past(self.total, torch.cat([self.recent, keys]))
        total = self.recent.T.double() @ self.recent.double()
        if self.total is not None:
            total += self.total
        return Past(total.float(), keys)

    def state(self, layer: int) -> dict[str, Tensor]:
        """What the next batch needs, by name."""
        named = {_TOTAL: self.total, _RECENT: self.recent}
        return {f"{name}.{layer}": held for name, held in named.items() if held is not None}


def past(state: Mapping[str, Tensor], layer: int) -> Past:
    """What a state holds of a layer."""
    return Past(state.get(f"{_TOTAL}.{layer}"), state.get(f"{_RECENT}.{layer}"))
