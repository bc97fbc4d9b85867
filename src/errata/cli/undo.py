"""errata undo: take edits back from a saved session."""

from pathlib import Path
from typing import Annotated, Any

import typer

from errata.cli.options import Corpus, Json
from errata.cli.output import emit, progress, table


def undo(
    folder: Annotated[Path, typer.Argument(help="Folder that `errata edit --save` made.")],
    edit: Annotated[int | None, typer.Argument(help="Number of the edit; the last one when not given.")] = None,
    request: Annotated[
        str | None, typer.Option(help="Take only this request out of the edit; its others are solved again.")
    ] = None,
    corpus: Corpus = None,
    show: Annotated[bool, typer.Option("--list", help="Only list the edits that are applied.")] = False,
    json: Json = False,
) -> None:
    """Take one edit back: the weights are then bit-identical to never having made it."""
    from errata.update.session import EditSession

    session = EditSession.load(folder)
    if not show:
        undone = session.entry(edit)
        if request is None:
            session.undo(undone.id)
        else:
            from errata.editing import drop

            with progress() as bar:
                drop(session, undone.id, request, corpus=corpus, progress=bar)
        session.save(folder)
    applied = [_line(entry) for entry in session.applied]
    if json:
        undone_id = None if show else undone.id
        emit({"folder": str(folder), "undone": undone_id, "request": request, "applied": applied})
        return
    if not show:
        what = f"edit {undone.id}" if request is None else f"request {request} of edit {undone.id}"
        typer.echo(f"{what} is undone; edits left in {folder}: {len(applied)}")
    if applied:
        rows = [(str(e["edit"]), e["method"], r["id"], r["fact"]) for e in applied for r in e["requests"]]
        table(("edit", "method", "request", ""), rows)


def _line(entry: Any) -> dict[str, Any]:
    requests = [{"id": r.id, "fact": f"{r.prompt} -> {r.target_new}"} for r in entry.requests]
    return {"edit": entry.id, "method": entry.method, "requests": requests}
