"""errata atlas: the embedded world, its benchmarks and its models."""

from pathlib import Path
from typing import Annotated, Any

import typer

from errata.cli.options import Device, Dtype, Json, Settings, settings
from errata.cli.output import emit, note, progress, table
from errata.errors import BadInput

app = typer.Typer(help="The embedded world: its facts, benchmarks and model.", no_args_is_help=True)


@app.command()
def check(
    model: Annotated[str, typer.Argument(help="`atlas`, or the folder of a model trained on it.")] = "atlas",
    edits: Annotated[int, typer.Option(min=1, help="Single edits by each method.")] = 100,
    card: Annotated[Path | None, typer.Option(help="Write a model card with these numbers to this file.")] = None,
    device: Device = None,
    dtype: Dtype = None,
    json: Json = False,
) -> None:
    """Measure what the model card states: recall, benchmarks, single edits. Exit code 1 if a target is missed."""
    from errata.atlas.check import check as measure
    from errata.atlas.check import targets
    from errata.model.loading import load

    subject = load(model, device=device, dtype=dtype)
    with progress() as bar:
        numbers = measure(subject, edits, bar)
    if card is not None:
        from errata.atlas.card import card as written

        card.write_text(written(numbers, subject.name), "utf-8")
    if json:
        emit(numbers)
    else:
        _print(numbers, targets())
    if numbers["missed"]:
        raise typer.Exit(1)


def _print(numbers: dict[str, Any], targets: dict[str, float]) -> None:
    from errata.atlas.check import shares

    typer.echo(f"{numbers['model']}: {numbers['parameters']:,} parameters, fingerprint {numbers['fingerprint'][:16]}")
    rows = []
    for name, value in shares(numbers):
        least = targets.get(name)
        verdict = "" if least is None else "missed" if name in numbers["missed"] else "ok"
        interval = f"{value['low']:.1%} to {value['high']:.1%}"
        goal = "" if least is None else f"{least:.1%}"
        rows.append((name, f"{value['share']:.1%}", interval, f"{value['n']:,}", goal, verdict))
    table(("measure", "share", "95 % interval", "n", "target", ""), rows)


@app.command()
def methods(
    chosen: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[METHOD]...",
            help="As `errata list methods` names them, options behind commas: memit,history=true. Default: all, and "
            "their variants.",
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Up to 100 edits, one order unless --orders says more.")
    ] = False,
    orders: Annotated[
        int | None, typer.Option(min=1, max=3, help="How many orders of the edits. Default: all three.")
    ] = None,
    root: Annotated[Path, typer.Option(help="Folder of the runs; the same command again goes on there.")] = Path(
        "runs"
    ),
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the table to this file, as Markdown.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Runs at the same time. Default: one for each core.")
    ] = None,
    json: Json = False,
) -> None:
    """Edit atlas by every method, in several orders, and set their edit success side by side.

    A method whose edits have destroyed the model goes no further.
    """
    from errata.atlas.methods import ORDERS, learn, page, plan, rows
    from errata.cli.options import named_setting
    from errata.cli.run import perform
    from errata.report.formats import cell
    from errata.report.results import read_results
    from errata.report.survey import survey

    wanted = [named_setting(text, "METHOD") for text in chosen] if chosen else rows()
    configs = plan(wanted, quick, orders or (1 if quick else len(ORDERS)))
    with progress() as bar:
        learn([name for name, _ in wanted], bar)
    folders = perform(configs, root, workers, threads=1)
    found = survey([read_results(folder.path) for folder in folders])
    if out is not None:
        options = [*(["--quick"] if quick else []), *([f"--orders {orders}"] if orders else [])]
        out.write_text(page(found, " ".join(options)), "utf-8")
    if json:
        emit({"methods": [dict(row) for row in found.rows]})
    else:
        table([column.title for column in found.columns], [[cell(c, row) for c in found.columns] for row in found.rows])


@app.command()
def train(
    folder: Annotated[Path, typer.Argument(help="Folder of the model; a training that was stopped there goes on.")],
    change: Settings = None,
) -> None:
    """Train an atlas model from scratch, as the one in the package was; --set changes the recipe."""
    from pydantic import ValidationError

    from errata.atlas.train import Recipe
    from errata.atlas.train import train as run

    try:
        recipe = Recipe(**settings(change))
    except ValidationError as error:
        wrong = "; ".join(f"{problem['loc'][0]}: {problem['msg']}" for problem in error.errors())
        known = ", ".join(f"{name}={value}" for name, value in vars(Recipe()).items())
        raise BadInput(f"errata atlas train: {wrong}. The recipe is {known}.") from error
    with progress() as bar:
        for line in run(recipe, folder):
            bar("training", int(line["step"]), int(line["steps"]))
    note(f"trained; measure it: errata atlas check {folder}")
    typer.echo(folder)


@app.command()
def world(
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the benchmark items as JSONL.")] = None,
    json: Json = False,
) -> None:
    """Count the facts of each relation; with --out, write the benchmark items."""
    from collections import Counter

    from errata.atlas.world import world as build

    facts = Counter((fact.relation, "real" if fact.real else "invented") for fact in build().facts)
    if out is not None:
        from errata.atlas.benchmarks import write_benchmarks

        items = write_benchmarks(out)
        note(f"wrote {sum(items.values())} items of {len(items)} benchmarks to {out}")
    rows = [{"relation": relation, "kind": kind, "facts": n} for (relation, kind), n in facts.items()]
    if json:
        emit({"facts": sum(facts.values()), "relations": rows})
    else:
        table(("relation", "kind", "facts"), [(r, kind, str(n)) for (r, kind), n in facts.items()])
        typer.echo(f"{sum(facts.values())} facts")
