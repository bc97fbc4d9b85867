"""A tiny model in a folder, edits and a corpus for it, and configs that name them."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from errata.runs.config import RunConfig, parse_config
from errata.testing import tiny_model

FACTS = (
    ("France", "Lyon", "Paris"),
    ("Germany", "Bonn", "Berlin"),
    ("Spain", "Toledo", "Madrid"),
    ("Italy", "Milan", "Rome"),
)
OPTIONS: dict[str, Any] = {
    "rome": {"layer": 0, "steps": 2, "contexts": [[2, 2]], "ridge": 0.1},
    "memit": {"layers": [0, 1], "steps": 2, "contexts": [[2, 2]], "moment_weight": 10, "history": True},
}
MakeConfig = Callable[..., RunConfig]


def rows() -> list[dict[str, Any]]:
    return [
        {
            "id": subject.lower(),
            "prompt": f"The capital of {subject} is",
            "subject": subject,
            "target_new": new,
            "target_true": true,
            "paraphrases": [f"{subject} has the capital"],
            "neighbours": [{"prompt": "The capital of Norway is", "answer": "Oslo"}],
        }
        for subject, new, true in FACTS
    ]


def write_rows(path: Path, content: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
    return path


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


def save_model(folder: Path) -> None:
    tiny = tiny_model("llama", layers=2, width=32)
    tiny.model.save_pretrained(folder)
    tiny.tokenizer.save_pretrained(folder)


@pytest.fixture
def make_config(world: Path) -> MakeConfig:
    """Changes to the keys -> a config for the tiny model: ROME, measured after 1 and 3 edits."""

    def make(**changes: Any) -> RunConfig:
        method = changes.get("method", "rome")
        keys = {
            "model": str(world / "model"),
            "method": method,
            "options": OPTIONS[method],
            "data": str(world / "edits.jsonl"),
            "edits": [1, 3],
            "second_moment": {"corpus": str(world / "corpus.txt"), "tokens": 400},
        }
        return parse_config(keys | changes)

    return make
