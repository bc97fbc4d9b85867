"""The layouts of public data sets, each recognised by fields that only it has.

A data set is a file in this folder with `LAYOUTS`: fields that mark a record -> the function that makes of it the
fields of its edits (`errata.data.fields`). Other packages add modules with `LAYOUTS` under the entry point group
`errata.data`.
"""

import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from errata.data.rows import Row, shorten
from errata.errors import BadInput

ENTRY_POINTS = "errata.data"
Convert = Callable[[dict[str, Any]], Iterator[dict[str, Any]]]
"""A record -> the fields of each of its edits; none where the record asks for nothing."""


@dataclass(frozen=True)
class Layout:
    """name: of the data set. marks: fields that only its records have."""

    name: str
    marks: Sequence[str]
    convert: Convert


@cache
def data_sets() -> Mapping[str, ModuleType]:
    """The modules with layouts by the name of their data set: those in the package, then those of entry points."""
    names = [info.name for info in pkgutil.iter_modules([str(Path(__file__).parent)])]
    modules = {name: import_module(f"{__package__}.{name}") for name in names}
    modules |= {point.name: point.load() for point in entry_points(group=ENTRY_POINTS)}
    return {name: module for name, module in modules.items() if hasattr(module, "LAYOUTS")}


def recognise(fields: Mapping[str, Any]) -> Layout | None:
    """The layout of a record, by its fields; None for none of them."""
    for name, module in data_sets().items():
        for marks, convert in module.LAYOUTS.items():
            if fields.keys() >= set(marks):
                return Layout(name, marks, convert)
    return None


def converted(row: Row, layout: Layout | None) -> list[Row]:
    """One row in the one form for each edit of a record; the row itself where it has no layout of its own.

    BadInput for a record that lacks something.
    """
    if layout is None:
        return [row]
    try:
        return [replace(row, fields=fields) for fields in layout.convert(row.fields)]
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        found = shorten(row.fields)
        raise BadInput(f"{row.where}: not a complete {layout.name} record ({error!r}); found {found}") from error
