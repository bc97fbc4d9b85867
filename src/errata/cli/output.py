"""How commands speak: facts to stdout, everything else to stderr."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer

from errata.types import Progress

PATIENCE = 1.5  # seconds before a bar appears: shorter work needs none
LINE_EVERY = 10.0  # seconds between lines where stderr is no terminal


def emit(document: Any) -> None:
    """One JSON document on stdout. Numbers that JSON lacks (NaN, infinity) become null."""
    typer.echo(json.dumps(_finite(document), indent=2, ensure_ascii=False))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def note(text: str) -> None:
    """A line for the reader that is not a fact: stderr."""
    typer.echo(text, err=True)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout: aligned in a terminal, tab-separated in a pipe; line breaks are shown as \\n."""
    rows = [[cell.replace("\n", "\\n").replace("\t", " ") for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in [header, *rows]:
            typer.echo("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table

    grid = Table(*header, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        grid.add_row(*[_plain(cell) for cell in row])
    Console().print(grid)


def _plain(text: str) -> str:
    """Text that rich shows as it is: square brackets are no markup."""
    return text.replace("[", r"\[")


@contextmanager
def progress() -> Iterator[Progress]:
    """Bars with the time left on stderr, one for each kind of work; lines where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        started: dict[str, tuple[Any, float]] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in started:
                started[what] = bars.add_task(what, total=total, visible=False), time.monotonic()
            task, since = started[what]
            bars.update(task, completed=done, total=total, visible=time.monotonic() - since > PATIENCE)
            if done >= total:
                bars.remove_task(task)
                del started[what]

        yield show


def _lines() -> Progress:
    """Now and then one line: what, how far, how long it may still take."""
    began: dict[str, float] = {}
    said: dict[str, float] = {}

    def show(what: str, done: int, total: int) -> None:
        now = time.monotonic()
        start = began.setdefault(what, now)
        if done >= total:
            began.pop(what), said.pop(what, None)
        elif now - said.setdefault(what, start) >= LINE_EVERY:
            said[what] = now
            left = f", about {duration((now - start) / done * (total - done))} left" if done else ""
            note(f"{what}: {done} of {total}{left}")

    return show


def duration(seconds: float) -> str:
    """How long, as a person would say it: 0.4 s, 12 s, 3 min 5 s, 2 h 10 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
