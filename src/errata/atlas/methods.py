"""Every method on the same edits of the embedded world: what is run, and the page made of it. No torch here."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import errata
from errata.atlas.world import cases
from errata.registry import check_method, editors, split_variant
from errata.report.formats import Table, to_markdown
from errata.runs.config import RunConfig
from errata.types import Progress

ORDERS = (1, 2, 3)
EDITS = (1, 10, 100, 300, 1000)
QUICK_EDITS = (1, 10, 100)
PROBED = 50
"""Edits that are probed at a checkpoint."""


Row = tuple[str, Mapping[str, Any]]
"""A method or its variant, and its options."""

BESIDE: Mapping[str, Sequence[Row]] = {
    "memit": [("memit", {"history": True})],
    **{name: [(f"{name}:released", {})] for name in ("grace", "kn", "mend", "pmet", "rome")},
}
"""MEMIT with its past keys, and the released code whose faults decide the results."""


def rows() -> list[Row]:
    """Every method, with what is set beside it behind it."""
    return [row for name in editors() for row in ((name, {}), *BESIDE.get(name, ()))]


def plan(rows: Sequence[Row], quick: bool, orders: int) -> list[RunConfig]:
    """A run for each row and the first `orders` orders, one after another, so that a stopped table has all methods.

    BadInput for an unknown method, variant or option.
    """
    for name, options in rows:
        check_method(name, options)
    return [
        RunConfig.model_validate(
            {
                "model": "atlas",
                "method": method,
                "options": dict(options),
                "data": "atlas",
                "edits": list(QUICK_EDITS if quick else EDITS),
                "seed": order,
                "probe_limit": PROBED,
                "stop_at_collapse": True,
                "second_moment": {"corpus": "atlas"},
            }
        )
        for order in ORDERS[:orders]
        for method, options in rows
    ]


def learn(methods: Sequence[str], progress: Progress | None = None, model: str = "atlas") -> None:
    """Train what must be trained beforehand, on edits that are made in no order; at once where that is done."""
    trained = {name for method in methods if editors()[name := split_variant(method)[0]].beforehand == "training"}
    if not trained:
        return
    from errata.model.loading import load
    from errata.training import train

    made = {case.request.id for order in ORDERS for case in cases(max(EDITS), seed=order)}
    others = [case for case in cases() if case.request.id not in made]
    for name in sorted(trained):
        train(load(model), others, name, source="atlas, edits made in no order", progress=progress)


def page(table: Table, options: str) -> str:
    """The table as a page of the documentation. options: of the command that made it."""
    command = f"errata atlas methods {options}".strip()
    made = f"Made by `{command}` with Errata {errata.__version__} on {datetime.now(UTC):%d %B %Y}."
    return f"# {table.title} of the embedded world\n\n{made}\n\n{to_markdown(table)}"
