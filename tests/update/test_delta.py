"""Factors against the dense matrices they stand for, and updates on disk."""

from pathlib import Path

import pytest
import torch

from errata.errors import BadInput
from errata.update.delta import LowRank, WeightDelta
from errata.update.storage import load_update, save_update


def update() -> WeightDelta:
    generator = torch.Generator().manual_seed(0)
    return WeightDelta(
        {
            "b.down": LowRank(torch.randn(2, 5, generator=generator).T, torch.randn(2, 7, generator=generator)),
            "a.down": torch.randn(5, 7, generator=generator),
        }
    )


@pytest.mark.parametrize("site", ["a.down", "b.down"])
def test_factors_act_and_measure_as_the_dense_matrix(site: str) -> None:
    x = torch.randn(3, 4, 7, generator=torch.Generator().manual_seed(1))
    dense = update().dense(site)
    torch.testing.assert_close(update().apply(site, x), x @ dense.T)
    assert update().norms()[site] == pytest.approx(float(dense.norm()))


def test_norm_of_a_diverged_update_is_not_a_number_that_looks_fine() -> None:
    diverged = LowRank(torch.full((5, 1), torch.inf), torch.ones(1, 7))
    assert not torch.isfinite(torch.tensor(diverged.norm()))


def test_updates_are_stored_exactly(tmp_path: Path) -> None:
    save_update(tmp_path / "new" / "00001.safetensors", update())
    loaded = load_update(tmp_path / "new" / "00001.safetensors")
    assert sorted(loaded.sites) == sorted(update().sites)
    assert isinstance(loaded.sites["b.down"], LowRank), "factors must stay factors"
    for site in loaded.sites:
        assert torch.equal(loaded.dense(site), update().dense(site))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["00001.safetensors"]
    with pytest.raises(BadInput, match=r"00002\.safetensors cannot be read"):
        load_update(tmp_path / "new" / "00002.safetensors")
