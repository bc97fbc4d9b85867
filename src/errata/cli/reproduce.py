"""errata reproduce: a table or figure of the papers, from its recipe to its numbers."""

import os
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from errata.cli.options import Corpus, DataDir, Json
from errata.cli.output import duration, emit, note, progress, table
from errata.errors import BadInput

if TYPE_CHECKING:
    from errata.report.formats import Table
    from errata.report.reproduction import Reproduced
    from errata.runs.recipe import Planned, Recipe, Request


class Scale(StrEnum):
    """On which models."""

    ATLAS = "atlas"
    PAPER = "paper"


class Protocol(StrEnum):
    """How methods are run."""

    FIXED = "fixed"
    PAPER = "paper"


def reproduce(
    recipe: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Such as p1-table2, or a YAML: a recipe that was copied.")
    ] = None,
    scale: Annotated[
        Scale,
        typer.Option(help="atlas: the embedded models. paper: those of the papers, if they are here."),
    ] = Scale.ATLAS,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer methods, checkpoints, items.")] = False,
    protocol: Annotated[
        Protocol | None,
        typer.Option(help="fixed: methods as their papers have them. paper: as the released code. Default: both."),
    ] = None,
    orders: Annotated[int, typer.Option(min=1, max=3, help="How many orders of the edits, a run for each.")] = 1,
    edits: Annotated[
        Path | None, typer.Option(help="File of edits in place of the recipe's; the scale paper needs one.")
    ] = None,
    corpus: Corpus = None,
    data_dir: DataDir = None,
    root: Annotated[Path, typer.Option(help="Folder of the runs; the same command goes on there.")] = Path("runs"),
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the tables and the report. Default: reproduced/ID.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Runs at the same time. Default: one for each core.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="The recipes, and what each costs at the scale.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the recipe's YAML, to be copied and changed.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the runs and what they cost; run nothing.")] = False,
    json: Json = False,
) -> None:
    """Run the experiment behind a table or figure of the papers, and print it beside the published numbers.

    The same command again goes on where a stopped one was; recipes with the same runs share them.
    """
    from errata.runs.recipe import Request, plan, read_recipe, source

    request = Request(
        scale.value,
        quick,
        None if protocol is None else protocol.value,
        orders,
        None if edits is None else str(edits),
        corpus,
        data_dir,
    )
    if list_:
        _list(request, json)
        return
    if recipe is None:
        raise BadInput("name a recipe, such as p1-table2. All of them, and what each costs: errata reproduce --list")
    if show:
        typer.echo(source(recipe), nl=False)
        return
    asked = read_recipe(recipe)
    planned = plan(asked, request)
    if dry_run:
        _dry_run(asked, planned, request, json)
        return
    _reproduce(asked, planned, request, root, out or Path("reproduced") / asked.id, workers, json)


def _list(request: "Request", json: bool) -> None:
    from errata.runs.recipe import cost, names, plan, read_recipe

    found = []
    for name in names():
        recipe = read_recipe(name)
        found.append((recipe, cost(plan(recipe, request), request.scale)))
    if json:
        emit({"scale": request.scale, "recipes": [{"id": r.id, "title": r.title, **vars(c)} for r, c in found]})
        return
    header = ("id", "title", "runs", "edits", "answers", "hours")
    table(
        header,
        [(r.id, r.title, str(c.runs), f"{c.edits:,}", f"{c.answers:,}", f"{c.seconds / 3600:.1f}") for r, c in found],
    )
    where = "one core of a desktop" if request.scale == "atlas" else "the papers' GPU (their Tables 7 and 8)"
    note(f"Hours: an estimate for one run after the other on {where}. Recipes share runs that are the same.")


def _dry_run(recipe: "Recipe", planned: Sequence["Planned"], request: "Request", json: bool) -> None:
    from errata.runs.config import run_name
    from errata.runs.recipe import cost

    total = cost(planned, request.scale)
    if json:
        runs = [
            {"folder": run_name(p.config), "stands_for": p.model, "config": p.config.model_dump(mode="json")}
            for p in planned
        ]
        emit({"recipe": recipe.id, "scale": request.scale, **vars(total), "configs": runs})
        return
    rows = [_planned_row(p, cost([p], request.scale).seconds) for p in planned]
    table(("model", "stands for", "method", "batch", "edits", "tasks", "items", "time"), rows)
    note(f"{total.runs} runs, {total.edits:,} edits, {total.answers:,} answers: about {duration(total.seconds)} in all")


