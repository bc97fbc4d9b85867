"""The papers' findings as statements on records: supported, contradicted or undecided, with the numbers. No torch here.

A finding is judged from votes: what one run, or several that belong together, show of it. docs/recipes.md defines each
statement; where the published numbers themselves do not bear one out, it says so.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from errata.report.formats import Column, Table
from errata.report.measures import Analysis
from errata.report.names import method_title, model_title
from errata.report.results import Results
from errata.runs.recipe import benchmark_title

Verdict = Literal["supported", "contradicted", "undecided"]
Ballot = Literal["for", "against", "open", "void"]
"""What a vote says; void where the runs cannot speak to it, such as one whose edits do not work."""

RELATIVE = 0.05
"""The loss, as a share of the unedited score, within which an ability counts as kept."""
WORKS = 0.5
"""Efficacy from which on a method's edits count as made."""


@dataclass(frozen=True)
class Vote:
    """What one unit shows. unit: a run, or what of several. told: the numbers, in words; values: the same, raw."""

    unit: str
    ballot: Ballot
    told: str
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Statement:
    """A finding of a paper.

    id: as the paper numbers it; paper 2 numbers none. votes: what runs show of it. judge: the verdict on the votes.
    missing: what to say where there is no vote. printed: what the paper's own numbers show of it.
    """

    id: str
    paper: Literal[1, 2]
    text: str
    votes: Callable[[Sequence[Analysis]], Iterable[Vote]]
    judge: Callable[[Sequence[Vote]], Verdict]
    missing: str
    printed: str


@dataclass(frozen=True)
class Finding:
    """A statement, judged on some runs."""

    statement: Statement
    verdict: Verdict
    votes: tuple[Vote, ...]

    @property
    def reason(self) -> str:
        """The count of votes, or what is missing."""
        counts = Counter(vote.ballot for vote in self.votes)
        if not counts.keys() - {"void"}:
            return self.statement.missing + (f" ({counts['void']} left out)" if counts["void"] else "")
        parts = [f"{counts[ballot]} {word}" for ballot, word in _WORDS.items() if counts[ballot]]
        return ", ".join(parts)


_WORDS: Mapping[Ballot, str] = {"for": "for", "against": "against", "open": "open", "void": "left out"}


def most(votes: Sequence[Vote]) -> Verdict:
    """Supported by more than half of the votes, contradicted by half or more; open ones count as votes."""
    counts = Counter(vote.ballot for vote in votes if vote.ballot != "void")
    if 2 * counts["for"] > counts.total():
        return "supported"
    return "contradicted" if counts["against"] and 2 * counts["against"] >= counts.total() else "undecided"


def every(votes: Sequence[Vote]) -> Verdict:
    """Supported if all votes are for it, contradicted by a single one against."""
    ballots = {vote.ballot for vote in votes} - {"void"}
    if "against" in ballots:
        return "contradicted"
    return "supported" if ballots == {"for"} else "undecided"


def some(votes: Sequence[Vote]) -> Verdict:
    """Supported by a single vote for it, contradicted if all are against."""
    ballots = {vote.ballot for vote in votes} - {"void"}
    if "for" in ballots:
        return "supported"
    return "contradicted" if ballots == {"against"} else "undecided"


def statements() -> Sequence[Statement]:
    """Those of paper 1, then those of paper 2."""
    from errata.report import findings_p1, findings_p2

    return (*findings_p1.STATEMENTS, *findings_p2.STATEMENTS)


def findings(analyses: Sequence[Analysis]) -> list[Finding]:
    """All statements of both papers, judged on these runs."""
    return [judged(statement, analyses) for statement in statements()]


def judged(statement: Statement, analyses: Sequence[Analysis]) -> Finding:
    """One statement, judged on these runs."""
    votes = tuple(statement.votes(analyses))
    return Finding(statement, statement.judge(votes), votes)


