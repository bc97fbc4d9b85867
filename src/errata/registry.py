"""What there is, by name, found without importing it: methods, filters, tasks, data sets, models.

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
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING, Any

import yaml

from errata.errors import BadInput

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from errata.editors.base import Editor
    from errata.keyvalue.filters import Filter

ENTRY_POINTS = "errata.editors"
RELEASED = "released"
"""The variant of a method that does what the papers' released code or configuration did."""
FIXED = "fixed"
"""The default protocol of the papers' benchmarks, measured right; the other one is "paper", faults included."""
_NOT_METHODS = {"__init__", "base"}


@dataclass(frozen=True)
class Option:
    """One hyperparameter, as its file states it."""

    name: str
    type: str
    default: str


@dataclass(frozen=True)
class EditorInfo:
    """One method, as its class states it, see `Editor`; None for what it does not state.

    home: `module:Class`. summary: first line of its file. options: in its order.
    """

    name: str
    home: str
    paper: str
    summary: str
    family: str | None = None
    batch: bool | None = None
    beforehand: str | None = None
    writes: str | None = None
    mergeable: bool | None = None
    released: str | None = None
    options: tuple[Option, ...] = ()


@dataclass(frozen=True)
class FilterInfo:
    """What can clip an update. summary: first line of its docstring."""

    name: str
    home: str
    paper: str
    summary: str
    options: tuple[Option, ...] = ()


@dataclass(frozen=True)
class TaskInfo:
    """One capability task, or a group of them (kind "group", without shots).

    kind: the harness' output type. chance: the score of guessing, None where answers are free, so that it has none.
    """

    name: str
    summary: str
    shots: int | None
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
    from importlib.metadata import entry_points

    sources = [p for p in files("errata.editors").iterdir() if p.name.endswith(".py")]
    found = [
        EditorInfo(**stated, summary=_first_line(ast.get_docstring(tree)))
        for source in sorted(sources, key=lambda p: p.name)
        if (module := source.name.removesuffix(".py")) not in _NOT_METHODS
        for tree in [ast.parse(source.read_text("utf-8"))]
        for _, stated in _described(f"errata.editors.{module}", tree, EditorInfo)
    ]
    found += [EditorInfo(p.name, p.value, _origin(p), "") for p in entry_points(group=ENTRY_POINTS)]
    return {info.name: info for info in found}


@cache
def filters() -> Mapping[str, FilterInfo]:
    """What can clip updates, by name."""
    tree = ast.parse(files("errata.keyvalue").joinpath("filters.py").read_text("utf-8"))
    described = _described("errata.keyvalue.filters", tree, FilterInfo)
    return {
        stated["name"]: FilterInfo(**stated, summary=_first_line(ast.get_docstring(node))) for node, stated in described
    }


def _described(module: str, tree: ast.Module, kind: type[Any]) -> Iterable[tuple[ast.ClassDef, dict[str, Any]]]:
    """The classes of a file that state their `name` and `paper`, and of what they state the fields of `kind`."""
    wanted = {field.name for field in fields(kind)}
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and {"name", "paper"} <= _constants(node).keys():
            lineage = [parent for _, parent in _lineage(tree, node)]
            stated = {name: value for parent in lineage for name, value in _constants(parent).items() if name in wanted}
            options = {option.name: option for parent in lineage for option in _options(parent)}
            yield node, {**stated, "home": f"{module}:{node.name}", "options": tuple(options.values())}


def _lineage(tree: ast.Module, node: ast.ClassDef) -> Iterable[tuple[ast.Module, ast.ClassDef]]:
    """A class and its bases in the package with their files, in the order in which a dataclass takes their fields."""
    for base in node.bases:
        if isinstance(base, ast.Name) and (definition := _definition(tree, base.id)):
            yield from _lineage(*definition)
    yield tree, node


def _fields(node: ast.ClassDef) -> Iterable[tuple[str, str, ast.expr | None]]:
    """Name, annotation and default of each annotated attribute."""
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            yield item.target.id, ast.unparse(item.annotation), item.value


def _constants(node: ast.ClassDef) -> dict[str, Any]:
    """What a class states of itself."""
    stated = ((name, value) for name, kind, value in _fields(node) if kind.startswith("ClassVar"))
    return {name: value.value for name, value in stated if isinstance(value, ast.Constant)}


