"""Table 6 of paper 1: what each benchmark is, as printed and as it is here. No torch here."""

from typing import Any

from errata.registry import tasks
from errata.report.formats import Column, Table
from errata.report.printed import faults, rows
from errata.runs.recipe import Recipe, scales


def benchmark_table(recipe: Recipe) -> Table:
    """One row for each benchmark of the recipe."""
    return Table(
        recipe.id,
        recipe.title,
        "Published: exemplars, items, metric and evaluation as printed; what is known to be wrong with the number of "
        "items is said beside it. Task: what stands for it here, with its exemplars; chance: the score of guessing.",
        (
            Column("Benchmark", "text", ("benchmark",)),
            Column("Type", "text", ("task_type",)),
            Column("# Ex.", "count", ("n_fewshot",)),
            Column("# Test", "count", ("n_test",)),
            Column("Metric", "text", ("metric",)),
            Column("Evaluation", "text", ("evaluation_method",)),
            Column("Task", "text", ("task",)),
            Column("Shots", "count", ("shots",)),
            Column("Chance", "share", ("chance",)),
            Column("Of the printed number", "text", ("fault",)),
        ),
        tuple(_row(name) for name in recipe.benchmarks),
    )


def _row(name: str) -> dict[str, Any]:
    printed = {row["benchmark"]: row["value"] for row in rows("table6") if row["model"].rstrip("*") == name}
    task = scales()["paper"].benchmarks.get(name, name)
    known = tasks().get(task or "")
    row: dict[str, Any] = {"benchmark": name, **printed}
    row |= {key: int(printed[key]) for key in ("n_fewshot", "n_test") if key in printed}
    row["fault"] = " ".join(fault.told for fault in faults("table6") if fault.model == name)
    return row | ({"task": known.name, "shots": known.shots, "chance": known.chance} if known else {})