def findings_table(found: Sequence[Finding]) -> Table:
    """One row a finding: the statement, the verdict and the votes."""
    return Table(
        "findings",
        "The papers' findings on these runs",
        "Each statement is judged from what single runs, or several that belong together, show of it at 95 % "
        "confidence. Supported and contradicted: by most of them, or as the statement asks. Undecided: these records "
        "do not tell. The printed numbers: what the paper's own tables and figures show of it.",
        (
            Column("Finding", "text", ("id",)),
            Column("Statement", "text", ("statement",)),
            Column("Verdict", "text", ("verdict",)),
            Column("Votes", "text", ("reason",)),
            Column("The printed numbers", "text", ("printed",)),
        ),
        tuple(
            {
                "id": f.statement.id,
                "statement": f.statement.text,
                "verdict": f.verdict,
                "reason": f.reason,
                "printed": f.statement.printed,
            }
            for f in found
        ),
    )


def evidence_table(found: Sequence[Finding]) -> Table:
    """One row a vote, with its numbers."""
    return Table(
        "evidence",
        "What the verdicts rest on",
        "For, against, open: what one unit shows of the statement. Left out: what cannot speak to it, such as "
        "abilities that are kept by a method whose edits do not work.",
        (
            Column("Finding", "text", ("id",)),
            Column("Of", "text", ("unit",)),
            Column("Vote", "text", ("vote",)),
            Column("Shown", "text", ("told",)),
        ),
        tuple(
            {"id": f.statement.id, "unit": vote.unit, "vote": _WORDS[vote.ballot], "told": vote.told, **vote.values}
            for f in found
            for vote in f.votes
        ),
    )


# What statements have in common


def named(run: Analysis, *more: str) -> str:
    """A run with its model, as a unit of votes."""
    model = model_title(run.results.model)
    return ", ".join([run.label, *([] if model in run.label else [model]), *more])


def usable(run: Analysis) -> list[str]:
    """Benchmarks on which a loss can show: the unedited model is clearly above chance there."""
    return [task for task in run.results.tasks if run.get(0, task) is not None and "floor" not in run.flags(0, task)]


def efficacy(run: Analysis, edits: int) -> float | None:
    found = run.get(edits, "efficacy")
    return None if found is None else found.accuracy


def kept_share(run: Analysis, edits: int, task: str) -> float | None:
    """Score after so many edits as a share of the unedited one."""
    change = run.curve.get(edits, {}).get(task)
    return None if change is None or not change.before else 1 + change.difference / change.before


def keeps(run: Analysis, edits: int) -> tuple[Ballot, str]:
    """Whether every usable benchmark keeps its score but for `RELATIVE`: with 95 % confidence, or lost for sure."""
    tasks = [task for task in usable(run) if kept_share(run, edits, task) is not None]
    if not tasks:
        return "void", "no benchmark that is above chance unedited"
    shares = {task: share for task in tasks if (share := kept_share(run, edits, task)) is not None}
    worst = min(shares, key=shares.__getitem__)
    change = run.curve[edits][worst]
    least = 1 + change.above / change.before
    told = f"worst {benchmark_title(worst)}: {shares[worst]:.2f} of the unedited score, {least:.2f} at least"
    if any(loses(run, edits, task) for task in tasks):
        return "against", told
    held = all(run.curve[edits][task].above > -RELATIVE * run.curve[edits][task].before for task in tasks)
    return ("for" if held else "open"), told


def loses(run: Analysis, edits: int, task: str) -> bool:
    """Whether a loss of more than `RELATIVE` is sure, and significant after Holm; or the ability has collapsed."""
    change = run.curve[edits][task]
    sure = change.below < -RELATIVE * change.before and run.adjusted[edits][task] <= 0.05
    return sure or run.fallen(edits, task)


def matrix(points: Sequence[tuple[Results, int]], task: str) -> NDArray[np.float64] | None:
    """(n, k) the scores of the items that all k points have in common; None if there is no such item.

    points: (run, edits). Of runs in the single setting, in which an item is asked again and again, none.
    """
    tables = [results.get(edits, task) for results, edits in points]
    found = [dict(zip(t.items, t.values, strict=True)) for t in tables if t is not None and len(set(t.items)) == t.n]
    if not found or len(found) < len(points):
        return None
    common = sorted(set.intersection(*(set(scores) for scores in found)))
    return np.array([[scores[item] for scores in found] for item in common]) if common else None


def alike(run: Analysis, *without: str) -> str:
    """All that a run was asked but these keys of its config: equal for runs that may be compared."""
    config = run.results.resolved.config
    return config.model_copy(update={"tasks": sorted(config.tasks)}).model_dump_json(exclude={"name", *without})


def method_of(run: Analysis) -> str:
    return method_title(run.results.method)
