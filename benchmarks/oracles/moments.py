"""The second moment of one layer's keys, literally: a whole forward of each text, logits included, and a sum of k k^T.

Frozen: the reference of a benchmark.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.oracles.rome import Plain


def second_moment(plain: Plain, layer: int, texts: Sequence[str]) -> Tensor:
    """E[k k^T] (d_in, d_in) over all tokens but each text's first."""
    down = plain.down(layer)
    total, count = torch.zeros((), dtype=torch.float64), 0
    for text in texts:
        seen: list[Tensor] = []
        handle = down.register_forward_hook(lambda _, args, output, seen=seen: seen.append(args[0][0, 1:]))
        with torch.no_grad():
            plain.logits(plain.ids(text))
        handle.remove()
        total = total + seen[0].T @ seen[0]
        count += len(seen[0])
    return (total / count).float()
