"""errata doctor: prove that a model or a family can be edited."""

from dataclasses import asdict
from typing import Annotated

import typer

from errata.cli.options import Json
from errata.cli.output import emit, table


def doctor(
    model: Annotated[
        str, typer.Argument(help="A family (`errata list models`), or a model: `atlas`, a folder, a hub name.")
    ],
    json: Json = False,
) -> None:
    """Check everything editing needs of a model; of a family, on a tiny random model. Exit code 1 if a check fails."""
    from errata.model.doctor import examine

    report = examine(model)
    if json:
        emit({**asdict(report), "passed": report.passed})
    else:
        table(("check", "", "found"), [(c.name, "ok" if c.passed else "FAILED", c.detail) for c in report.checks])
    if not report.passed:
        raise typer.Exit(1)
