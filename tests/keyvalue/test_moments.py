"""The streaming fitter against the whole."""

import pytest
import torch

from errata.keyvalue.moments import SecondMomentFitter


def test_streamed_equals_whole_and_is_a_mean() -> None:
    K = torch.randn(1000, 6, generator=torch.Generator().manual_seed(0))
    fitter = SecondMomentFitter(6)
    for part in K.split([1, 400, 599]):
        fitter.update(part)
    assert fitter.count == 1000
    assert torch.allclose(fitter.mean(), (K.double().T @ K.double() / 1000).float(), atol=1e-6)
    assert torch.equal(fitter.mean(), fitter.mean().T)


def test_half_precision_keys_are_not_added_in_half_precision() -> None:
    K = torch.full((4000, 2), 1.0, dtype=torch.bfloat16)
    assert torch.equal(SecondMomentFitter(2).update(K).mean(), torch.ones(2, 2))


def test_nothing_seen_has_no_mean() -> None:
    with pytest.raises(ValueError, match="no key"):
        SecondMomentFitter(2).mean()
