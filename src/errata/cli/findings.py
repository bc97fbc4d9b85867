"""errata findings: what the papers found, judged on one's own runs."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from errata.cli.options import Json
from errata.cli.output import emit, note, table


def findings(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.")],
    evidence: Annotated[bool, typer.Option("--evidence", help="What each verdict rests on, with the numbers.")] = False,
    json: Json = False,
) -> None:
    """Judge the findings of both papers on runs: supported, contradicted or undecided.

    A statement is judged on all the runs that are given: give those of one family of models for a verdict on it.
    """
    from errata.report.findings import evidence_table, findings_table
    from errata.report.findings import findings as judge
    from errata.report.formats import cell
    from errata.report.names import model_title
    from errata.report.summary import read

    analyses = read(runs)
    found = judge(analyses)
    models = list(dict.fromkeys(run.results.model for run in analyses))
    if json:
        told = [
            {
                "id": f.statement.id,
                "paper": f.statement.paper,
                "statement": f.statement.text,
                "verdict": f.verdict,
                "reason": f.reason,
                "printed": f.statement.printed,
                "votes": [asdict(vote) for vote in f.votes],
            }
            for f in found
        ]
        emit({"models": models, "runs": [str(run.results.path) for run in analyses], "findings": told})
        return
    for shown in (findings_table(found), *([evidence_table(found)] if evidence else [])):
        typer.echo(f"{shown.title} ({len(analyses)} of {', '.join(map(model_title, models))})\n")
        table([column.title for column in shown.columns], [[cell(c, row) for c in shown.columns] for row in shown.rows])
        note(f"\n{shown.caption}\n")
