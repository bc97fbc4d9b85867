"""The findings of runs as a document for programs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from errata.errors import BadInput
from errata.registry import tasks
from errata.report.measures import Analysis, analyse
from errata.report.orders import Orders, pooled
from errata.report.results import read_results
from errata.report.sentences import headline, sentences
from errata.report.tables import written
from errata.stats.curves import Break


def summarize(run_dirs: Sequence[Path], margin: float | None = None) -> dict[str, Any]:
    """The findings as a JSON-able document with stable keys. BadInput if a folder is no measured run.

    headline, sentences: as on the page. margin: the loss that "no harm" excludes. runs: one entry each, with
    verdicts (`safe_horizon`, `first_loss`, `collapse`: None if none), `status` and `measures` by edits. orders: one
    entry for each set of runs that differ in their order of the edits alone.
    """
    return document(read(run_dirs, margin))


def read(run_dirs: Sequence[Path], margin: float | None = None) -> list[Analysis]:
    """The runs in those folders, read and weighed. margin: see `analyse`."""
    if not run_dirs:
        raise BadInput("no run to report on; name the folders of runs: errata report runs/*")
    unique = list(dict.fromkeys(Path(path) for path in run_dirs))
    chances = {name: task.chance for name, task in tasks().items() if task.chance is not None}
    return analyse([read_results(path) for path in unique], chances, margin)


def document(analyses: Sequence[Analysis]) -> dict[str, Any]:
    """What `summarize` returns, of runs that were read."""
    return {
        "headline": headline(analyses),
        "sentences": [asdict(sentence) for sentence in sentences(analyses)],
        "margin": analyses[0].margin,
        "runs": [_run(analysis) for analysis in analyses],
        "orders": [_orders(orders) for orders in pooled(analyses)],
    }


def _run(analysis: Analysis) -> dict[str, Any]:
    results, config = analysis.results, analysis.results.resolved.config
    asked = {key: getattr(config, key) for key in ("model", "method", "data", "setting", "batch", "seed", "limit")}
    return {
        "label": analysis.label,
        "folder": str(results.path),
        **asked,
        "edits": analysis.last,
        "checkpoints": list(results.checkpoints),
        "status": {str(edits): analysis.status(edits) for edits in results.checkpoints},
        "safe_horizon": analysis.horizon,
        "first_loss": _break(analysis, analysis.loss),
        "collapse": _break(analysis, analysis.collapse),
        "ability": {str(edits): asdict(mean) for edits, mean in analysis.ability.items()},
        "ability_change": {str(edits): asdict(mean) for edits, mean in analysis.change.items()},
        "measures": {str(edits): _measures(analysis, edits) for edits in results.checkpoints},
        "health": {str(edits): dict(values) for edits, values in results.health.items()},
        "ledger": written(analysis.entries),
    }


def _measures(analysis: Analysis, edits: int) -> dict[str, dict[str, Any]]:
    """Each table's rates; of an ability also the paired change, and what to know before reading it."""
    changes = analysis.curve.get(edits, {})
    return {
        name: asdict(measure)
        | {"change": _change(analysis, edits, name) if name in changes else None}
        | {"flags": list(analysis.flags(edits, name)) if name in analysis.results.tasks else []}
        for name, measure in analysis.measures[edits].items()
    }


def _change(analysis: Analysis, edits: int, task: str) -> dict[str, Any]:
    change = analysis.curve[edits][task]
    return asdict(change) | {
        "p_holm": analysis.adjusted[edits][task],
        "verdict": analysis.verdict(edits, task),
        "p_tost": analysis.equivalence(edits, task),
        "detectable": analysis.detectable(edits, task),
    }


def _orders(orders: Orders) -> dict[str, Any]:
    found = orders.collapse
    return {
        "label": orders.label,
        "runs": [run.label for run in orders.runs],
        "seeds": [run.results.resolved.config.seed for run in orders.runs],
        "checkpoints": list(orders.checkpoints),
        "safe_horizon": orders.horizon,
        "collapse": {"benchmark": found.benchmark, "edits": found.edits, **asdict(found.change)} if found else None,
        "ability": {str(edits): asdict(mean) for edits, mean in orders.ability.items()},
        "accuracy": {str(n): {task: asdict(mean) for task, mean in row.items()} for n, row in orders.accuracy.items()},
        "change": {
            str(edits): {task: asdict(it) | {"verdict": orders.verdict(edits, task)} for task, it in row.items()}
            for edits, row in orders.curve.items()
        },
    }


def _break(analysis: Analysis, found: Break | None) -> dict[str, Any] | None:
    if found is None:
        return None
    adjusted = analysis.adjusted[found.edits][found.benchmark]
    return {"benchmark": found.benchmark, "edits": found.edits, **asdict(found.change), "p_holm": adjusted}


def whole_configs(analyses: Sequence[Analysis]) -> Mapping[str, dict[str, Any]]:
    """File name -> the config that asks all items of each benchmark; empty where that was done."""
    sampled = [analysis.results for analysis in analyses if analysis.results.resolved.config.limit is not None]
    return {
        f"{run.path.name}-whole.yaml": run.resolved.config.model_dump(mode="json", exclude_defaults=True)
        | {"limit": None}
        for run in sampled
    }
