"""Keys and values that are shared, written in place and kept give what a plain cache gives."""

import pytest
import torch
from transformers import DynamicCache

from errata.model import caches
from errata.model.caches import PrefixCache, Reserved, for_rows, nbytes, prefill
from errata.model.editable import EditableModel
from errata.testing import tiny_model
from errata.update.delta import WeightDelta


def states(n: int, tokens: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    made = torch.Generator().manual_seed(seed)
    return torch.randn(n, 2, tokens, 4, generator=made), torch.randn(n, 2, tokens, 4, generator=made)


def test_in_place_equals_growing_and_rows_leave() -> None:
    plain, reserved = DynamicCache(), Reserved(9)
    places = torch.tensor([0, 3, 2])  # of four rows the second leaves: the last takes its place
    for step, tokens in enumerate((4, 1, 1)):
        given = states(4, tokens, step)
        expected, found = plain.update(*given, 0), reserved.update(*given)
        assert all(map(torch.equal, found, expected))
    where = reserved.keys.data_ptr()
    plain.batch_select_indices(places)
    reserved.batch_select_indices(places)
    given = states(3, 1, 9)
    assert all(map(torch.equal, reserved.update(*given), plain.update(*given, 0)))
    assert reserved.get_seq_length() == 7 and reserved.keys.data_ptr() == where, "the memory was copied"


def test_one_prefix_for_many_rows_takes_no_memory_of_its_own() -> None:
    model = tiny_model("llama")
    cache = prefill(model, (5, 6, 7))
    rows = for_rows(cache, 4)
    given = torch.randn(4, 2, 2, 8), torch.randn(4, 2, 2, 8)
    keys, _ = rows.update(*given, 0)
    assert torch.equal(keys, torch.cat([cache.layers[0].keys.expand(4, -1, -1, -1), given[0]], -2))
    assert rows.layers[0].keys.shape[0] == 4 and rows.layers[0].keys.data_ptr() == cache.layers[0].keys.data_ptr()
    assert cache.layers[0].keys.shape[0] == 1 and rows.get_seq_length() == cache.get_seq_length() == 3


@pytest.fixture
def model() -> EditableModel:
    return tiny_model("llama")


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The prefixes that were computed."""
    seen: list[tuple[int, ...]] = []
    monkeypatch.setattr(caches, "prefill", lambda model, ids: seen.append(ids) or prefill(model, ids))
    return seen


def test_a_prefix_is_computed_once(model: EditableModel, computed: list[tuple[int, ...]]) -> None:
    kept = PrefixCache(1 << 20)
    first = kept.get(model, (5, 6, 7))
    assert kept.get(model, (5, 6, 7)) is first and kept.get(model, (5, 6)) is not first
    assert computed == [(5, 6, 7), (5, 6)]


def test_what_was_used_last_stays_within_the_bound(model: EditableModel, computed: list[tuple[int, ...]]) -> None:
    size = nbytes(prefill(model, (1, 2, 3)))
    kept = PrefixCache(2 * size)
    for ids in ((1, 2, 3), (4, 5, 6), (1, 2, 3), (7, 8, 9), (1, 2, 3), (4, 5, 6)):
        kept.get(model, ids)
    assert computed == [(1, 2, 3), (4, 5, 6), (7, 8, 9), (4, 5, 6)]


def test_nothing_is_kept_without_room(model: EditableModel, computed: list[tuple[int, ...]]) -> None:
    none = PrefixCache(0)
    none.get(model, (1, 2)), none.get(model, (1, 2))
    assert len(computed) == 2


def test_another_model_is_asked_anew(model: EditableModel, computed: list[tuple[int, ...]]) -> None:
    kept, site = PrefixCache(1 << 20), model.site(0)
    kept.get(model, (1, 2))
    model.write(site, 2 * model.weight(site))
    changed = kept.get(model, (1, 2))
    assert len(computed) == 2
    with model.overlay(WeightDelta({site: torch.ones_like(model.weight(site))})):
        overlaid = kept.get(model, (1, 2))
    assert not torch.equal(overlaid.layers[1].keys, changed.layers[1].keys)
    assert torch.equal(kept.get(model, (1, 2)).layers[1].keys, changed.layers[1].keys)
