"""errata data: convert files of edits to one form, and check them."""

import json as jsonlib
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from errata.cli.options import Device, Dtype, Json
from errata.cli.output import emit, note, progress, table
from errata.errors import BadInput
from errata.types import EditCase, Progress

if TYPE_CHECKING:
    from errata.data.cases import EditFile
    from errata.data.survey import Pair, Survey

SHOWN = 10  # lines of each list; --json has all
app = typer.Typer(help="Convert files of edits to one form, and check them.", no_args_is_help=True)

Source = Annotated[str, typer.Argument(help="`atlas`, or a file of edits (.jsonl, .json, .csv) in any known layout.")]


@app.callback()
def data() -> None:
    """Files of edits."""


@app.command()
def convert(
    source: Source,
    out: Annotated[Path, typer.Argument(metavar="OUT.jsonl", help="File to write, one edit a line.")],
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many edits.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Shuffle with it first; without it the order stays.")] = None,
    skip: Annotated[bool, typer.Option("--skip", help="Leave out what cannot be used, and list it.")] = False,
    json: Json = False,
) -> None:
    """Write edits in the one form that every command reads. Layouts: errata list datasets."""
    from errata.data.cases import take
    from errata.data.fields import fields_of

    if out.suffix != ".jsonl" or (out.exists() and Path(source).exists() and out.samefile(source)):
        raise BadInput(f"{out}: give another file than the source, with the ending .jsonl.")
    faults: list[str] = []
    written, draft = 0, out.with_name(f".{out.name}.tmp")
    try:
        with progress() as bar, draft.open("w", encoding="utf-8") as file:
            cases, read = _opened(source, faults if skip else None, bar)
            for case in take(cases, limit, seed):
                file.write(jsonlib.dumps(fields_of(case), ensure_ascii=False) + "\n")
                written += 1
        if not written:
            raise BadInput(f"{source} holds no edits that can be used; see: errata data check {source}")
        draft.replace(out)
    finally:
        draft.unlink(missing_ok=True)
    told = {"out": str(out), "edits": written, **_reading(read, faults)}
    if json:
        emit(told)
        return
    _shortened("left out", faults)
    typer.echo(f"edits: {written}, left out: {len(faults)}, records that ask for none: {len(told['empty'])}")
    typer.echo(out)


@app.command()
def check(
    source: Source,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Which edits does this model know, or cannot be made in it?")
    ] = None,
    device: Device = None,
    dtype: Dtype = None,
    json: Json = False,
) -> None:
    """Count what a file of edits holds and lacks, and list what is wrong. Exit code 1 if a row cannot be used."""
    from errata.data.survey import survey

    faults: list[str] = []
    with progress() as bar:
        cases, read = _opened(source, faults, bar)
        found = survey(_to_the_end(cases, faults))
        asked = None if model is None else _asked(model, found.cases, device, dtype, bar)
    told = {**_reading(read, faults), **_survey(found)} | ({} if asked is None else {"model": model, **asked})
    if json:
        emit(told)
    else:
        _print(told)
    if faults:
        raise typer.Exit(1)


def _opened(source: str, faults: list[str] | None, bar: Progress) -> "tuple[Iterable[EditCase], EditFile | None]":
    """The cases of a source, and what is known of its file. faults: where they are collected, None to stop at one."""
    from errata.data.cases import NAMED, EditFile, file_of, read_cases
    from errata.data.rows import stop

    if source in NAMED:
        return read_cases(source), None
    keep = stop if faults is None else lambda error: faults.append(str(error))
    read = EditFile(file_of(source), keep, bar)
    return read, read


def _to_the_end(cases: Iterable[EditCase], faults: list[str]) -> Iterable[EditCase]:
    """The cases up to a fault behind which nothing can be read; it is one of the faults as well."""
    try:
        yield from cases
    except BadInput as error:
        faults.append(str(error))


def _asked(
    model: str, cases: Sequence[EditCase], device: str | None, dtype: str | None, bar: Progress
) -> dict[str, Any]:
    """What a model knows of the edits, and those that cannot be made in it."""
    from errata.model.loading import load
    from errata.runs.selection import KNOWN, verdicts

    known, unfit = [], []
    for done, (case, reason) in enumerate(verdicts(load(model, device, dtype), cases, None), start=1):
        if reason == KNOWN:
            known.append(_place(case))
        elif reason is not None:
            unfit.append({**_place(case), "reason": reason})
        bar("asking the model", done, len(cases))
    return {"usable": len(cases) - len(known) - len(unfit), "known": known, "unfit": unfit}


def _reading(read: "EditFile | None", faults: list[str]) -> dict[str, Any]:
    if read is None:
        return {"records": None, "layouts": {}, "empty": [], "faults": faults}
    layouts = {name or "plain": count for name, count in read.layouts.items()}
    return {"records": read.records, "layouts": layouts, "empty": read.empty, "faults": faults}


def _survey(found: "Survey") -> dict[str, Any]:
    return {
        "edits": len(found.cases),
        "lacking": dict(found.lacking),
        "probes": dict(found.probes),
        "portability": {kind or "not told": count for kind, count in found.portability.items()},
        "groups": found.groups,
        "contradictions": [_pair(pair) for pair in found.contradictory],
        "repetitions": [_pair(pair) for pair in found.repeated],
    }


def _pair(pair: "Pair") -> dict[str, Any]:
    early, late = pair
    return {
        "prompt": late.request.prompt,
        "first": {**_place(early), "target_new": early.request.target_new},
        "later": {**_place(late), "target_new": late.request.target_new},
    }


def _place(case: EditCase) -> dict[str, Any]:
    return {"id": case.request.id, "source": case.source}


def _print(told: dict[str, Any]) -> None:
    for name, count in told["layouts"].items():
        typer.echo(f"layout: {name} ({count} records)")
    rows = [("edits", told["edits"]), ("records that ask for no edit", len(told["empty"]))]
    rows += [("rows that cannot be used", len(told["faults"]))]
    rows += [(f"edits without {part}", count) for part, count in told["lacking"].items()]
    rows += [(part, count) for part, count in told["probes"].items()]
    rows += [(f"portability: {kind}", count) for kind, count in told["portability"].items()]
    rows += [("groups of edits that belong together", told["groups"])]
    rows += [(name, len(told[name])) for name in ("contradictions", "repetitions")]
    if "model" in told:
        rows += [(f"known to {told['model']}", len(told["known"])), ("cannot be made in it", len(told["unfit"]))]
        rows += [("left to edit", told["usable"])]
    table(("", "number"), [(name, f"{count}") for name, count in rows])
    _shortened("cannot be used", told["faults"])
    _shortened("contradiction", [_line(pair) for pair in told["contradictions"]])
    _shortened("known", [f"edit {each['id']} ({each['source']})" for each in told.get("known", ())])
    _shortened("cannot be made", [f"edit {e['id']} ({e['source']}): {e['reason']}" for e in told.get("unfit", ())])


def _line(pair: dict[str, Any]) -> str:
    first, later = (f"{pair[when]['target_new']!r} ({pair[when]['source']})" for when in ("first", "later"))
    return f"{pair['prompt']!r}: {first}, then {later}"


def _shortened(what: str, lines: Sequence[str]) -> None:
    """The first of some lines on stderr, and how many more there are."""
    for line in islice(lines, SHOWN):
        note(f"{what}: {line}")
    if len(lines) > SHOWN:
        note(f"{what}: and {len(lines) - SHOWN} more; --json has all of them")
