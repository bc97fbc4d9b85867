"""The second moment of a layer's keys, fitted while they stream by."""

import torch
from torch import Tensor


class SecondMomentFitter:
    """Adds up k k^T in float64; `mean` gives the second moment of all keys seen so far.

    A mean, not a sum: the weight that MEMIT puts on it counts samples.
    """

    def __init__(self, d_in: int, device: torch.device | str = "cpu") -> None:
        self._sum = torch.zeros(d_in, d_in, dtype=torch.float64, device=device)
        self.count = 0

    def update(self, K: Tensor) -> "SecondMomentFitter":
        """Take in keys (n, d_in). Products are in float32 at least, sums in float64."""
        rows = K.to(torch.promote_types(K.dtype, torch.float32))
        self._sum += rows.T @ rows
        self.count += len(rows)
        return self

    def mean(self) -> Tensor:
        """C (d_in, d_in), float32, symmetric, on the CPU."""
        if not self.count:
            raise ValueError("no key was seen yet")
        C = self._sum / self.count
        return ((C + C.T) / 2).float().cpu()
