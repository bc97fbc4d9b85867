"""The second moment of a layer's keys, fitted while they stream by."""

import torch
from torch import Tensor

BLOCK = 512
"""Columns of a product at once: small enough to leave most of the upper triangle out, large enough to be fast."""


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
        for start in range(0, len(self._sum), BLOCK):
            columns = slice(start, start + BLOCK)
            # On and below the diagonal: the rest is the same.
            self._sum[start:, columns] += rows[:, start:].T @ rows[:, columns]
        self.count += len(rows)
        return self

    def mean(self) -> Tensor:
        """C (d_in, d_in), float32, symmetric, on the CPU."""
        if not self.count:
            raise ValueError("no key was seen yet")
        lower = (self._sum / self.count).tril()
        return (lower + lower.tril(-1).T).float().cpu()
