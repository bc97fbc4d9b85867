"""Keys of earlier edits: none is lost, and the sum is renewed as seldom as pays."""

import torch

from errata.keyvalue.history import Past, past


def keys(n: int, d_in: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d_in, generator=torch.Generator().manual_seed(seed))


def test_the_sum_and_the_recent_keys_hold_every_key_once() -> None:
    batches = [keys(n, 16, seed) for seed, n in enumerate([1, 1, 3, 1, 1, 1, 2, 9, 1])]
    held = Past()
    for batch in batches:
        held = past(held.with_keys(batch).state(5), 5)
    assert held.total is not None and held.recent is not None
    every = torch.cat(batches)
    assert torch.allclose(held.total + held.recent.T @ held.recent, every.T @ every, atol=1e-5)


def test_the_sum_changes_once_in_as_many_single_edits_as_the_root_of_the_dimensions() -> None:
    held, sums = Past(), set()
    for seed in range(64):
        held = held.with_keys(keys(1, 256, seed))
        assert held.recent is not None and len(held.recent) <= 16
        sums.add(id(held.total))
    assert len(sums) == 4  # none, and after 17, 33 and 49 edits
    large = Past(None, keys(100, 256, 0)).with_keys(keys(100, 256, 1))
    assert large.total is not None, "200 keys are more than the root of 100 x 256"
