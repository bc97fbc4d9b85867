"""The papers' experiments: the runs that a table or figure takes, on their models or on the embedded ones. No torch.

A recipe is a YAML in `recipes/`, or a user's copy of one. It names models, benchmarks and data as the paper does;
`recipes/scales.yaml` says what these names stand for at a scale. A name that is not there stands for itself.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import product
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from errata.errors import BadInput
from errata.registry import RELEASED, editors, models, split_variant, unknown
from errata.runs.config import RunConfig, parse_config
from errata.types import Engine, Protocol, Scale
from errata.yamls import read_yaml

SHARED = {"models", "methods", "benchmarks", "data", "protocols", "grid", "settings", "quick", "stand_ins"}
"""What a recipe takes from the one whose grid it is a part of, where it does not say otherwise."""
Panels = Literal["method", "benchmark", "method and benchmark", "method and model"]
Shows = Literal["abilities", "cases", "benchmarks", "evaluation", "editing", "weights", "success"]


class Grid(BaseModel):
    """A block of a recipe's runs: every method × batch size × filter, in every model.

    methods: names of `errata list methods`. models: as the paper names them; default: all of the recipe.
    edits: measure after so many. operations: in place of it, after so many batches; one batch is `operations: [1]`.
    batch: sizes of batches. filters: what clips updates; none by default.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    methods: list[str] = Field(min_length=1)
    models: list[str] | None = None
    edits: list[int] | None = None
    operations: list[int] | None = None
    batch: list[int] = [1]
    filters: list[dict[str, Any] | str | None] = [None]

    @model_validator(mode="after")
    def _one_of_two(self) -> "Grid":
        if (self.edits is None) == (self.operations is None):
            raise ValueError("give either `edits` or `operations`")
        return self

    def counts(self, batch: int) -> list[int]:
        """Edits after which a run of that batch size is measured."""
        return self.edits if self.edits is not None else [batch * count for count in self.operations or ()]


class Cases(BaseModel):
    """A case study: one item of a benchmark, answered after so many edits."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    benchmark: str
    edits: list[int]


class Quick(BaseModel):
    """What `--quick` leaves of a recipe: these models and methods, checkpoints and batch sizes among these; settings.

    None leaves all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: list[str] | None = None
    methods: list[str] | None = None
    edits: list[int] | None = None
    batch: list[int] | None = None
    settings: dict[str, Any] = {}


class Recipe(BaseModel):
    """One table or figure.

    shows: what is made of the records. grid_of: a recipe whose grid this one takes a part of: then `models` and
    `methods`, where given, say which. models, benchmarks, data: as the paper names them.
    protocols: fixed, each method as its paper has it; paper, as the released code does it, where that departs.
    engines: what answers the benchmarks, a run for each. cases: of a case study. panels: what a figure has a panel for.
    published: its file of printed numbers. settings: keys of a run config, over those of the scale.
    stand_ins: models in place of those of `scales.yaml` at the scale atlas. note: what a reader must know.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    paper: Literal[1, 2]
    title: str
    shows: Shows = "abilities"
    grid_of: str | None = None
    models: list[str] = []
    methods: list[str] | None = None
    benchmarks: list[str] = []
    data: str = "CounterFact"
    protocols: list[Protocol] = ["fixed", "paper"]
    grid: list[Grid] = []
    engines: list[Engine] = ["local"]
    cases: Cases | None = None
    panels: Panels | None = None
    published: str | None = None
    settings: dict[str, Any] = {}
    stand_ins: dict[str, str | None] = {}
    quick: Quick = Quick()
    note: str = ""


class ScaleTable(BaseModel):
    """What the papers' names stand for at one scale; None for what has no counterpart there.

    settings: keys of a run config. published_tasks: runs of the paper's protocol answer the tasks as published.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: dict[str, str | None]
    benchmarks: dict[str, str | None]
    data: dict[str, str | None]
    settings: dict[str, Any] = {}
    published_tasks: bool = False


@dataclass(frozen=True)
class Planned:
    """One run of a recipe. model: as the paper names it."""

    config: RunConfig
    model: str


