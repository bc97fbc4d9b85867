"""Whether edits took, reach paraphrases, leave neighbours alone, carry over, and last.

The headline is free greedy generation with a natural stop, by normalised exact match: teacher forcing and
cutting to the target's length inflate success (Yang et al. 2025, "The Mirage of Model Editing"). The
comparison of probabilities of the ROME and MEMIT papers is kept beside it, as `legacy`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from errata.errors import BadInput
from errata.model.editable import EditableModel
from errata.model.generation import Generation
from errata.model.scoring import TargetScore, score_targets
from errata.probes.answers import MAX_TOKENS, Question, contains, same
from errata.records import Record
from errata.types import EditCase

Progress = Callable[[str, int, int], None]
MOST = 2
"""Probes of each table and kind that are asked for one edit: the first ones of the case."""


@dataclass(frozen=True)
class _Probe:
    """One question about one edit. new, true: the answers whose probabilities are compared, where there are both.

    kind: of `Probe`. aliases: of `Probe`, of the answer that counts.
    """

    table: str
    item: str
    edit: int
    question: Question
    new: str
    true: str | None
    kind: str = ""
    aliases: tuple[str, ...] = ()


def choose(edits: int, limit: int, seed: int) -> list[int]:
    """Which of the first `edits` edits are probed, in order: the first, the last and `limit` random ones.

    The random ones are nested: what is chosen among more edits was chosen among fewer, so an edit's fate can
    be followed from checkpoint to checkpoint.
    """
    return sorted({*_drawn(edits, limit, seed), *([0, edits - 1] if edits else [])})


def choose_earlier(edits: int, limit: int, seed: int) -> dict[str, list[int]]:
    """The first, random and last `limit` of the first `edits` edits, ascending; "random" ones are nested.

    One edit may be in several of them. No group where there is no edit.
    """
    indices = list(range(edits))
    groups = {"first": indices[:limit], "random": sorted(_drawn(edits, limit, seed)), "last": indices[-limit:]}
    return groups if edits and limit else {}


def _drawn(edits: int, limit: int, seed: int) -> list[int]:
    return sorted(range(edits), key=lambda index: Random(f"probe-{seed}-{index}").random())[:limit]


def base_answers(
    model: EditableModel, cases: Sequence[EditCase], edited: Iterable[int], progress: Progress | None = None
) -> dict[str, str]:
    """What the unedited model answers to the neighbours of the edits `edited`, by prompt."""
    probes = [probe for index in edited for probe in _locality(cases[index], index)]
    questions = list({probe.question.prompt: probe.question for probe in probes}.values())
    _tell(progress, "neighbours of the unedited model", 0, 1)
    answers = _ask(model, questions)
    _tell(progress, "neighbours of the unedited model", 1, 1)
    return {question.prompt: question.answer(answer) for question, answer in zip(questions, answers, strict=True)}


def answered(model: EditableModel, cases: Sequence[EditCase]) -> list[bool]:
    """Whether the model gives each case's new answer already, asked its prompt freely."""
    questions = [Question(case.request.prompt, case.request.target_new) for case in cases]
    answers = zip(questions, _ask(model, questions), strict=True)
    return [same(question.answer(answer), question.expected) for question, answer in answers]


def probe_cases(
    model: EditableModel,
    cases: Sequence[EditCase],
    edited: Sequence[int],
    base: Mapping[str, str],
    progress: Progress | None = None,
    *,
    earlier: Mapping[str, Sequence[int]] | None = None,
) -> list[Record]:
    """One row for each probe of the edits `edited`: efficacy, generalization, locality, portability; and retention.

    edited: indices into `cases` of edits that were made (`choose`), ascending. base: `base_answers` of them.
    earlier: edits made before the last batch, by kind (`choose_earlier`): the rows of retention are theirs, efficacy
    asked again, as REQUEST/KIND.
    Locality counts agreement with the unedited model's own answer, right or wrong.
    """
    earlier = earlier or {}
    tables = {"generalization": _generalization, "locality": _locality, "portability": _portability}
    of = 1 + len(tables)
    _tell(progress, "efficacy", 0, of)
    asked = sorted({*edited, *(index for group in earlier.values() for index in group)})
    took = dict(zip(asked, _measure(model, [_efficacy(cases[index], index) for index in asked], base), strict=True))
    records = [took[index] for index in edited]
    for done, (name, probes_of) in enumerate(tables.items(), start=1):
        _tell(progress, name, done, of)
        records += _measure(model, [probe for index in edited for probe in probes_of(cases[index], index)], base)
    _tell(progress, "probes", of, of)
    last = max(edited, default=-1)
    return records + [_retained(took[index], kind, last) for kind, group in earlier.items() for index in group]


def _efficacy(case: EditCase, index: int) -> _Probe:
    return _about_edit("efficacy", case, index, case.request.prompt, case.request.id)


def _generalization(case: EditCase, index: int) -> list[_Probe]:
    prompts = enumerate(case.paraphrases[:MOST])
    return [_about_edit("generalization", case, index, prompt, f"{case.request.id}/{n}") for n, prompt in prompts]


