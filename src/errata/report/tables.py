"""The tables of a report, each built once for every form in which it is written."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from statistics import median
from typing import Any

from errata.report.formats import Column, Table, edits_text, points, share
from errata.report.measures import Analysis, Flag, Measure
from errata.report.names import PROBE_NOTES, ability_title, model_title, probe_title, sign, signs
from errata.report.order_tables import order_tables
from errata.report.orders import pooled
from errata.report.singles import singles
from errata.runs.ledger import Entry
from errata.stats.curves import Break, excluded_loss

FLAGS: Mapping[Flag, str] = {
    "invalid": "logits not finite",
    "collapsed": "collapsed",
    "lost": "significant loss",
    "constant": "constant answers",
    "mute": "mostly empty",
    "unparsed": "mostly unreadable",
    "floor": "near chance unedited",
}
ANSWERS = 4
"""How many of the most frequent answers a table names."""


def tables(analyses: Sequence[Analysis]) -> list[Table]:
    """All tables of a report, those without rows left out."""
    built = [
        verdicts(analyses),
        *order_tables(pooled(analyses)),
        abilities(analyses),
        answers(analyses),
        edit_success(analyses),
        singles(analyses),
        health(analyses),
        ledger(analyses),
    ]
    return [table for table in built if table.rows]


def verdicts(analyses: Sequence[Analysis]) -> Table:
    margin = analyses[0].margin
    return Table(
        "verdicts",
        "What each run shows",
        "Efficacy: free generation gives exactly the new answer at the last checkpoint; retained: earlier edits. "
        "First loss: a benchmark falls significantly (McNemar's exact test, Holm over benchmarks, 5 %). "
        "Collapse: a whole 95 % interval lies below a loss of a tenth of the unedited accuracy, the answers have "
        "become one and the same, or the logits are no longer finite. Safe up to: every checkpoint so far excludes a "
        f"loss of {points(margin, sign=False)} or more on every benchmark, and none collapsed; the chance that it is "
        "too high is 5 % at most, over all benchmarks and checkpoints together.",
        (
            _text("Run", "run"),
            _text("Model", "model"),
            Column("Edits", "count", ("edits",)),
            Column("Efficacy", "share", ("efficacy",)),
            Column("95 %", "range", ("efficacy_low", "efficacy_high")),
            Column("Retained", "share", ("retention",)),
            Column("95 %", "range", ("retention_low", "retention_high")),
            _text("First loss", "first_loss"),
            _text("Collapse", "collapse"),
            _text("Safe up to", "safe"),
        ),
        tuple(_verdict(analysis) for analysis in analyses),
    )


def _verdict(analysis: Analysis) -> dict[str, Any]:
    row: dict[str, Any] = {"run": analysis.label, "model": model_title(analysis.results.model), "edits": analysis.last}
    for probe in ("efficacy", "retention"):
        measure = analysis.get(analysis.last, probe)
        if measure is not None:
            row |= {probe: measure.accuracy, f"{probe}_low": measure.low, f"{probe}_high": measure.high}
    unknown = None if analysis.curve else "not measured"
    return row | {
        "first_loss": unknown or _where(analysis.loss),
        "collapse": unknown or _where(analysis.collapse),
        "safe": unknown or ("not shown" if analysis.horizon is None else edits_text(analysis.horizon)),
    }


def _where(found: Break | None) -> str:
    return "none seen" if found is None else f"{ability_title(found.benchmark)}, {edits_text(found.edits)}"


def abilities(analyses: Sequence[Analysis]) -> Table:
    return Table(
        "abilities",
        "Abilities at every checkpoint",
        "Accuracy is a share of all items, with Wilson's 95 % interval. Change: against the unedited model on the same "
        "items, in percentage points, with Tango's 95 % score interval for paired rates and that of the bootstrap. p: "
        "McNemar's exact test, Holm-adjusted over the benchmarks of the checkpoint. Verdict: equivalent if a change by "
        f"{points(analyses[0].margin, sign=False)} or more is excluded either way (two one-sided tests, TOST, 95 % "
        "each), no harm if such a loss is, harm if there is one for sure. Loss excluded: one-sided, 95 %. Detectable: "
        "the smallest loss that these items would have shown with 80 % power.",
        (
            _text("Run", "run"),
            Column("Edits", "count", ("edits",)),
            _text("Benchmark", "benchmark"),
            Column("Accuracy", "share", ("accuracy",)),
            Column("95 %", "range", ("low", "high")),
            Column("Change", "points", ("change",)),
            Column("95 %", "points-range", ("change_low", "change_high")),
            Column("p", "p", ("p_holm",)),
            _text("Note", "note"),
            _text("Verdict", "verdict"),
            Column("p (TOST)", "p", ("p_tost",)),
            Column("Loss excluded", "size", ("loss_excluded",)),
            Column("Detectable", "size", ("detectable",)),
            Column("Bootstrap 95 %", "points-range", ("boot_low", "boot_high")),
            Column("Items", "count", ("n",)),
        ),
        tuple(
            _ability(a, edits, task) for a in analyses for edits in a.results.checkpoints for task in a.results.tasks
        ),
    )


def _ability(analysis: Analysis, edits: int, task: str) -> dict[str, Any]:
    measure, change = analysis.get(edits, task), analysis.curve.get(edits, {}).get(task)
    row: dict[str, Any] = {"run": analysis.label, "edits": edits, "task": task, "benchmark": ability_title(task)}
    if measure is None:
        return row | {"note": "not measured"}
    row |= {"n": measure.n, "accuracy": measure.accuracy, "note": _note(analysis, edits, task)}
    if measure.accuracy is None:
        return row
    row |= {"low": measure.low, "high": measure.high}
    if change is None:
        return row
    return row | {
        "change": change.difference,
        "change_low": change.low,
        "change_high": change.high,
        "broke": change.broke,
        "fixed": change.fixed,
        "p": change.p,
        "p_holm": analysis.adjusted[edits][task],
        "verdict": analysis.verdict(edits, task),
        "p_tost": analysis.equivalence(edits, task),
        "loss_excluded": excluded_loss(change),
        "detectable": analysis.detectable(edits, task),
        "boot_low": change.boot_low,
        "boot_high": change.boot_high,
        "effective": change.effective,
    }


def _note(analysis: Analysis, edits: int, task: str) -> str:
    return "; ".join(FLAGS[flag] for flag in analysis.flags(edits, task))


def answers(analyses: Sequence[Analysis]) -> Table:
    return Table(
        "answers",
        "What was answered",
        "Accuracy: of all items together (micro), macro: the mean over their kinds, such as subjects. Read otherwise: "
        "accuracy by readings of the same outputs that do not decide. Shortened: prompts that lost exemplars to fit "
        "into the model. Parsed: items in whose output an answer was found. Given parsed: accuracy on these alone. Not "
        "finite: items with logits that were NaN or infinite. Chance: of guessing, where it is known. Best constant: "
        "the answer that is right most often if always given. Answers: the most frequent ones, as shares of all items.",
        (
            _text("Run", "run"),
            Column("Edits", "count", ("edits",)),
            _text("Benchmark", "benchmark"),
            Column("Accuracy", "share", ("accuracy",)),
            Column("Macro", "share", ("macro",)),
            _text("Read otherwise", "otherwise"),
            Column("Chance", "share", ("chance",)),
            Column("Best constant", "share", ("best_share",)),
            _text("which is", "best"),
            Column("Parsed", "share", ("parsed",)),
            Column("Given parsed", "share", ("given_parsed",)),
            Column("Empty", "share", ("empty",)),
            Column("Not finite", "count", ("non_finite",)),
            Column("Shortened", "count", ("shortened",)),
            _text("Answers", "answers"),
            _text("Note", "note"),
        ),
        tuple(
            _answers(a, edits, task, found)
            for a in analyses
            for edits in a.results.checkpoints
            for task in a.results.tasks
            if (found := a.get(edits, task)) is not None
        ),
    )


def _answers(analysis: Analysis, edits: int, task: str, found: Measure) -> dict[str, Any]:
    keys = ("accuracy", "macro", "chance", "best_share", "parsed", "given_parsed", "empty", "invalid")
    shown = [f"{_shorten(answer)} {share(count / found.n)}" for answer, count in islice(found.answers.items(), ANSWERS)]
    row: dict[str, Any] = {"run": analysis.label, "edits": edits, "task": task, "benchmark": ability_title(task)}
    return row | {
        **{key: getattr(found, key) for key in (*keys, "non_finite", "shortened", "n")},
        "otherwise": ", ".join(f"{name} {share(value)}" for name, value in found.readings.items()),
        "best": _shorten(found.best),
        "answers": ", ".join(shown) or "none",
        "note": _note(analysis, edits, task),
    }


def _shorten(answer: str | None) -> str:
    if answer is None:
        return "none"
    word = " ".join(answer.split())
    return f"“{word[:16]}…”" if len(word) > 17 else f"“{word}”"


def edit_success(analyses: Sequence[Analysis]) -> Table:
    notes = "; ".join(f"{probe}: {note}" for probe, note in PROBE_NOTES.items())
    return Table(
        "edit-success",
        "Edit success at every checkpoint",
        f"Success: free generation, exact match after a natural stop ({notes}). Its 95 % intervals count edits rather "
        "than prompts where several prompts ask for one edit. Contains: the answer is somewhere in the output. The "
        "next two are the older papers' and flatter. Likelier: the new answer has a higher probability than the old "
        "one (for locality a lower one). Tokens: share of the answer's tokens that are right given those before it.",
        (
            _text("Run", "run"),
            Column("Edits", "count", ("edits",)),
            _text("Probe", "probe"),
            Column("Prompts", "count", ("n",)),
            Column("Success", "share", ("success",)),
            Column("95 %", "range", ("low", "high")),
            Column("Contains", "share", ("contains",)),
            Column("Likelier", "share", ("legacy",)),
            Column("Tokens", "share", ("tokens",)),
            Column("Clean stop", "share", ("clean_stop",)),
            Column("Empty", "share", ("empty",)),
            Column("Invalid", "share", ("invalid",)),
        ),
        tuple(
            _success(a, edits, probe)
            for a in analyses
            for edits in a.results.checkpoints
            for probe in a.results.probes
            if a.get(edits, probe) is not None
        ),
    )


def _success(analysis: Analysis, edits: int, probe: str) -> dict[str, Any]:
    measure = analysis.measures[edits][probe]
    keys = ("n", "low", "high", "contains", "legacy", "tokens", "clean_stop", "empty", "invalid")
    row = {"run": analysis.label, "edits": edits, "probe": probe_title(probe), "success": measure.accuracy}
    return row | {key: getattr(measure, key) for key in keys}


def health(analyses: Sequence[Analysis]) -> Table:
    found = signs(name for a in analyses for values in a.results.health.values() for name in values)
    notes = [f"{sign(name).title}: {sign(name).note}" for name in found if sign(name).note]
    return Table(
        "health",
        "Health of the model",
        f"{'; '.join(notes)}. An empty cell was not finite.",
        (
            _text("Run", "run"),
            Column("Edits", "count", ("edits",)),
            *(Column(sign(name).title, "share" if sign(name).share else "number", (name,)) for name in found),
        ),
        tuple(
            {"run": a.label, "edits": edits, **values}
            for a in analyses
            for edits, values in sorted(a.results.health.items())
            if values
        ),
    )


def ledger(analyses: Sequence[Analysis]) -> Table:
    return Table(
        "ledger",
        "What was written",
        "Batches between checkpoints, from the ledger. Update: the largest norm of one batch's change at one matrix, "
        "relative to that matrix unedited. Diverged: updates that were not finite and were not applied.",
        (
            _text("Run", "run"),
            Column("Edits from", "count", ("first",)),
            Column("to", "count", ("edits",)),
            Column("Applied", "count", ("applied",)),
            Column("Diverged", "count", ("diverged",)),
            Column("Skipped", "count", ("skipped",)),
            Column("Seconds per edit", "number", ("seconds_per_edit",)),
            Column("Largest update", "number", ("update_max",)),
            Column("Median update", "number", ("update_median",)),
        ),
        tuple(row for a in analyses for row in _stretches(a)),
    )


def _stretches(analysis: Analysis) -> Iterable[dict[str, Any]]:
    """One row for the batches between two checkpoints; of single batches one for all."""
    if analysis.results.singles:
        entries = [entry for entry in analysis.results.ledger if entry.batch]
        yield {"run": analysis.label, "first": 1, "edits": entries[-1].edits, **written(entries)}
        return
    for first, last in zip(analysis.results.checkpoints, analysis.results.edited, strict=False):
        entries = [entry for entry in analysis.results.ledger if first < entry.edits <= last]
        if entries:
            yield {"run": analysis.label, "first": first + 1, "edits": last, **written(entries)}


def written(entries: Sequence[Entry]) -> dict[str, Any]:
    """Counts of requests by status, seconds for each edit, and norms of the updates relative to the weights."""
    counts = {
        status: sum(len(entry.requests) for entry in entries if entry.status == status)
        for status in ("applied", "diverged", "skipped")
    }
    tried = counts["applied"] + counts["diverged"]
    norms = [norm for entry in entries for norm in entry.relative_norms.values() if norm is not None]
    return counts | {
        "seconds_per_edit": sum(entry.seconds for entry in entries) / tried if tried else None,
        "update_max": max(norms, default=None),
        "update_median": median(norms) if norms else None,
    }


def _text(title: str, key: str) -> Column:
    return Column(title, "text", (key,))