@dataclass(frozen=True)
class Request:
    """How a recipe is to be run.

    models: what the paper's names of models stand for, over the scale. protocol: one of the recipe's protocols alone.
    orders: of the edits, a run for each. data: file of edits in place of the scale's. corpus: text for second moments.
    data_dir: as in a run config.
    """

    scale: Scale = "atlas"
    quick: bool = False
    models: Mapping[str, str] = field(default_factory=dict)
    protocol: Protocol | None = None
    orders: int = 1
    data: str | None = None
    corpus: str | None = None
    data_dir: str | None = None


@cache
def names() -> tuple[str, ...]:
    """IDs of the package's recipes, in the papers' order: tables, figures, the rest."""
    found = [entry.name.removesuffix(".yaml") for entry in _folder().iterdir()]
    return tuple(sorted((name for name in found if name.startswith(("p1-", "p2-"))), key=_place))


def _folder() -> Traversable:
    return files("errata.runs").joinpath("recipes")


def _place(name: str) -> tuple[str, int, int, str]:
    paper, _, rest = name.partition("-")
    kind = rest.rstrip("0123456789")
    order = ["table", "figure"].index(kind) if kind in ("table", "figure") else 2
    return paper, order, int(rest.removeprefix(kind) or 0), rest


def read_recipe(name: str) -> Recipe:
    """The package's recipe of that ID, or that in the file of that name. BadInput if there is neither."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        try:
            return _parse(path.read_text("utf-8"), name)
        except OSError as error:
            raise BadInput(
                f"{name}: {error.strerror or error}. Copy one: errata reproduce ID --show > {name}"
            ) from error
    return _parse(source(name), name)


def source(name: str) -> str:
    """The YAML of one of the package's recipes, as it is written. BadInput for another name."""
    if name not in names():
        raise BadInput(unknown("recipe", name, names(), "errata reproduce --list"))
    return _folder().joinpath(f"{name}.yaml").read_text("utf-8")


@cache
def scales() -> Mapping[str, ScaleTable]:
    """The scales by name."""
    text = _folder().joinpath("scales.yaml").read_text("utf-8")
    return {name: ScaleTable.model_validate(fields) for name, fields in read_yaml(text).items()}


def plan(recipe: Recipe, request: Request) -> list[Planned]:
    """The runs of a recipe; each once.

    BadInput where nothing is left: no model of the recipe has a counterpart at the scale.
    """
    table = scales()[request.scale]
    found = [
        run
        for order in range(1, request.orders + 1)
        for model, grid in _blocks(recipe, request)
        for run in _runs(recipe, request, table, model, grid, order)
    ]
    if not found and recipe.shows != "benchmarks":
        raise BadInput(
            f"{recipe.id}: none of {', '.join(recipe.models)} has a counterpart at the scale {request.scale}; "
            "name one under `stand_ins` in a copy of the recipe, or take --scale paper."
        )
    return list({run.config.model_dump_json(): run for run in found}.values())


def check_models(planned: Sequence[Planned]) -> None:
    """BadInput that names the embedded models which are asked for and are not in the package."""
    known = {name for name, info in models().items() if info.kind == "embedded"}
    asked = dict.fromkeys(p.config.model for p in planned)
    missing = [name for name in asked if name.startswith("atlas") and name not in known]
    if missing:
        there = [name for name in asked if name in known]
        rest = f" The others are there: leave it out in a copy of the recipe ({', '.join(there)})." if there else ""
        raise BadInput(
            f"no embedded model is called {', '.join(missing)}: this version of Errata has {', '.join(sorted(known))}."
            f"{rest} See: errata list models"
        )


def _blocks(recipe: Recipe, request: Request) -> Iterator[tuple[str, Grid]]:
    """(model as the paper names it, block of the grid)."""
    for model in recipe.models:
        if request.quick and recipe.quick.models is not None and model not in recipe.quick.models:
            continue
        yield from ((model, grid) for grid in recipe.grid if model in (grid.models or recipe.models))


