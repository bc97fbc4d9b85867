"""The tables on several orders of the same edits."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from errata.report.formats import Column, Table, edits_text, points
from errata.report.measures import Analysis
from errata.report.names import ability_title, model_title
from errata.report.orders import Orders
from errata.stats.curves import excluded_loss


def order_tables(found: Sequence[Orders]) -> list[Table]:
    """Both tables; none where every run stands alone."""
    return [order_verdicts(found), order_curves(found)] if found else []


def order_verdicts(found: Sequence[Orders]) -> Table:
    """One row for each set of runs: what holds over orders, and in each of them."""
    return Table(
        "orders",
        "What several orders of the same edits show",
        "Ability: mean accuracy over benchmarks and orders after the last checkpoint that all orders have reached; its "
        "95 % interval is for other items and other orders. Safe up to: the mean over orders excludes a loss of "
        f"{points(found[0].margin, sign=False)} or more on every benchmark at every checkpoint so far, and no order "
        "collapsed. Collapse: of the mean over orders. In each: the same of the orders one by one, least first.",
        (
            _text("Run", "run"),
            _text("Model", "model"),
            Column("Orders", "count", ("orders",)),
            Column("Edits", "count", ("edits",)),
            Column("Unedited", "share", ("unedited",)),
            Column("Ability", "share", ("ability",)),
            Column("95 %", "range", ("low", "high")),
            _text("Safe up to", "safe"),
            _text("In each", "safe_each"),
            _text("Collapse", "collapse"),
            _text("In each", "collapse_each"),
        ),
        tuple(_order_verdict(orders) for orders in found),
    )


def _order_verdict(orders: Orders) -> dict[str, Any]:
    last, results = orders.checkpoints[-1], orders.runs[0].results
    row: dict[str, Any] = {"run": orders.label, "model": model_title(results.model), "orders": len(orders.runs)}
    row["edits"] = last
    if 0 in orders.ability:
        row["unedited"] = orders.ability[0].value
    if last in orders.ability:
        mean = orders.ability[last]
        row |= {"ability": mean.value, "low": mean.low, "high": mean.high}
    if not orders.curve:
        return row
    return row | {
        "safe": _edits(orders.horizon, "not shown"),
        "safe_each": _listed((run.horizon for run in orders.runs), 0, "not shown"),
        "collapse": _edits(orders.collapse.edits if orders.collapse else None, "none seen"),
        "collapse_each": _listed(map(_collapse, orders.runs), float("inf"), "none seen"),
    }


def _collapse(run: Analysis) -> int | None:
    return run.collapse.edits if run.collapse else None


def _edits(count: int | None, none: str) -> str:
    return none if count is None else edits_text(count)


def _listed(counts: Iterable[int | None], place: float, none: str) -> str:
    """The counts in order; None is written `none` and stands where `place` would."""
    ordered = sorted(counts, key=lambda count: place if count is None else count)
    return ", ".join(none if count is None else f"{count:,}" for count in ordered)


def order_curves(found: Sequence[Orders]) -> Table:
    """The mean over orders at every checkpoint, by benchmark and over all of them."""
    return Table(
        "orders-curve",
        "Abilities over several orders",
        "Mean over orders, with a 95 % interval for other items and other orders (Student's t for the orders: few that "
        "differ leave it wide). Change: against the unedited model, in percentage points. Verdict and loss excluded: "
        "as for single runs. Only checkpoints that all orders have reached.",
        (
            _text("Run", "run"),
            Column("Edits", "count", ("edits",)),
            _text("Benchmark", "benchmark"),
            Column("Accuracy", "share", ("accuracy",)),
            Column("95 %", "range", ("low", "high")),
            Column("Change", "points", ("change",)),
            Column("95 %", "points-range", ("change_low", "change_high")),
            _text("Verdict", "verdict"),
            Column("Loss excluded", "size", ("loss_excluded",)),
            Column("Orders", "count", ("orders",)),
        ),
        tuple(row for orders in found for edits in orders.checkpoints for row in _curve(orders, edits)),
    )


def _curve(orders: Orders, edits: int) -> Iterator[dict[str, Any]]:
    shared = {"run": orders.label, "edits": edits, "orders": len(orders.runs)}
    if edits in orders.ability:
        mean = orders.ability[edits]
        yield shared | {"benchmark": "All", "accuracy": mean.value, "low": mean.low, "high": mean.high}
    for task in orders.tasks:
        row: dict[str, Any] = shared | {"task": task, "benchmark": ability_title(task)}
        if task in orders.accuracy[edits]:
            mean = orders.accuracy[edits][task]
            row |= {"accuracy": mean.value, "low": mean.low, "high": mean.high}
        if task in orders.curve.get(edits, {}):
            change = orders.curve[edits][task]
            row |= {"change": change.difference, "change_low": change.low, "change_high": change.high}
            row |= {"verdict": orders.verdict(edits, task), "loss_excluded": excluded_loss(change)}
        yield row


def _text(title: str, key: str) -> Column:
    return Column(title, "text", (key,))
