"""The single setting batch by batch: what one of them alone does to the model, the worst first."""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from errata.report.formats import Column, Table
from errata.report.measures import Analysis
from errata.report.results import Single

WORST = 20
"""Batches of a run that are shown."""
SHOWN = ("efficacy", "generalization", "locality")


def singles(analyses: Sequence[Analysis]) -> Table:
    """One row for each of the batches that cost most ability, or perplexity where no ability was measured."""
    return Table(
        "singles",
        "Single batches, the worst first",
        f"Each batch alone on the unedited weights; the {WORST} of each run that cost most ability. Ability: mean "
        "change of accuracy over the benchmarks, in percentage points, on the same items.",
        (
            Column("Run", "text", ("run",)),
            Column("Edits", "text", ("requests",)),
            Column("Ability", "points", ("ability",)),
            *(Column(name.capitalize(), "share", (name,)) for name in SHOWN),
            Column("Perplexity", "number", ("perplexity",)),
        ),
        tuple(row for analysis in analyses for row in worst(analysis)[:WORST]),
    )


def worst(analysis: Analysis) -> list[dict[str, Any]]:
    """The batches of a run in the single setting, that which cost most first; empty in the sequential setting."""
    requests = {entry.edits: entry.requests for entry in analysis.results.ledger if entry.batch}
    rows = [_row(analysis, single, requests.get(single.edits, ())) for single in analysis.results.singles]
    return sorted(rows, key=_damage)


def _row(analysis: Analysis, single: Single, requests: Sequence[str]) -> dict[str, Any]:
    named = requests[0] if requests else str(single.edits)
    more = f" and {len(requests) - 1} more" if len(requests) > 1 else ""
    row: dict[str, Any] = {"run": analysis.label, "requests": named + more, "ability": _ability(analysis, single)}
    row |= {name: float(single.scores[name].correct.mean()) for name in SHOWN if name in single.scores}
    return row | {"perplexity": single.health.get("perplexity")}


def _ability(analysis: Analysis, single: Single) -> float | None:
    base = {task: analysis.results.get(0, task) for task in analysis.results.tasks if task in single.scores}
    changes = [
        float(single.scores[task].correct.mean() - before.correct.mean())
        for task, before in base.items()
        if before is not None
    ]
    return fmean(changes) if changes else None


def _damage(row: dict[str, Any]) -> tuple[float, float]:
    perplexity = row["perplexity"]
    unknown = perplexity is None or math.isnan(perplexity)
    return row["ability"] or 0.0, -math.inf if unknown else -perplexity