def _runs(recipe: Recipe, request: Request, table: ScaleTable, model: str, grid: Grid, order: int) -> Iterator[Planned]:
    quick = recipe.quick
    name = _model(recipe, request, table, model)
    if name is None:
        return
    for method in grid.methods:
        if recipe.methods is not None and split_variant(method)[0] not in recipe.methods:
            continue
        for variant in _variants(method, recipe, request):
            if request.quick and quick.methods is not None and variant not in quick.methods:
                continue
            for batch in grid.batch:
                counts = _counts(grid, batch, quick if request.quick else Quick())
                for clip, engine in product(grid.filters, recipe.engines) if counts else ():
                    cell = {"batch": batch, "edits": counts, "filter": clip, "engine": engine, "seed": order}
                    yield Planned(_config(recipe, request, table, {"model": name, "method": variant, **cell}), model)


def _model(recipe: Recipe, request: Request, table: ScaleTable, model: str) -> str | None:
    if model in request.models:
        return request.models[model]
    if request.scale == "atlas" and model in recipe.stand_ins:
        return recipe.stand_ins[model]
    return table.models.get(model, model)


def _variants(method: str, recipe: Recipe, request: Request) -> list[str]:
    """The method as its paper has it, as released, or both; one that is written with its variant as it is."""
    protocols = recipe.protocols if request.protocol is None else [request.protocol]
    name, variant = split_variant(method)
    if variant is not None or not editors()[name].released:
        return [method]
    return [name if protocol == "fixed" else f"{name}:{RELEASED}" for protocol in protocols]


def _counts(grid: Grid, batch: int, quick: Quick) -> list[int]:
    if quick.batch is not None and batch not in quick.batch:
        return []
    counts = grid.counts(batch)
    if quick.edits is None:
        return counts
    if grid.operations is None:
        return [count for count in counts if count in quick.edits]
    return [count for count in counts if count <= max(quick.edits)]


def _config(recipe: Recipe, request: Request, table: ScaleTable, cell: Mapping[str, Any]) -> RunConfig:
    """cell: what differs within the recipe."""
    given = {"second_moment": request.corpus and {"corpus": request.corpus}, "data_dir": request.data_dir}
    values: dict[str, Any] = {
        **cell,
        "data": request.data or table.data.get(recipe.data) or recipe.data,
        "tasks": _tasks(recipe, table, released=cell["method"].endswith(f":{RELEASED}")),
        **table.settings,
        **({"select": "seeded"} if request.orders > 1 else {}),
        **recipe.settings,
        **(recipe.quick.settings if request.quick else {}),
        **{key: value for key, value in given.items() if value is not None},
    }
    return parse_config(values, recipe.id)


def _tasks(recipe: Recipe, table: ScaleTable, released: bool) -> list[str]:
    found = [table.benchmarks.get(name, name) for name in recipe.benchmarks]
    suffix = ":paper" if released and table.published_tasks else ""
    return [f"{task}{suffix}" for task in found if task is not None]


def benchmark_title(task: str) -> str:
    """A benchmark as the papers name it: "p1_mmlu:paper" -> "MMLU"; the task's own name if they have none."""
    return _titles("benchmarks").get(task.partition(":")[0], task)


def model_titles(model: str) -> list[str]:
    """The papers' names of a model that a run was of, or that the run's model stands for; none for others."""
    return [title for table in scales().values() for title, name in table.models.items() if name == model]


@cache
def _titles(what: Literal["benchmarks"]) -> Mapping[str, str]:
    return {
        name: title for table in scales().values() for title, name in getattr(table, what).items() if name is not None
    }


def _parse(text: str, where: str) -> Recipe:
    try:
        values = read_yaml(text)
    except yaml.YAMLError as error:
        raise BadInput(f"{where} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise BadInput(f"{where}: expected keys and values, such as `id: p1-table2`; found {type(values).__name__}.")
    try:
        return Recipe.model_validate(_with_shared(values))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())
        raise BadInput(f"{where}: {wrong}. Compare with: errata reproduce p1-table2 --show") from error


def _with_shared(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a recipe over those that it takes from the recipe whose grid it is a part of."""
    if "grid_of" not in values:
        return dict(values)
    base = read_recipe(str(values["grid_of"])).model_dump(include=SHARED, exclude_unset=True)
    quick = {**base.get("quick", {}), **values.get("quick", {})}
    return {**base, **values, "quick": quick}
