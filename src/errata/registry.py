"""What there is, by name, found without importing it: methods, tasks, data sets, models.

A method is one file in `errata/editors`, a task one YAML in `errata/capability/tasks`, a data set one
converter in `errata/data`. Nothing is listed twice: the names, papers and summaries are read from the
files themselves, so `errata list` needs neither torch nor the harness. Other packages add methods under
the entry point group `errata.editors` (name = "module:Class").
"""

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import yaml

from errata.errors import BadInput

if TYPE_CHECKING:
    from errata.editors.base import Editor

ENTRY_POINTS = "errata.editors"
_NOT_METHODS = {"__init__", "base"}


@dataclass(frozen=True)
class EditorInfo:
    """One method. home: `module:Class`. summary: first line of its file."""

    name: str
    home: str
    paper: str
    summary: str


@dataclass(frozen=True)
class TaskInfo:
    """One capability task. chance: the score of guessing, None where answers are free text."""

    name: str
    summary: str
    shots: int
    kind: str
    chance: float | None


@dataclass(frozen=True)
class DatasetInfo:
    """A source of edits: a name, or the ending of a file."""

    name: str
    summary: str


@dataclass(frozen=True)
class ModelInfo:
    """A model in the package, or a family whose models can be loaded (kind `family`)."""

    name: str
    kind: str
    summary: str


@cache
def editors() -> Mapping[str, EditorInfo]:
    """All methods by name: those in the package, then those of entry points."""
    sources = [p for p in files("errata.editors").iterdir() if p.name.endswith(".py")]
    found = [
        info
        for source in sorted(sources, key=lambda p: p.name)
        if source.name.removesuffix(".py") not in _NOT_METHODS
        for info in _editors_in(f"errata.editors.{source.name.removesuffix('.py')}", source.read_text("utf-8"))
    ]
    found += [EditorInfo(p.name, p.value, _origin(p), "") for p in entry_points(group=ENTRY_POINTS)]
    return {info.name: info for info in found}


def _editors_in(module: str, source: str) -> Iterable[EditorInfo]:
    """The classes of a file that state their `name` and `paper`, read from its syntax tree."""
    tree = ast.parse(source)
    summary = (ast.get_docstring(tree) or "").partition("\n")[0]
    for node in tree.body:
        constants = _constants(node) if isinstance(node, ast.ClassDef) else {}
        if {"name", "paper"} <= constants.keys() and isinstance(node, ast.ClassDef):
            yield EditorInfo(constants["name"], f"{module}:{node.name}", constants["paper"], summary)


def _constants(node: ast.ClassDef) -> dict[str, Any]:
    return {
        item.target.id: item.value.value
        for item in node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and isinstance(item.value, ast.Constant)
    }


def _origin(point: EntryPoint) -> str:
    return f"from {point.dist.name}" if point.dist else "from an entry point"


def load_editor(name: str, **options: Any) -> "Editor":
    """The method of that name with those hyperparameters.

    Raises BadInput for an unknown name or option, naming the near ones.
    """
    info = editors().get(name)
    if info is None:
        raise BadInput(unknown("method", name, editors(), "errata list methods"))
    module, _, attribute = info.home.partition(":")
    kind: type[Editor] = getattr(import_module(module), attribute)
    known = {field.name for field in fields(kind) if field.init}  # type: ignore[arg-type]
    for option in options:
        if option not in known:
            raise BadInput(unknown(f"option of {name}", option, known, f"errata list methods --method {name}"))
    frozen = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    try:
        return kind(**frozen)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{name} does not take these options: {error}. See: errata list methods --method {name}") from error


def unknown(what: str, name: str, known: Iterable[str], command: str) -> str:
    """The message for a name that does not exist: near matches first, else all, then the command that lists them."""
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.6)
    offer = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names) or 'none'}."
    return f"no {what} is called {name!r}; {offer} See: {command}"
