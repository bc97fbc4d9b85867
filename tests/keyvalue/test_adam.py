"""The step is torch's."""

import torch

from errata.keyvalue.adam import adam


def test_adam_is_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    theirs = torch.nn.Parameter(value.clone())
    optimiser = torch.optim.Adam([theirs], lr=0.01)
    first, second = torch.zeros_like(value), torch.zeros_like(value)
    for step in range(1, 6):
        theirs.grad = torch.randn(5, 3, generator=generator, dtype=torch.float64)
        value, first, second = adam(value, theirs.grad, first, second, step, 0.01)
        optimiser.step()
    assert torch.allclose(value, theirs, atol=1e-12)
