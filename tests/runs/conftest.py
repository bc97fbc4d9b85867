"""A tiny model in a folder, edits and a corpus for it, and configs that name them."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_world import OPTIONS, MakeConfig, rows, save_model, write_rows

from errata.runs.config import RunConfig, parse_config


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `model`, `edits.jsonl` and `corpus.txt`."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("world")
    save_model(folder / "model")
    write_rows(folder / "edits.jsonl", rows())
    letters = random.Random(0)
    words = ("".join(letters.choices("abcdefghijklmnopqrstuvwxyz", k=5)) for _ in range(600))
    texts = (" ".join(chunk) for chunk in zip(*[words] * 10, strict=True))
    (folder / "corpus.txt").write_text("\n".join(texts), encoding="utf-8")
    return folder


@pytest.fixture
def make_config(world: Path) -> MakeConfig:
    """Changes to the keys -> a config for the tiny model: ROME, measured after 1 and 3 edits."""

    def make(**changes: Any) -> RunConfig:
        method = changes.get("method", "rome")
        keys = {
            "model": str(world / "model"),
            "method": method,
            "options": OPTIONS.get(method, {}),
            "data": str(world / "edits.jsonl"),
            "edits": [1, 3],
            "second_moment": {"corpus": str(world / "corpus.txt"), "tokens": 400},
        }
        return parse_config(keys | changes)

    return make
