"""The `errata` command: its subcommands, and what becomes of errors."""

import sys
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer

from errata import __version__
from errata.cli import (
    artifacts,
    atlas,
    data,
    demo,
    doctor,
    edit,
    findings,
    generate,
    listing,
    locate,
    prompts,
    report,
    reproduce,
    sweep,
    train,
    undo,
)
from errata.cli import run as run_command
from errata.cli.output import note
from errata.errors import ErrataError

INTERRUPTED = 130

app = typer.Typer(
    name="errata",
    help="Edit facts inside a language model, and measure what the edits cost.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for name, function, summary in (
    ("edit", edit.edit, "Edit facts; ask before and after."),
    ("generate", generate.generate, "Ask a model or a saved session."),
    ("undo", undo.undo, "Take an edit back."),
    ("train", train.train, "Let a method learn beforehand."),
    ("run", run_command.run, "Edit and measure; resumable."),
    ("sweep", sweep.sweep, "Many runs from one file."),
    ("report", report.report, "Runs to one HTML page."),
    ("reproduce", reproduce.reproduce, "A table or figure of the papers."),
    ("findings", findings.findings, "What the papers found, on your runs."),
    ("list", listing.list_, "List methods, models, tasks, datasets."),
    ("prompts", prompts.prompts, "What a benchmark asks, word by word."),
    ("doctor", doctor.doctor, "Prove that a model can be edited."),
    ("locate", locate.locate, "Find the layers that hold facts."),
    ("demo", demo.demo, "The whole job, in a few minutes."),
):
    app.command(name, short_help=summary)(function)
app.add_typer(artifacts.app, name="artifacts")
app.add_typer(data.app, name="data")
app.add_typer(atlas.app, name="atlas")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"errata {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Edit facts inside a language model, and measure what the edits cost."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; every expected error becomes one message on stderr and an exit code."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: note(f"errata: {message}")
        return _run(arguments)


def _run(arguments: Sequence[str] | None) -> int:
    try:
        app(args=None if arguments is None else list(arguments), prog_name="errata")
    except SystemExit as end:
        return _code(end)
    except ErrataError as error:
        note(f"errata: {error}")
        return 2
    except OSError as error:
        note(f"errata: {_about(error)}")
        return 2
    return 0


def _code(end: SystemExit) -> int:
    if end.code == INTERRUPTED:
        # typer turns the interrupt into an exit; what the run said of it is the cause.
        cause = end.__context__.__cause__ if end.__context__ else None
        note(
            f"errata: {str(cause or '') or 'stopped. What was finished is kept; give the same command again to go on.'}"
        )
    return end.code if isinstance(end.code, int) else int(end.code is not None)


def _about(error: OSError) -> str:
    """What the system said, the file it said it of, and what to look at."""
    reason = error.strerror or str(error)
    if error.filename is None:
        return reason
    return f"{error.filename}: {reason}. Check that the path exists and can be written, or name another one."


if __name__ == "__main__":
    sys.exit(run())
