"""errata reproduce: a table or figure of the papers, from its recipe to its numbers."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from errata.cli.options import Corpus, DataDir, Json, settings
from errata.cli.output import emit, note, progress, table
from errata.cli.sweep import ExecutorName, amounts, carry_out, launcher, preview
from errata.errors import BadInput
from errata.registry import editors
from errata.runs.machine import cores
from errata.types import Protocol, Scale

if TYPE_CHECKING:
    from errata.report.formats import Table
    from errata.report.reproduction import Reproduced
    from errata.runs.estimates import Planner
    from errata.runs.executors import Executor
    from errata.runs.recipe import Planned, Recipe, Request
    from errata.runs.sweep import Outcome

RETRIES = 2
"""Further attempts at a run that fails."""


def reproduce(
    recipe: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Such as p1-table2, or a YAML: a recipe that was copied.")
    ] = None,
    scale: Annotated[
        Scale,
        typer.Option(help="atlas: the embedded models. paper: those of the papers, if they are here."),
    ] = "atlas",
    quick: Annotated[bool, typer.Option("--quick", help="Fewer methods, checkpoints, items.")] = False,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="What a model of the paper stands for: Llama2-7B=FOLDER; repeatable."),
    ] = None,
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
    executor: Annotated[
        ExecutorName, typer.Option(help="What launches workers: processes here, a Ray cluster, or Slurm.")
    ] = ExecutorName.PROCESSES,
    address: Annotated[str | None, typer.Option(help="Of the Ray cluster. Default: RAY_ADDRESS, or one here.")] = None,
    slurm: Annotated[
        list[str] | None, typer.Option("--slurm", help="Option of sbatch, NAME=VALUE, such as time=600; repeatable.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="The recipes, and what each costs at the scale.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the recipe's YAML, to be copied and changed.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the runs and what they cost; run nothing.")] = False,
    json: Json = False,
) -> None:
    """Run the experiment behind a table or figure of the papers, and print it beside the published numbers.

    The same command again goes on where a stopped one was; recipes with the same runs share them. Exit code 1 if a run
    failed: then the others are shown.
    """
    from errata.runs.recipe import Request, check_models, plan, read_recipe, source
    from errata.runs.sweep import raise_failures

    file = None if edits is None else str(edits)
    request = Request(scale, quick, _stand_ins(model), protocol, orders, file, corpus, data_dir)
    if list_:
        _list(request, root, json)
        return
    if recipe is None:
        raise BadInput("name a recipe, such as p1-table2. All of them, and what each costs: errata reproduce --list")
    if show:
        typer.echo(source(recipe), nl=False)
        return
    asked = read_recipe(recipe)
    planned = _possible(plan(asked, request))
    most = workers or cores()
    if dry_run:
        preview([p.config for p in planned], _planner(request, root), most, json)
        return
    check_models(planned)
    _learn(planned, request)
    ended = _carried_out(planned, root, launcher(executor, most, root, address, settings(slurm)))
    failed = [outcome for outcome in ended if outcome.status == "failed"]
    if failed and len(failed) == len(ended):
        raise_failures(ended)
    _reproduce(asked, _weighed(planned, ended), failed, request, out or Path("reproduced") / asked.id, json)
    for outcome in failed:
        note(f"failed and left out: {outcome.run.path.name}: {outcome.error} Log: {outcome.log}")
    if failed:
        raise typer.Exit(1)


def _stand_ins(pairs: Sequence[str] | None) -> dict[str, str]:
    """`Llama2-7B=FOLDER` as a mapping. BadInput for a name that no recipe has."""
    from errata.runs.recipe import scales

    known = scales()["paper"].models
    found = {}
    for pair in pairs or ():
        name, equals, place = pair.partition("=")
        if not equals or name not in known:
            raise BadInput(f"--model takes NAME=FOLDER, NAME one of {', '.join(known)}; found {pair!r}.")
        found[name] = place
    return found


def _carried_out(planned: Sequence["Planned"], root: Path, executor: "Executor") -> list["Outcome"]:
    from errata.runs.estimates import Planner

    return carry_out([p.config for p in planned], Planner(root), executor, RETRIES, None) if planned else []


def _list(request: "Request", root: Path, json: bool) -> None:
    from errata.runs.recipe import names, plan, read_recipe

    rows = []
    for name in names():
        recipe = read_recipe(name)
        rows.append({"id": name, "title": recipe.title, **_cost(plan(recipe, request), _planner(request, root))})
    if json:
        emit({"scale": request.scale, "quick": request.quick, "recipes": rows})
        return
    header = ("id", "title", "runs", "edits", "checkpoints", "time", "memory", "disk", "trained before")
    table(header, [(row["id"], row["title"], *_cost_cells(row)) for row in rows])
    note(
        "Time of what is left to do, one run after the other (docs/sweeps.md says how it is estimated); memory of the "
        "largest run. What is trained beforehand takes about half an hour each. Recipes share runs that are the same."
    )


def _planner(request: "Request", root: Path) -> "Planner":
    """For estimates: the embedded models on one core, the papers' on one GPU."""
    from errata.runs.estimates import Planner

    return Planner(root, gpus=0 if request.scale == "atlas" else 1)


