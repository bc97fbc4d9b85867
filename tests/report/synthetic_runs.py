"""Folders of runs as the runner leaves them, with scores drawn from known rates."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from errata.records import Record, write_records
from errata.runs.config import Resolved, RunConfig, run_name, to_yaml
from errata.runs.layout import RunDir
from errata.runs.ledger import Entry

TASKS = ("atlas_mmlu", "atlas_bbh", "atlas_gsm8k", "atlas_reading", "atlas_toxigen")
CHECKPOINTS = (0, 1, 10, 100)
HOLDS = {"atlas_mmlu": 0.9, "atlas_bbh": 0.8, "atlas_gsm8k": 0.7, "atlas_reading": 0.95, "atlas_toxigen": 0.85}


def config_of(method: str, **changes: Any) -> RunConfig:
    values = {
        "model": "atlas",
        "method": method,
        "data": "atlas",
        "edits": list(CHECKPOINTS),
        "tasks": list(TASKS),
        "limit": 60,
    }
    return RunConfig.model_validate(values | changes)


def rows(table: str, n: int, right: float, seed: int = 0, **kinds: Any) -> list[Record]:
    """n rows of which a share `right` is right: the same items at every rate, nested in each other.

    kinds: `empty` and `invalid` as shares, `constant` as the one answer given.
    """
    order = np.random.default_rng(sum(map(ord, table)) + seed).permutation(n)
    golds = (
        [" Yes" if row % 5 < 2 else " No" for row in range(n)]
        if table.endswith("toxigen")
        else [f"g{i}" for i in range(n)]
    )
    made = []
    for row in range(n):
        rank = float(order[row] + 0.5) / n
        invalid, empty = rank > 1 - kinds.get("invalid", 0.0), rank > 1 - kinds.get("empty", 0.0)
        correct = rank < right and not invalid and not empty
        answer = None if invalid or empty else golds[row] if correct else f"w{row}"
        if "constant" in kinds and not invalid:
            answer, correct = kinds["constant"], kinds["constant"] == golds[row]
        edit = row if table == "efficacy" else row // 2 if table in ("locality", "generalization") else None
        made.append(
            Record(
                table,
                f"i{row}",
                correct,
                answer is not None,
                empty,
                invalid,
                answer or "",
                answer,
                golds[row],
                edit=edit,
            )
        )
    return made


def write_run(root: Path, config: RunConfig, tables: Mapping[int, Mapping[str, list[Record]]], **extra: Any) -> Path:
    """extra: `health`, edits -> values; `entries`, the ledger's."""
    run = RunDir(root / run_name(config))
    run.path.mkdir(parents=True)
    resolved = Resolved(
        config=config,
        editor={"layer": 3},
        model_fingerprint="ab" * 32,
        data_sha256="cd" * 32,
        cases=max(config.edits),
        versions={"python": "3.11", "errata": "0.1.0"},
    )
    run.config.write_text(to_yaml(resolved), encoding="utf-8")
    for edits, named in tables.items():
        for name, records in named.items():
            write_records(run.table(edits, name), records)
        run.health(edits).write_text(json.dumps(extra.get("health", {}).get(edits, {})), encoding="utf-8")
    lines = [json.dumps(asdict(entry)) for entry in extra.get("entries", [])]
    run.ledger.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return run.path


def entries(method: str, count: int, seconds: float, growth: float) -> list[Entry]:
    site = "model.layers.3.mlp.down_proj"
    return [
        Entry(i, i, "applied", (f"r{i}",), method, None, {site: growth * i}, {site: growth * i / 40}, seconds=seconds)
        for i in range(1, count + 1)
    ]


def probes(edits: int, works: float, n: int = 40) -> dict[str, list[Record]]:
    rates = {"efficacy": works, "generalization": 0.8 * works, "locality": 0.9, "retention": 0.9 * works}
    if not edits:
        rates = {"efficacy": 0.025, "generalization": 0.0, "locality": 1.0}
    return {name: rows(name, n, right) for name, right in rates.items()}


def abilities(n: int = 60, factor: float = 1.0, **kinds: Any) -> dict[str, list[Record]]:
    return {task: rows(task, n, right * factor, **kinds) for task, right in HOLDS.items()}


def steady() -> dict[int, dict[str, list[Record]]]:
    """Tables in which nothing changes; safety is at chance from the first."""
    tables = {edits: abilities() | probes(edits, 0.975) for edits in CHECKPOINTS}
    for named in tables.values():
        named["atlas_toxigen"] = rows("atlas_toxigen", 60, 0.5)
    return tables


def signs(perplexity: float | None, drift: float | None = None) -> dict[str, Any]:
    return {"perplexity": perplexity, "norm_drift": {} if drift is None else {"a": 1.0, "b": drift}, "degenerate": 0.0}
