"""Case studies: one item of a benchmark, answered after more and more edits, and the muting effect. No torch here."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from errata.records import read_table
from errata.registry import tasks
from errata.report.formats import Column, Table
from errata.report.measures import Analysis
from errata.report.names import ability_title, model_title
from errata.report.results import Results
from errata.runs.layout import RunDir
from errata.stats.rates import Interval, wilson
from errata.stats.texts import Muting, Reference, muting

STATES: Mapping[Muting | None, str] = {
    None: "text",
    "empty": "mute: empty",
    "repeating": "mute: repeats itself",
    "random": "mute: random text",
}
Ask = Callable[[str, str], str | None]
"""The question of an item of a task: (task, item) -> text; None if it cannot be found."""
LONGEST = 400
"""Characters of an answer that a table shows."""


@dataclass(frozen=True)
class Answer:
    """What a model wrote to one item. state: None for text, else in which way it is mute."""

    item: str
    output: str
    correct: bool
    state: Muting | None


@dataclass(frozen=True)
class Muteness:
    """How many of n outputs at a checkpoint are mute, by kind. low, high: of the share of all kinds, Wilson's 95 %."""

    edits: int
    n: int
    kinds: Mapping[Muting, int]

    @property
    def share(self) -> float:
        return sum(self.kinds.values()) / self.n if self.n else 0.0

    @property
    def interval(self) -> Interval:
        return wilson(sum(self.kinds.values()), self.n)


def answers(results: Results, edits: int, task: str) -> dict[str, Answer]:
    """What was written to each item of a benchmark after so many edits, by item; none where it was not asked.

    A right answer is never mute.
    """
    reference = _reference(RunDir(results.path), task)
    return {
        item: Answer(item, output, correct, None if correct else muting(output, reference))
        for item, output, correct in _outputs(RunDir(results.path), edits, task)
    }


@lru_cache(maxsize=64)
def _reference(run: RunDir, task: str) -> Reference:
    """Of what the unedited model wrote to the same benchmark."""
    return Reference([output for _, output, _ in _outputs(run, 0, task)])


def _outputs(run: RunDir, edits: int, task: str) -> list[tuple[str, str, bool]]:
    file = run.tables(edits).get(task)
    if file is None:
        return []
    rows = read_table(file)
    return list(zip(*(rows.column(name).to_pylist() for name in ("item", "output", "correct")), strict=True))


def written_tasks(results: Results) -> list[str]:
    """The benchmarks of a run that are answered in words, not by likelihood."""
    known = tasks()
    return [task for task in results.tasks if task in known and known[task].kind == "generate_until"]


def muteness(results: Results, edits: int) -> Muteness:
    """Over all benchmarks that are answered in words."""
    found = [answer for task in written_tasks(results) for answer in answers(results, edits, task).values()]
    return Muteness(edits, len(found), Counter(answer.state for answer in found if answer.state is not None))


def item_for(runs: Sequence[Analysis], task: str) -> str | None:
    """The first item of a benchmark that every run's unedited model answers rightly; None if there is none."""
    known: dict[str, int] = {}
    for run in runs:
        known.update({a.item: known.get(a.item, 0) + a.correct for a in answers(run.results, 0, task).values()})
    return next((item for item, count in sorted(known.items()) if count == len(runs)), None)


def case_study(
    runs: Sequence[Analysis], task: str, edits: Sequence[int], item: str | None = None, ask: Ask | None = None
) -> Table:
    """The answers to one item after 0 edits and each of `edits`, by every run.

    item: by default the first that all unedited models answer rightly. ask: tells its question. No rows where no run
    was asked it.
    """
    chosen = item if item is not None else item_for(runs, task)
    question = ask(task, chosen) if ask is not None and chosen is not None else None
    rows = [row for run in runs for row in _case(run, task, [0, *edits], chosen)]
    return Table(
        "case-study",
        f"One item of {ability_title(task)}, {chosen or 'none answered rightly before editing'}",
        "What the model wrote. Mute: the output is empty; one unit is said over and over; or it is unlike anything the "
        f"unedited model wrote to this benchmark. Right: {_gold(runs, task, chosen)}"
        + (f" Asked: {question}" if question else ""),
        (
            Column("Run", "text", ("run",)),
            Column("Model", "text", ("model",)),
            Column("Edits", "count", ("edits",)),
            Column("Answer", "text", ("answer",)),
            Column("Right", "text", ("right",)),
            Column("State", "text", ("state",)),
        ),
        tuple(rows),
    )


def _case(run: Analysis, task: str, edits: Iterable[int], item: str | None) -> Iterable[dict[str, Any]]:
    for count in dict.fromkeys(edits):
        answer = answers(run.results, count, task).get(item or "")
        if answer is not None:
            yield {
                "run": run.label,
                "model": model_title(run.results.model),
                "edits": count,
                "answer": answer.output.strip()[:LONGEST],
                "right": "yes" if answer.correct else "no",
                "state": STATES[answer.state],
                "item": item,
                "task": task,
            }


def _gold(runs: Sequence[Analysis], task: str, item: str | None) -> str:
    for run in runs:
        scores = run.results.get(0, task)
        if scores is not None and item in scores.items:
            return f"{scores.gold[scores.items.index(item)]}."
    return "not known."


def muting_table(runs: Sequence[Analysis]) -> Table:
    """How much of what is written is mute, by run and checkpoint, over all benchmarks answered in words."""
    return Table(
        "muting",
        "The muting effect",
        "Shares of all outputs to benchmarks that are answered in words. Empty: nothing but blanks. Repeating: one "
        "unit said over and over, or hardly any new group of three words. Random: takes a quarter more bits a "
        "character than any output of the unedited model, by the trigrams of these, or has no letter at all. Right "
        "answers are not mute.",
        (
            Column("Run", "text", ("run",)),
            Column("Model", "text", ("model",)),
            Column("Edits", "count", ("edits",)),
            Column("Mute", "share", ("mute",)),
            Column("95 %", "range", ("low", "high")),
            *(Column(kind.capitalize(), "share", (kind,)) for kind in ("empty", "repeating", "random")),
            Column("Outputs", "count", ("n",)),
        ),
        tuple(
            _muting_row(run, found)
            for run in runs
            for edits in run.results.checkpoints
            if (found := muteness(run.results, edits)).n
        ),
    )


def _muting_row(run: Analysis, found: Muteness) -> dict[str, Any]:
    low, high = found.interval
    kinds: dict[str, Any] = {kind: found.kinds.get(kind, 0) / found.n for kind in STATES if kind is not None}
    row: dict[str, Any] = {"run": run.label, "model": model_title(run.results.model), "edits": found.edits}
    return row | {"mute": found.share, "low": low, "high": high, "n": found.n, **kinds}
