"""What editing and evaluating take: seconds from the ledger, minutes and memory from the run's costs. No torch here."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from errata.report.formats import Column, Table
from errata.report.measures import Analysis
from errata.report.names import method_title, model_title
from errata.report.printed import printed, rows
from errata.runs.layout import RunDir
from errata.runs.recipe import benchmark_title

ENGINES = {"local": "without vLLM", "vllm": "with vLLM"}
"""Our engines, as Table 7 of paper 1 names what it compares."""


def costs(folder: Path) -> tuple[dict[str, tuple[int, float]], dict[str, int]]:
    """(kind of step -> how many and their seconds, bytes of memory at the most) of a run; empty if not noted."""
    file = RunDir(folder).costs
    if not file.is_file():
        return {}, {}
    found = json.loads(file.read_text("utf-8"))
    return {kind: (count, seconds) for kind, (count, seconds) in found["steps"].items()}, found["memory"]


def spent(run: Analysis, edits: int) -> float | None:
    """Seconds that the first so many edits took together; None if they were not made."""
    entries = [entry for entry in run.results.ledger if entry.batch and entry.edits <= edits]
    return sum(entry.seconds for entry in entries) if entries and entries[-1].edits == edits else None


def editing_table(name: str, runs: Sequence[tuple[str, Analysis]], published: str | None = None) -> Table:
    """Seconds of editing by method, model and number of edits, as in Table 8 of paper 1; and the memory.

    runs: each with its model as the paper names it.
    """
    made = [row for model, run in runs for row in (_editing(model, run, published) if run.results.edited else ())]
    return Table(
        name,
        "Seconds and memory of editing",
        "Seconds: of all edits up to there together, without what is built beforehand. An edit: the median. "
        "Memory: the most that the process held, model and libraries included; on a GPU also its tensors there. "
        "Published: on one GPU, of the paper's models.",
        (
            Column("Method", "text", ("method",)),
            Column("Model", "text", ("model",)),
            Column("# Edits", "count", ("edits",)),
            Column("Seconds", "number", ("seconds",)),
            Column("published", "number", ("published",)),
            Column("An edit", "number", ("each",)),
            Column("Memory (GiB)", "number", ("memory",)),
            Column("of the GPU", "number", ("gpu",)),
        ),
        tuple(made),
    )


def _editing(model: str, run: Analysis, published: str | None) -> list[dict[str, Any]]:
    _, memory = costs(run.results.path)
    each = [entry.seconds / len(entry.requests) for entry in run.results.ledger if entry.batch]
    own = model_title(run.results.model)
    shared: dict[str, Any] = {
        "method": method_title(run.results.method),
        "model": model if own == model_title(model) else f"{model} ({own})",
        "each": median(each) if each else None,
        **{key: memory[name] / 2**30 for key, name in (("memory", "process"), ("gpu", "gpu")) if name in memory},
    }
    found = []
    for edits in run.results.edited:
        name = method_title(run.results.method.partition(":")[0])
        known = printed(published, model, name, edits, "edit_time_seconds") if published else None
        found.append(shared | {"edits": edits, "seconds": spent(run, edits), "published": known and known.value})
    return found


def evaluation_table(name: str, runs: Sequence[Analysis], published: str | None = None) -> Table:
    """Minutes of evaluating one model by benchmark and engine, as in Table 7 of paper 1."""
    printed_minutes = {
        (row["method"], row["benchmark"].removesuffix("_minutes")): float(row["value"])
        for row in (rows(published) if published else ())
    }
    return Table(
        name,
        "Minutes of evaluation by engine",
        "Of one checkpoint, with starting the engine where it is started for each. Items a second: of all that were "
        "asked. Published: with and without vLLM, of Llama2-7B and the whole benchmarks; local is Errata's own engine, "
        "which is not what the paper ran without vLLM.",
        (
            Column("Engine", "text", ("engine",)),
            Column("Model", "text", ("model",)),
            Column("Benchmark", "text", ("benchmark",)),
            Column("Items", "count", ("n",)),
            Column("Minutes", "number", ("minutes",)),
            Column("Items a second", "number", ("rate",)),
            Column("Published minutes", "number", ("published",)),
        ),
        tuple(
            {**row, "published": printed_minutes.get((ENGINES[row["engine"]], row["benchmark"]))}
            for run in runs
            for row in _evaluations(run)
        ),
    )


def _evaluations(run: Analysis) -> list[dict[str, Any]]:
    steps, _ = costs(run.results.path)
    found = []
    for task in run.results.tasks:
        measure = run.get(0, task)
        if task in steps and measure is not None:
            count, seconds = steps[task]
            found.append(
                {
                    "engine": run.results.resolved.config.engine,
                    "model": model_title(run.results.model),
                    "benchmark": benchmark_title(task),
                    "n": measure.n,
                    "minutes": seconds / count / 60,
                    "rate": measure.n * count / seconds if seconds else None,
                }
            )
    return found
