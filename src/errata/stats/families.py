"""Several tests at once."""

from collections.abc import Sequence

import numpy as np


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values in the order given: reject those at most alpha (Holm 1979).

    The chance of any false rejection stays at most alpha, however the tests depend on each other.
    """
    values = np.asarray(ps, dtype=float)
    order = np.argsort(values, kind="stable")
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(p) for p in adjusted]
