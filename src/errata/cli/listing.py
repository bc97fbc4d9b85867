"""errata list: what there is, without loading any of it."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Any

import typer

from errata import registry
from errata.cli.options import Json
from errata.cli.output import emit, table
from errata.errors import BadInput


class Kind(StrEnum):
    """What can be listed."""

    METHODS = "methods"
    FILTERS = "filters"
    MODELS = "models"
    TASKS = "tasks"
    DATASETS = "datasets"


_SOURCES: Mapping[Kind, Callable[[], Mapping[str, Any]]] = {
    Kind.METHODS: registry.editors,
    Kind.FILTERS: registry.filters,
    Kind.MODELS: registry.models,
    Kind.TASKS: registry.listed_tasks,
    Kind.DATASETS: registry.datasets,
}
_COLUMNS = {
    Kind.METHODS: ("name", "paper", "family", "batch", "beforehand", "writes", "mergeable", "released"),
    Kind.FILTERS: ("name", "paper", "summary"),
    Kind.MODELS: ("name", "kind", "summary"),
    Kind.TASKS: ("name", "shots", "kind", "chance", "summary"),
    Kind.DATASETS: ("name", "summary"),
}


def list_(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    name: Annotated[str | None, typer.Argument(help="One of them, in full: for a method, its hyperparameters.")] = None,
    json: Json = False,
) -> None:
    """List methods, filters, models, tasks or datasets."""
    found = _SOURCES[kind]()
    if name is not None:
        _one(kind, name, found, json)
    elif json:
        emit({kind.value: [asdict(item) for item in found.values()]})
    else:
        columns = _COLUMNS[kind]
        table(columns, [[_cell(getattr(item, column), column) for column in columns] for item in found.values()])


def _one(kind: Kind, name: str, found: Mapping[str, Any], json: bool) -> None:
    if name not in found:
        raise BadInput(registry.unknown(kind.value.removesuffix("s"), name, found, f"errata list {kind.value}"))
    item = asdict(found[name])
    if json:
        emit(item)
        return
    options = item.pop("options", ())
    table(("field", "value"), [(key, _cell(value, key)) for key, value in item.items()])
    if options:
        typer.echo()
        table(("option", "type", "default"), [(o["name"], o["type"], o["default"]) for o in options])


def _cell(value: Any, column: str) -> str:
    if column == "chance" and value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value in (None, "") else str(value)
