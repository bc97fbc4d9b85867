"""What the machine reaches: products of large matrices, and copies; and the least time that work takes at these rates.

Both are the best of several tries: what others do on the machine only slows them.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

SIZE = 1536
"""Of the matrices that are multiplied: beyond it rates rise no more."""
COPIED = 256 * 2**20
"""Bytes that are copied at once: far more than any cache holds."""
TRIES = 7


@dataclass(frozen=True)
class Work:
    """What cannot be left out: floating point operations in float32 and in float64, and bytes moved to or from memory.

    A product of (m, k) and (k, n) is 2 m k n operations. Bytes: read and written, each once.
    """

    float32: float = 0.0
    float64: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(self.float32 + other.float32, self.float64 + other.float64, self.bytes + other.bytes)

    def times(self, count: float) -> "Work":
        return Work(self.float32 * count, self.float64 * count, self.bytes * count)


@dataclass(frozen=True)
class Floor:
    """seconds: at least. bound: which of the two it is bound by, "operations" or "bytes"."""

    seconds: float
    bound: str


@dataclass(frozen=True)
class Machine:
    """float32, float64: operations a second in products of large matrices. copy: bytes a second, read and written."""

    float32: float
    float64: float
    copy: float

    def floor(self, work: Work) -> Floor:
        """The least time, if operations and transfers overlap perfectly."""
        operations = work.float32 / self.float32 + work.float64 / self.float64
        transfer = work.bytes / self.copy
        return Floor(max(operations, transfer), "operations" if operations >= transfer else "bytes")


def measured() -> Machine:
    """The rates of this machine with as many threads as torch uses."""
    single, double = (2 * SIZE**3 / _best(_product(dtype)) for dtype in (torch.float32, torch.float64))
    source = torch.ones(COPIED, dtype=torch.uint8)
    target = torch.empty_like(source)
    return Machine(single, double, 2 * COPIED / _best(lambda: target.copy_(source)))


def _product(dtype: torch.dtype) -> Callable[[], Tensor]:
    a, b = (torch.ones(SIZE, SIZE, dtype=dtype) for _ in range(2))
    out = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=out)


def _best(work: Callable[[], object]) -> float:
    """Seconds of the fastest of several tries, the first of which warms up."""
    taken = []
    for _ in range(TRIES):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return min(taken)
