"""Methods side by side after so many edits, each pooled over orders of the same edits. No torch here."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from errata.report.formats import Column, Table
from errata.report.measures import measure
from errata.report.names import method_title
from errata.report.results import Results, joined
from errata.stats.curves import given_up

SHOWN = ("efficacy", "generalization", "locality", "retention")


def survey(runs: Sequence[Results]) -> Table:
    """One row for each method, with its options, and number of edits; its runs differ in the order of edits alone."""
    shares = [(Column(name.capitalize(), "share", (name,)), _range(name)) for name in SHOWN]
    return Table(
        "methods",
        "Methods on the same edits",
        "Shares by free generation with 95 % intervals, those of one edit counted as going together, pooled over the "
        "orders. Efficacy: the last edits and a sample of earlier ones; retention: the earlier ones alone. Seconds: "
        "median of an edit's, of the order where it is least: the others may have shared the machine. Collapsed: the "
        "interval of locality lies below 30 %; no further edits were made.",
        (
            Column("Method", "text", ("method",)),
            Column("Edits", "count", ("edits",)),
            *(column for pair in shares for column in pair),
            Column("Seconds an edit", "number", ("seconds",)),
            Column("Orders", "count", ("orders",)),
            Column("", "text", ("note",)),
        ),
        tuple(row for method in _by_method(runs) for row in _rows(method)),
    )


def _range(name: str) -> Column:
    return Column("95 %", "range", (f"{name}_low", f"{name}_high"))


def _by_method(runs: Sequence[Results]) -> list[list[Results]]:
    groups: dict[str, list[Results]] = {}
    for run in runs:
        groups.setdefault(_title(run), []).append(run)
    return list(groups.values())


def _title(run: Results) -> str:
    """ "MEMIT, history: true"; a filter is named behind the method."""
    config = run.resolved.config
    clip = config.filter or {}
    stated = [*config.options.items(), *((f"{clip['name']} {key}", clip[key]) for key in clip if key != "name")]
    return ", ".join([method_title(run.method), *(f"{key}: {json.dumps(value)}" for key, value in stated)])


def _rows(runs: Sequence[Results]) -> Iterator[dict[str, Any]]:
    """One for each number of edits, up to where the last order collapsed."""
    fallen: set[Path] = set()
    for edits in filter(None, runs[0].asked):
        there = [run for run in runs if edits in run.edited]
        fallen |= {run.path for run in there if _collapsed(run, edits)}
        row: dict[str, Any] = {"method": _title(runs[0]), "edits": edits, "orders": len(there)}
        for name in SHOWN:
            found = [scores for run in there if (scores := run.get(edits, name)) is not None]
            if found:
                pooled = measure(joined(found))
                row |= {name: pooled.accuracy, f"{name}_low": pooled.low, f"{name}_high": pooled.high}
        yield row | {"seconds": _seconds(there, edits), "note": f"{len(fallen)} collapsed" if fallen else ""}
        if len(fallen) == len(runs):
            return


def _collapsed(run: Results, edits: int) -> bool:
    kept = run.get(edits, "locality")
    return kept is not None and given_up(kept.correct, kept.edit)


def _seconds(runs: Sequence[Results], edits: int) -> float | None:
    """Median over batches of the seconds that an edit took, in the order where it was least."""
    spent = [
        [entry.seconds / len(entry.requests) for entry in run.ledger if entry.batch and entry.edits <= edits]
        for run in runs
    ]
    return min((median(order) for order in spent if order), default=None)