def _options(node: ast.ClassDef) -> Iterable[Option]:
    """The hyperparameters that a class adds to those of its bases."""
    for name, kind, value in _fields(node):
        if not kind.startswith("ClassVar"):
            yield Option(name, kind, ast.unparse(value) if value else "required")


def _definition(tree: ast.Module, name: str) -> tuple[ast.Module, ast.ClassDef] | None:
    """A class with the file that defines it: this one, or the module of the package that it is imported from."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return tree, node
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}:
            package, _, module = (node.module or "").rpartition(".")
            if not package.startswith("errata"):
                return None
            return _definition(ast.parse(files(package).joinpath(f"{module}.py").read_text("utf-8")), name)
    return None


def _origin(point: "EntryPoint") -> str:
    return f"from {point.dist.name}" if point.dist else "from an entry point"


@cache
def tasks() -> Mapping[str, TaskInfo]:
    """All capability tasks in the package by name; the harness' own tasks can be named as well."""
    found = [_task(fields) for fields in _task_files() if "group" not in fields]
    return {info.name: info for info in sorted(found, key=lambda info: info.name)}


@cache
def task_groups() -> Mapping[str, tuple[str, ...]]:
    """The groups of the package's tasks by name, with their members."""
    found = {fields["group"]: tuple(fields["task"]) for fields in _task_files() if "group" in fields}
    return dict(sorted(found.items()))


def listed_tasks() -> Mapping[str, TaskInfo]:
    """Tasks, then groups."""
    groups = {name: TaskInfo(name, ", ".join(parts), None, "group", None) for name, parts in task_groups().items()}
    return {**tasks(), **groups}


def expand_tasks(names: Iterable[str]) -> list[str]:
    """Each task once: groups of the package as their members, and NAME:fixed, the default protocol, as NAME.

    BadInput for a protocol that a task of the package does not have.
    """
    found: list[str] = []
    for name in names:
        base, _, protocol = name.partition(":")
        known = base if protocol == FIXED else name
        if protocol and known not in tasks() and known not in task_groups() and base in {*tasks(), *task_groups()}:
            variants = sorted(other for other in [*tasks(), *task_groups()] if other.partition(":")[0] == base)
            raise BadInput(f"{base} has no protocol {protocol!r}; there are {', '.join(variants)}")
        found += task_groups().get(known, (known,))
    return list(dict.fromkeys(found))


@cache
def _task_files() -> tuple[Mapping[str, Any], ...]:
    sources = [p for p in files("errata.capability").joinpath("tasks").iterdir() if p.name.endswith(".yaml")]
    return tuple(_with_included(path) for path in sorted(sources, key=lambda path: path.name))


def _with_included(path: Traversable) -> dict[str, Any]:
    """A task's YAML over the file that it includes, as the harness merges them: by whole keys."""
    own = read_task(path)
    shared = own.pop("include", None)
    beside = files("errata.capability").joinpath("tasks")
    return {**(_with_included(beside.joinpath(shared)) if shared else {}), **own}


def read_task(path: Traversable) -> dict[str, Any]:
    """What a YAML of the harness says, its functions as text."""
    fields: dict[str, Any] = yaml.load(path.read_text("utf-8"), _TaskLoader)
    return fields


class _TaskLoader(yaml.SafeLoader):  # type: ignore[misc]
    """A safe loader to which the harness' `!function module.name` is text."""


_TaskLoader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))


def _task(fields: Mapping[str, Any]) -> TaskInfo:
    metadata = fields.get("metadata", {})
    return TaskInfo(
        fields["task"],
        metadata.get("summary", ""),
        fields.get("num_fewshot", 0),
        fields["output_type"],
        metadata.get("chance"),
    )


def datasets() -> Mapping[str, DatasetInfo]:
    """Where edits come from: named data sets, then the layouts of files that are recognised."""
    from errata.data.layouts import data_sets

    found = [
        DatasetInfo("atlas", "facts of the embedded world, each with paraphrases, neighbours and two-hop questions"),
        DatasetInfo("FILE.jsonl", "one edit a line: prompt, subject, target_new; .json and .csv as well"),
    ]
    for name, module in data_sets().items():
        found.append(DatasetInfo(name, f"a file, recognised: {_first_line(module.__doc__)}"))
    return {info.name: info for info in found}