def _about_edit(table: str, case: EditCase, index: int, prompt: str, item: str) -> _Probe:
    request = case.request
    return _Probe(table, item, index, Question(prompt, request.target_new), request.target_new, request.target_true)


def _locality(case: EditCase, index: int) -> list[_Probe]:
    request = case.request
    return [
        _Probe(
            "locality",
            f"{request.id}/{n}",
            index,
            Question(p.prompt, p.answer),
            request.target_new,
            p.answer,
            aliases=p.aliases,
        )
        for n, p in enumerate(case.neighbours[:MOST])
    ]


def _portability(case: EditCase, index: int) -> list[_Probe]:
    before: Counter[str] = Counter()
    probes = []
    for n, p in enumerate(case.portability):
        before[p.kind] += 1
        if before[p.kind] <= MOST:
            item, question = f"{case.request.id}/{n}", Question(p.prompt, p.answer)
            probes.append(_Probe("portability", item, index, question, p.answer, None, p.kind, p.aliases))
    return probes


def _measure(model: EditableModel, probes: Sequence[_Probe], base: Mapping[str, str]) -> list[Record]:
    if not probes:
        return []
    answers = _ask(model, [probe.question for probe in probes])
    new = score_targets(model, [(probe.question.prompt, probe.new) for probe in probes])
    true = _scores_of_true(model, probes)
    return [
        _record(probe, answer, _gold(probe, base), new[i], true.get(i))
        for i, (probe, answer) in enumerate(zip(probes, answers, strict=True))
    ]


def _scores_of_true(model: EditableModel, probes: Sequence[_Probe]) -> dict[int, TargetScore]:
    pairs = {i: (probe.question.prompt, probe.true) for i, probe in enumerate(probes) if probe.true is not None}
    return dict(zip(pairs, score_targets(model, list(pairs.values())), strict=True))


def _ask(model: EditableModel, questions: Sequence[Question]) -> list[Generation]:
    """Answers in the order of the questions: one batched generation for each way to stop."""
    answers: dict[int, Generation] = {}
    for stop in dict.fromkeys(question.stop for question in questions):
        members = [i for i, question in enumerate(questions) if question.stop == stop]
        given = model.generate_full([questions[i].prompt for i in members], MAX_TOKENS, stop)
        answers |= dict(zip(members, given, strict=True))
    return [answers[i] for i in range(len(questions))]


def _gold(probe: _Probe, base: Mapping[str, str]) -> str:
    if probe.table != "locality":
        return probe.new
    if probe.question.prompt not in base:
        raise BadInput(
            f"the unedited model's answer to the neighbour {probe.question.prompt!r} is missing; "
            "ask it first: errata.probes.edits.base_answers"
        )
    return base[probe.question.prompt]


def _record(probe: _Probe, generated: Generation, gold: str, new: TargetScore, true: TargetScore | None) -> Record:
    answer = probe.question.answer(generated)
    valid = generated.finite and new.mean == new.mean and (true is None or true.mean == true.mean)
    return Record(
        table=probe.table,
        item=probe.item,
        correct=valid and same(answer, gold, *(() if probe.table == "locality" else probe.aliases)),
        parsed=valid and bool(answer),
        empty=not generated.text.strip(),
        invalid=not valid,
        output=generated.text,
        predicted=answer if valid and answer else None,
        gold=gold,
        legacy=_legacy(probe.table, new, true) if valid else None,
        logp_new=new.mean,
        logp_true=true.mean if true else None,
        clean_stop=generated.clean_stop,
        edit=probe.edit,
        extra=_extra(probe, answer, gold, new, true),
    )


def _legacy(table: str, new: TargetScore, true: TargetScore | None) -> bool | None:
    """ES and PS: the new answer is likelier than the true one; NS: the other way round (ROME, section 3.2).

    By the mean over an answer's tokens, so that the shorter answer has no advantage; the sums are in `extra`.
    """
    if true is None:
        return None
    return true.mean > new.mean if table == "locality" else new.mean > true.mean


def _extra(probe: _Probe, answer: str, gold: str, new: TargetScore, true: TargetScore | None) -> dict[str, object]:
    shared: dict[str, object] = {"contains": contains(answer, gold), "sum_new": new.total}
    if true is not None:
        shared["sum_true"] = true.total
    if probe.table == "locality":
        return shared | {
            "true": probe.true,
            "knows": same(answer, probe.true or "", *probe.aliases),
            "says_new": same(answer, probe.new),
        }
    return shared | {"token_accuracy": new.matched} | ({"kind": probe.kind} if probe.kind else {})


def _retained(record: Record, kind: str, last: int) -> Record:
    """An earlier edit's row of efficacy as one of retention, with its age in edits. last: index of the last edit."""
    extra = {**record.extra, "kind": kind, "age": last - (record.edit or 0)}
    return replace(record, table="retention", item=f"{record.item}/{kind}", extra=extra)


def _tell(progress: Progress | None, what: str, done: int, of: int) -> None:
    if progress:
        progress(what, done, of)