def _cost(planned: Sequence["Planned"], planner: "Planner") -> dict[str, Any]:
    """What the runs of a recipe take; None where something is not known, such as the size of a model."""
    configs = [p.config for p in planned]
    found = [planner.estimate(config) for config in configs]
    trained = {config.method for config in configs if editors()[config.method].beforehand == "training"}
    return {
        "runs": len(configs),
        "edits": sum(max(config.edits) for config in configs),
        "checkpoints": sum(len(config.edits) for config in configs),
        "seconds": _total([each.seconds for each in found]),
        "memory": max((each.memory for each in found if each.memory is not None), default=None),
        "disk": _total([each.disk for each in found]),
        "trained": sorted(trained),
    }


def _total(values: Sequence[float | None]) -> float | None:
    return None if None in values else sum(value for value in values if value is not None)


def _cost_cells(row: dict[str, Any]) -> tuple[str, ...]:
    counts = (f"{row['runs']:,}", f"{row['edits']:,}", f"{row['checkpoints']:,}")
    return *counts, *amounts(row), ", ".join(row["trained"]) or "-"


def _reproduce(
    recipe: "Recipe",
    runs: Sequence["Reproduced"],
    failed: Sequence["Outcome"],
    request: "Request",
    out: Path,
    json: bool,
) -> None:
    """Tables and report of the runs of a recipe, to files and to the terminal."""
    from errata.report.reproduction import reproduction

    made = reproduction(recipe, runs, _question(request))
    page = _write(recipe, made, runs, out)
    folders = list(dict.fromkeys(str(run.analysis.results.path) for run in runs))
    if json:
        tables = [{"name": t.name, "title": t.title, "caption": t.caption, "rows": list(t.rows)} for t in made]
        told = {"recipe": recipe.id, "scale": request.scale, "report": page and str(page), "runs": folders}
        emit({**told, "failed": [str(outcome.run.path) for outcome in failed], "tables": tables})
        return
    for each in made:
        _print(each)
    if page is not None:
        note(f"What the papers found, on these runs: errata findings {' '.join(folders)}")
        typer.echo(page)


def _print(shown: "Table") -> None:
    from errata.report.formats import cell

    typer.echo(f"\n{shown.title}\n")
    table([column.title for column in shown.columns], [[cell(c, row) for c in shown.columns] for row in shown.rows])
    note(f"\n{shown.caption}\n")


def _weighed(planned: Sequence["Planned"], ended: Sequence["Outcome"]) -> list["Reproduced"]:
    """The runs that came to their end, in the recipe's order."""
    from errata.report.reproduction import Reproduced
    from errata.report.summary import read

    whole = [(p, outcome) for p, outcome in zip(planned, ended, strict=True) if outcome.status != "failed"]
    found = read([outcome.run.path for _, outcome in whole]) if whole else []
    return [Reproduced(p.model, analysis) for (p, _), analysis in zip(whole, found, strict=True)]


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


def _write(recipe: "Recipe", made: Sequence["Table"], runs: Sequence["Reproduced"], out: Path) -> Path | None:
    """The recipe's tables and figure as files, and the report of its runs, if it has any. The report's page."""
    from errata.report.formats import to_csv, to_latex, to_markdown
    from errata.report.html import report, write_figure
    from errata.report.paper_figures import paper_figure
    from errata.runs.layout import atomic

    for each in made:
        texts = {"csv": to_csv(each), "tex": to_latex(each), "md": f"# {each.title}\n\n{to_markdown(each)}"}
        for ending, text in texts.items():
            with atomic(out / f"{each.name}.{ending}") as draft:
                draft.write_text(text, "utf-8")
    figure = paper_figure(recipe, runs) if runs else None
    if figure is not None:
        write_figure(out, figure)
    paths = list(dict.fromkeys(run.analysis.results.path for run in runs))
    return report(paths, out) if paths else None
