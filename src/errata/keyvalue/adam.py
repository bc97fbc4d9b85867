"""A step of Adam as a function of tensors, which stay as they are.

Source: Kingma, Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015 (arXiv 1412.6980), algorithm 1, with the
decay rates and the epsilon that are the paper's defaults and torch's.
"""

from torch import Tensor


def adam(
    value: Tensor, gradient: Tensor, first: Tensor, second: Tensor, step: int, rate: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Value and moments after a step, all of one shape. first, second: zero before the first step. step: from 1."""
    first = 0.9 * first + 0.1 * gradient
    second = 0.999 * second + 0.001 * gradient.square()
    scale = (second / (1 - 0.999**step)).sqrt() + 1e-8
    return value - rate * first / (1 - 0.9**step) / scale, first, second
