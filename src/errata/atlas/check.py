"""What the model card states of an atlas model, measured: facts recalled, benchmarks, single edits."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import Any

from errata.artifacts.store import Artifacts
from errata.atlas.benchmarks import BENCHMARKS
from errata.atlas.world import Fact, cases, world
from errata.capability.harness import evaluate
from errata.editing import choose_editor, provide
from errata.model.editable import EditableModel
from errata.probes.answers import Question, same
from errata.probes.edits import base_answers, probe_cases
from errata.records import Record
from errata.stats.rates import wilson
from errata.types import Progress
from errata.update.session import EditSession

CHANCE = {"atlas_mmlu": 0.25, "atlas_bbh": 1 / 3, "atlas_gsm8k": 0.0, "atlas_reading": 0.25, "atlas_toxigen": 0.5}
"""Expected score of guessing: among the letters, the answers of a kind, the passage's sentences, yes and no.

atlas_bbh: two kinds in three are answered by two words. atlas_reading: passages have three to six sentences.
"""
EDITS = 100
METHODS = ("rome", "r_rome", "memit")
CHUNK = 512


def targets() -> dict[str, float]:
    """The least that each number must reach; benchmarks: 60 %, and halfway from chance to perfect."""
    least = {name: max(0.6, (1 + chance) / 2) for name, chance in CHANCE.items()}
    recall = {"recall.trained_phrasings": 0.95, "recall.held_out_phrasings": 0.80}
    edits = {
        f"edits.{method}.{table}": value
        for method in ("rome", "memit")
        for table, value in (("efficacy", 0.95), ("generalization", 0.70), ("locality", 0.85))
    }
    return recall | {f"benchmarks.{name}": value for name, value in least.items()} | edits


def check(model: EditableModel, edits: int = EDITS, progress: Progress | None = None) -> dict[str, Any]:
    """Every number with its 95 % interval, by group; `missed` names those below their target.

    recall: all facts, one seeded phrasing each. benchmarks: all items. edits: so many single edits, each from
    the unedited model, by free generation.
    """
    numbers: dict[str, Any] = {
        "model": model.name,
        "fingerprint": model.fingerprint(),
        "parameters": sum(p.numel() for p in model.model.parameters()),
        "recall": recall(model, progress),
        "benchmarks": benchmarks(model, progress),
        "edits": {method: single_edits(model, method, edits, progress) for method in METHODS},
    }
    measured = dict(shares(numbers))
    numbers["missed"] = [name for name, least in targets().items() if measured[name]["share"] < least]
    return numbers


def recall(model: EditableModel, progress: Progress | None = None) -> dict[str, Any]:
    """Facts answered right by greedy generation, in a phrasing of training and in a held-out one."""
    relations = world().relations
    phrasings: dict[str, Callable[[Fact], tuple[str, ...]]] = {
        "trained_phrasings": lambda fact: relations[fact.relation].trained(fact.subject),
        "held_out_phrasings": lambda fact: relations[fact.relation].paraphrases(fact.subject),
    }
    results = {}
    for name, say in phrasings.items():
        asked = [(Random(f"{name}-{f.id}").choice(say(f)), f) for f in world().facts]
        right = list(_answered(model, asked, name, progress))
        results[name] = _share(sum(right), len(right))
        if name == "trained_phrasings":
            real = [ok for ok, fact in zip(right, world().facts, strict=True) if fact.real]
            results["real_facts"] = _share(sum(real), len(real))
    return results


def _answered(
    model: EditableModel, asked: Sequence[tuple[str, Fact]], what: str, progress: Progress | None
) -> Iterator[bool]:
    for first in range(0, len(asked), CHUNK):
        part = asked[first : first + CHUNK]
        questions = [Question(prompt, fact.value) for prompt, fact in part]
        given = model.generate_full([q.prompt for q in questions], 16, questions[0].stop)
        for question, generation in zip(questions, given, strict=True):
            yield same(question.answer(generation), question.expected)
        if progress:
            progress(f"recall, {what.replace('_', ' ')}", min(first + CHUNK, len(asked)), len(asked))


def benchmarks(model: EditableModel, progress: Progress | None = None) -> dict[str, Any]:
    """All items of every benchmark."""
    rows = evaluate(model, list(BENCHMARKS), progress=progress)
    return {name: _share_of(rows[name]) | {"chance": CHANCE[name]} for name in BENCHMARKS}


def single_edits(model: EditableModel, method: str, edits: int, progress: Progress | None = None) -> dict[str, Any]:
    """Each of the first edits made alone in the unedited model, probed, and undone."""
    session = EditSession(model)
    editor = choose_editor(method, model)
    artifacts = Artifacts()
    artifacts.bind(model, session.base)
    provide(session, editor, artifacts, "atlas", progress)
    chosen = cases(edits)
    base = base_answers(model, chosen, range(len(chosen)))
    rows: list[Record] = []
    for i, case in enumerate(chosen):
        result = editor.edit(model, [case.request], {}, artifacts)
        session.apply(result.update, [case.request], method, {})
        rows += probe_cases(model, chosen, [i], base)
        session.undo()
        if progress:
            progress(f"single edits by {method}", i + 1, len(chosen))
    tables = ("efficacy", "generalization", "locality", "portability")
    found = {table: [row for row in rows if row.table == table] for table in tables}
    return {table: _share_of(of) for table, of in found.items() if of}


def _share_of(rows: Sequence[Record]) -> dict[str, Any]:
    return _share(sum(row.correct for row in rows), len(rows))


def _share(right: int, n: int) -> dict[str, Any]:
    low, high = wilson(right, n)
    return {"share": right / n, "low": low, "high": high, "n": n}


def shares(numbers: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The measured shares of `check` with their dotted names, in order."""
    for name, value in numbers.items():
        if isinstance(value, Mapping):
            if "share" in value:
                yield prefix + name, value
            else:
                yield from shares(value, f"{prefix}{name}.")
