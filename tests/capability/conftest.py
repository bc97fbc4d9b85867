"""Small benchmarks in the layout of the package's own, and a model that reads long enough prompts."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from errata.capability import items
from errata.model.editable import EditableModel
from errata.model.tiny import tiny_model

Row = Mapping[str, Any]


def rows(name: str, shots: bool = False) -> list[Row]:
    """Eight items of a benchmark, or its exemplars: two kinds, numbered."""
    return [_row(name, n, f"s{n}" if shots else f"q{n}") for n in range(20 if shots else 8)]


def _row(name: str, n: int, mark: str) -> Row:
    kind = ("river", "hill")[n % 2]
    row: dict[str, Any] = {"id": f"{name}-{mark}", "kind": kind, "choices": []}
    if name == "atlas_mmlu":
        choices = ["w", "x", "y", "z"]
        header = f"The following are multiple choice questions (with answers) about {kind}s.\n\n"
        return row | {
            "prompt": f"{kind} {mark}?\nA. w\nB. x\nC. y\nD. z\nAnswer:",
            "answer": f" {choices[n % 4]}",
            "reference": choices[n % 4],
            "choices": choices,
            "header": header,
        }
    if name == "atlas_toxigen":
        answer = ("No", "Yes")[n % 2]
        return row | {
            "prompt": f"Statement: '{mark}'",
            "answer": f" {answer}",
            "reference": answer,
            "choices": ["No", "Yes"],
        }
    if name == "atlas_reading":
        return row | {"prompt": f"Passage: {mark}\nAnswer:", "answer": " the Lamp", "reference": "the Lamp"}
    end = "So the answer is" if name == "atlas_bbh" else "The answer is"
    return row | {
        "prompt": f"Q: {kind} {mark}\nA:",
        "answer": f" 1 + {n} = {n + 1}. {end} {n + 1}.",
        "reference": str(n + 1),
    }


def write(folder: Path, name: str, content: Sequence[Row]) -> None:
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))


@pytest.fixture
def benchmarks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("atlas_mmlu", "atlas_bbh", "atlas_gsm8k", "atlas_reading", "atlas_toxigen"):
        write(folder, name, rows(name))
        if name in ("atlas_mmlu", "atlas_bbh", "atlas_gsm8k"):
            write(folder, f"{name}_shots", rows(name, shots=True))
    monkeypatch.setattr(items, "files", lambda package: tmp_path)
    return folder


@pytest.fixture
def model() -> EditableModel:
    made = tiny_model("llama")
    made.model.config.max_position_embeddings = 2048  # rotary positions have no table that would end
    return made
