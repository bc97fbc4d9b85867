"""A tiny world for runs: facts, a model in a folder, and hyperparameters that are quick."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from errata.runs.config import RunConfig
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
    "grace": {"layer": 1, "steps": 3, "contexts": [[3, 4]]},
    "ike": {"layer": 0, "contexts": [[3, 4]]},
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


def save_model(folder: Path) -> None:
    tiny = tiny_model("llama", layers=2, width=32)
    tiny.model.save_pretrained(folder)
    tiny.tokenizer.save_pretrained(folder)


def content(folder: Path) -> dict[str, Any]:
    """Every file of a run but its costs; of the ledger all but the seconds, of config.yaml all but the commit."""
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    files.pop("costs.json", None)
    ledger = files.pop("ledger.jsonl")
    lines = [{**json.loads(line), "seconds": 0} for line in ledger.read_text().splitlines()]
    config = yaml.safe_load(files.pop("config.yaml").read_text())
    del config["versions"]["commit"]
    return {name: path.read_bytes() for name, path in files.items()} | {"ledger": lines, "config": config}
