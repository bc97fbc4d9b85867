"""Reading and shifting module outputs by forward hooks, for all shapes that decoder layers return."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor


class Removable(Protocol):
    def remove(self) -> None: ...


class Enough(Exception):
    """Ends a forward pass early: raised in a hook when everything asked for has been seen."""


@contextmanager
def hooked(handles: Sequence[Removable]) -> Iterator[None]:
    """Removes the hooks at the end, whatever happens."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def main(output: Any) -> Tensor:
    """The hidden states of a module's output: older transformers return tuples, newer bare tensors."""
    tensor: Tensor = output[0] if isinstance(output, tuple) else output
    return tensor


def with_main(output: Any, changed: Tensor) -> Any:
    """The same output with other hidden states."""
    return (changed, *output[1:]) if isinstance(output, tuple) else changed


def select(tensor: Tensor, n: int, positions: Tensor | None) -> Tensor:
    """One vector a row, (n, d), in float32 at least; all of them, (n, t, d), without positions.

    tensor: (n, t, d), or (n * t, d) where a family flattens the rows before its MLP.
    """
    rows = tensor.reshape(n, -1, tensor.shape[-1])
    if positions is None:
        return widened(rows)
    return widened(rows[torch.arange(n, device=rows.device), positions.to(rows.device)])


def widened(tensor: Tensor) -> Tensor:
    """In float32, or float64 if it is that already."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def shift(tensor: Tensor, positions: Tensor, delta: Tensor) -> Tensor:
    """tensor plus delta at one position a row, out of place; rows with a negative position keep theirs.

    tensor: (n, t, d) or (n * t, d). positions: (n,). delta: (d,) or (n, d).
    """
    n, width = len(positions), tensor.shape[-1]
    rows = tensor.reshape(n, -1, width)
    chosen = (positions >= 0).nonzero().squeeze(1).to(rows.device)
    values = delta.to(rows).expand(n, width)[chosen]
    # index_put, not +=: an in-place add on a hooked output breaks autograd with some kernels.
    moved = rows.index_put((chosen, positions.to(rows.device)[chosen]), values, accumulate=True)
    return moved.reshape(tensor.shape)
