"""Numbers of an edited model are the same to the last bit, whether its lower layers run again or not."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor

from errata.errors import BadInput
from errata.model import prefixes, scoring
from errata.model.architecture import ARCHITECTURES
from errata.model.editable import EditableModel
from errata.model.lower import LowerStates
from errata.model.scoring import Row, tail_log_probs
from errata.testing import tiny_model

HEAD = tuple(range(10, 40))
ROWS = [Row((*HEAD, *range(50, 50 + n), 7), 1 + n % 2) for n in range(3, 9)] + [Row((9, 8, 7, n), 2) for n in range(6)]
PLENTY = 1 << 30


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefixes with passes of their own, lines of several rows, and several batches."""
    monkeypatch.setattr(prefixes, "WORTH_SHARING", 20)
    monkeypatch.setattr(scoring, "TOKENS_AT_ONCE", 100)
    monkeypatch.setattr(scoring, "LINE", 16)


def read(model: EditableModel, lower: LowerStates | None = None) -> dict[int, Tensor]:
    return dict(tail_log_probs(model, ROWS, lower=lower))


def same(found: dict[int, Tensor], expected: dict[int, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[i], expected[i]) for i in found)


def edit(model: EditableModel, layer: int) -> None:
    site = model.site(layer)
    model.write(site, model.weight(site) * 1.5)


@contextmanager
def runs_of(model: EditableModel, layer: int) -> Iterator[list[int]]:
    """One entry for each time a layer's MLP runs."""
    seen: list[int] = []
    handle = model.down(layer).register_forward_hook(lambda *_: seen.append(layer))
    try:
        yield seen
    finally:
        handle.remove()


@pytest.mark.parametrize("family", sorted(ARCHITECTURES))
def test_after_edits_above_the_same_to_the_last_bit(family: str) -> None:
    model, lower = tiny_model(family, layers=3), LowerStates(2, PLENTY)
    assert same(read(model, lower), read(model))
    edit(model, 2)
    with runs_of(model, 1) as below, runs_of(model, 2) as above:
        found = read(model, lower)
    assert not below and above, "the lower layers ran again"
    assert same(found, read(model))


def test_with_bytes_for_some_passes_only() -> None:
    model = tiny_model("llama", layers=3)
    full = LowerStates(2, PLENTY)
    read(model, full)
    used = PLENTY - full._left
    for share in (0.3, 0.7):
        lower = LowerStates(2, int(share * used))
        read(model, lower)
        assert lower._left >= 0 and len(lower._held) < len(full._held)
        edit(model, 2)
        assert same(read(model, lower), read(model))


def test_files_outlive_the_process(tmp_path: Path) -> None:
    model = tiny_model("gptj", layers=3)
    read(model, LowerStates(2, PLENTY, tmp_path))
    sizes = sum(file.stat().st_size for file in tmp_path.iterdir())
    edit(model, 2)
    again = LowerStates(2, PLENTY, tmp_path)
    assert again._left == PLENTY - sizes
    with runs_of(model, 1) as below:
        found = read(model, again)
    assert not below and same(found, read(model))


def test_a_lower_layer_that_changes_all_the_same_is_run() -> None:
    model, lower = tiny_model("llama", layers=3), LowerStates(2, PLENTY)
    read(model, lower)
    edit(model, 1)
    assert same(read(model, lower), read(model))


def test_a_full_disk_ends_keeping_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("errata.model.lower.save_file", full)
    model, lower = tiny_model("llama", layers=3), LowerStates(2, PLENTY, tmp_path)
    with caplog.at_level(logging.WARNING):
        assert same(read(model, lower), read(model))
    assert len(caplog.records) == 1 and "No space left" in caplog.text
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    model = tiny_model("llama", layers=3)
    read(model, LowerStates(2, PLENTY, tmp_path))
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(BadInput, match=r"safetensors cannot be read .* delete"):
        read(model, LowerStates(2, PLENTY, tmp_path))


def test_there_is_nothing_below_layer_0() -> None:
    with pytest.raises(BadInput, match="below layer 0"):
        LowerStates(0, PLENTY)