def models() -> Mapping[str, ModelInfo]:
    """The models in the package, then the families of which any model can be loaded."""
    from errata.atlas import MODELS
    from errata.model.architecture import ARCHITECTURES

    embedded = [ModelInfo(name, "embedded", f"{folder}, in the package") for name, folder in MODELS.items()]
    families = [
        ModelInfo(name, "family", f"edited at {row.layers}.N.{row.down}") for name, row in ARCHITECTURES.items()
    ]
    return {info.name: info for info in [*embedded, *families]}


def _first_line(docstring: str | None) -> str:
    return (docstring or "").strip().partition("\n")[0]


def editor_class(name: str) -> "type[Editor]":
    """The class of a method. BadInput for an unknown name, naming the near ones."""
    info = editors().get(name)
    if info is None:
        raise BadInput(unknown("method", name, editors(), "errata list methods"))
    module, _, attribute = info.home.partition(":")
    kind: type[Editor] = getattr(import_module(module), attribute)
    return kind


def split_variant(method: str) -> tuple[str, str | None]:
    """ "rome:released" -> "rome" and "released". BadInput for a variant that does not exist."""
    name, _, variant = method.partition(":")
    if not variant:
        return name, None
    if name not in editors():
        raise BadInput(unknown("method", name, editors(), "errata list methods"))
    if variant != RELEASED or not editors()[name].released:
        has = f"its variant is {RELEASED}" if editors()[name].released else "it has none"
        raise BadInput(f"{name} has no variant {variant!r}; {has}. See: errata list methods {name}")
    return name, variant


def check_options(name: str, options: Iterable[str]) -> None:
    """BadInput for an option that the method does not have, naming the near ones."""
    known = {field.name for field in fields(editor_class(name)) if field.init}  # type: ignore[arg-type]
    for option in options:
        if option not in known:
            raise BadInput(unknown(f"option of {name}", option, known, f"errata list methods {name}"))


def load_editor(name: str, **options: Any) -> "Editor":
    """The method of that name with those hyperparameters; lists, as YAML gives them, stand for tuples.

    BadInput for an unknown name, an unknown or missing option, or a value that cannot be.
    """
    check_options(name, options)
    frozen = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    try:
        return editor_class(name)(**frozen)
    except (TypeError, ValueError) as error:
        wrong = _wrong_kind(name, frozen) or f"does not take these options: {error}"
        raise BadInput(f"{name} {wrong}. See: errata list methods {name}") from error


def _wrong_kind(name: str, options: Mapping[str, Any]) -> str:
    """What was given as text and is none."""
    kinds = {option.name: option.type for option in editors()[name].options}
    texts = [key for key, value in options.items() if isinstance(value, str) and "str" not in kinds.get(key, "str")]
    return " and ".join(f"got {key}={options[key]}, which should be {kinds[key]}" for key in texts)


def check_filter(wanted: Mapping[str, Any] | str | None) -> dict[str, Any] | None:
    """The filter as {"name": ..., option: ...} with all its options, however it was given; None for none.

    BadInput for an unknown name or option, naming the near ones.
    """
    if wanted is None:
        return None
    stated = {"name": wanted} if isinstance(wanted, str) else dict(wanted)
    name = str(stated.get("name"))
    if name not in filters():
        raise BadInput(unknown("filter", name, filters(), "errata list filters"))
    known = {option.name: ast.literal_eval(option.default) for option in filters()[name].options}
    for option in stated.keys() - {"name"} - known.keys():
        raise BadInput(unknown(f"option of the filter {name}", option, known, f"errata list filters {name}"))
    return {"name": name, **known, **stated}


def load_filter(wanted: Mapping[str, Any] | str | None) -> "Filter | None":
    """The filter of that name, or with those options, such as {"name": "rect", "keep": 0.4}; None for none.

    BadInput for an unknown name or option, or a value that cannot be.
    """
    stated = check_filter(wanted)
    if stated is None:
        return None
    from errata.keyvalue.filters import FILTERS

    name = stated.pop("name")
    try:
        return FILTERS[name](**stated)
    except (TypeError, ValueError) as error:
        raise BadInput(
            f"the filter {name} does not take these options: {error}. See: errata list filters {name}"
        ) from error


def unknown(what: str, name: str, known: Iterable[str], command: str) -> str:
    """The message for a name that does not exist: near matches first, else all, then the command that lists them."""
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.6)
    offer = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names) or 'none'}."
    return f"no {what} is called {name!r}; {offer} See: {command}"