def _planned_row(planned: "Planned", seconds: float) -> tuple[str, ...]:
    config = planned.config
    method = f"{config.method}:{config.preset}" if config.preset else config.method
    clip = f" {config.filter['name']}" if config.filter else ""
    counts = ", ".join(map(str, config.edits))
    items = "all" if config.limit is None else str(config.limit)
    tasks = ", ".join(config.tasks) or "none"
    return config.model, planned.model, method + clip, str(config.batch), counts, tasks, items, duration(seconds)


def _reproduce(
    recipe: "Recipe",
    planned: Sequence["Planned"],
    request: "Request",
    root: Path,
    out: Path,
    workers: int | None,
    json: bool,
) -> None:
    from errata.report.reproduction import reproduction

    runs, failed = _runs(planned, request, root, workers)
    made = reproduction(recipe, runs, _question(request))
    page = _write(made, runs, out)
    folders = list(dict.fromkeys(str(run.analysis.results.path) for run in runs))
    if json:
        tables = [{"name": t.name, "title": t.title, "caption": t.caption, "rows": list(t.rows)} for t in made]
        told = {"recipe": recipe.id, "scale": request.scale, "report": page and str(page)}
        emit({**told, "runs": folders, "failed": failed, "tables": tables})
    else:
        for each in made:
            _print(each)
        if page is not None:
            note(f"What the papers found, on these runs: errata findings {' '.join(folders)}")
            typer.echo(page)
    if failed:
        raise typer.Exit(1)


def _print(shown: "Table") -> None:
    from errata.report.formats import cell

    typer.echo(f"\n{shown.title}\n")
    table([column.title for column in shown.columns], [[cell(c, row) for c in shown.columns] for row in shown.rows])
    note(f"\n{shown.caption}\n")


def _runs(
    planned: Sequence["Planned"], request: "Request", root: Path, workers: int | None
) -> tuple[list["Reproduced"], list[str]]:
    """The recipe's runs, brought to their end and weighed, in its order; and the folders of those that failed."""
    from errata.report.reproduction import Reproduced
    from errata.report.summary import read
    from errata.runs.executors import Here, Processes
    from errata.runs.recipe import check_models
    from errata.runs.sweep import raise_failures, run_sweep

    if not planned:
        return [], []
    check_models(planned)
    ready = _possible(planned)
    _learn(ready, request)
    most = workers or min(len(ready), os.cpu_count() or 1)
    with progress() as bar:
        ended = run_sweep([p.config for p in ready], root, Here() if most == 1 else Processes(most), bar)
    failed = [outcome for outcome in ended if outcome.error is not None]
    if len(failed) == len(ended):
        raise_failures(ended)
    for outcome in failed:
        note(f"{outcome.run.path.name} failed and is left out: {outcome.error} (log: {outcome.log or 'none'})")
    whole = [(p, outcome) for p, outcome in zip(ready, ended, strict=True) if outcome not in failed]
    found = read([outcome.run.path for _, outcome in whole])
    runs = [Reproduced(p.model, analysis) for (p, _), analysis in zip(whole, found, strict=True)]
    return runs, [str(outcome.run.path) for outcome in failed]


def _possible(planned: Sequence["Planned"]) -> list["Planned"]:
    """Without the runs of an engine that is not installed."""
    from importlib.util import find_spec

    left_out = [p for p in planned if p.config.engine == "vllm" and find_spec("vllm") is None]
    if left_out:
        note(f"vLLM is not installed, so {len(left_out)} of {len(planned)} runs are left out (docs/install.md)")
    return [p for p in planned if p not in left_out]


def _learn(planned: Sequence["Planned"], request: "Request") -> None:
    """Train beforehand what the embedded world has edits for; elsewhere a run says what to train."""
    if request.data is not None or request.scale != "atlas":
        return
    from errata.atlas.methods import learn

    with progress() as bar:
        for model in dict.fromkeys(p.config.model for p in planned):
            learn([p.config.method for p in planned if p.config.model == model], bar, model)


def _question(request: "Request") -> Any:
    def ask(task: str, item: str) -> str | None:
        from errata.capability.harness import question

        return question(task, item, request.data_dir or ("atlas" if request.scale == "atlas" else None))

    return ask


def _write(made: Sequence["Table"], runs: Sequence["Reproduced"], out: Path) -> Path | None:
    """The recipe's tables as files, and the report of its runs, if it has any. The report's page."""
    from errata.report.formats import to_csv, to_latex, to_markdown
    from errata.report.html import report
    from errata.runs.layout import atomic

    for each in made:
        texts = {"csv": to_csv(each), "tex": to_latex(each), "md": f"# {each.title}\n\n{to_markdown(each)}"}
        for ending, text in texts.items():
            with atomic(out / f"{each.name}.{ending}") as draft:
                draft.write_text(text, "utf-8")
    paths = list(dict.fromkeys(run.analysis.results.path for run in runs))
    return report(paths, out) if paths else None
