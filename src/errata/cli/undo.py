"""errata undo: take edits back from a saved session."""

from pathlib import Path
from typing import Annotated, Any

import typer

from errata.cli.options import Json
from errata.cli.output import emit, table


def undo(
    folder: Annotated[Path, typer.Argument(help="Folder that `errata edit --save` made.")],
    edit: Annotated[int | None, typer.Argument(help="Number of the edit; the last one when not given.")] = None,
    show: Annotated[bool, typer.Option("--list", help="Only list the edits that are applied.")] = False,
    json: Json = False,
) -> None:
    """Take one edit back: the weights are then bit-identical to never having made it."""
    from errata.update.session import EditSession

    session = EditSession.load(folder)
    if not show:
        undone = session.undo(edit)
        session.save(folder)
    applied = [_line(entry) for entry in session.applied]
    if json:
        emit({"folder": str(folder), "undone": None if show else undone.id, "applied": applied})
        return
    if not show:
        typer.echo(f"edit {undone.id} is undone; {len(applied)} left in {folder}")
    if applied:
        table(("edit", "method", "request"), [(str(e["edit"]), e["method"], r) for e in applied for r in e["requests"]])


def _line(entry: Any) -> dict[str, Any]:
    requests = [f"{r.prompt} -> {r.target_new}" for r in entry.requests]
    return {"edit": entry.id, "method": entry.method, "requests": requests}
