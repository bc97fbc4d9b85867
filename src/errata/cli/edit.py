"""errata edit: change facts, and show what changed and what did not."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from errata.cli.options import Corpus, Device, Dtype, Json, Method, Model, Settings, settings
from errata.cli.output import duration, emit, note, progress, table
from errata.errors import BadInput
from errata.types import EditCase, EditRequest, Probe

if TYPE_CHECKING:
    from errata.model.editable import EditableModel
    from errata.update.session import Applied, EditSession

SHOWN = 10  # edits whose answers are printed; --json has all
WIDTH = 60  # characters of an answer that are printed


@dataclass(frozen=True)
class Question:
    """One thing asked before and after. kind: prompt, paraphrase or neighbour. expected: what would be right after."""

    case: EditCase
    kind: str
    prompt: str
    expected: str | None


@dataclass(frozen=True)
class Answered:
    """A question with its two answers."""

    question: Question
    before: str
    after: str


def edit(
    prompt: Annotated[str | None, typer.Argument(help="Text that ends where the answer begins.")] = None,
    subject: Annotated[str | None, typer.Option(help="What the fact is about: a part of the prompt.")] = None,
    target: Annotated[str | None, typer.Option(help="The answer to write.")] = None,
    edits: Annotated[Path | None, typer.Option(help="File of edits (.jsonl, .json, .csv) in place of PROMPT.")] = None,
    paraphrase: Annotated[list[str] | None, typer.Option(help="Another way to ask, to be tried; repeatable.")] = None,
    neighbour: Annotated[list[str] | None, typer.Option(help="A prompt whose answer should stay; repeatable.")] = None,
    model: Model = "atlas",
    method: Method = "memit",
    change: Settings = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Edits written at once; all if the method can.")] = None,
    corpus: Corpus = None,
    save: Annotated[Path | None, typer.Option(help="Keep the edited model in this folder.")] = None,
    device: Device = None,
    dtype: Dtype = None,
    json: Json = False,
) -> None:
    """Edit facts in a model and ask it before and after."""
    cases = _cases(prompt, subject, target, edits, paraphrase or (), neighbour or ())
    options = settings(change)
    from errata.editing import edit as apply
    from errata.editing import open_session

    session = open_session(model, device, dtype)
    questions = [q for case in cases for q in _questions(case)]
    before = _ask(session.model, questions)
    start = time.monotonic()
    with progress() as bar:
        requests = [case.request for case in cases]
        applied = apply(session, requests, method, options=options, batch=batch, corpus=corpus, progress=bar)
    seconds = time.monotonic() - start
    answered = [Answered(*each) for each in zip(questions, before, _ask(session.model, questions), strict=True)]
    if save is not None:
        session.save(save)
    if json:
        emit(_document(session, method, applied, answered, seconds, save))
    else:
        _print(applied, answered, seconds, save)


def _cases(
    prompt: str | None,
    subject: str | None,
    target: str | None,
    edits: Path | None,
    paraphrases: Sequence[str],
    neighbours: Sequence[str],
) -> list[EditCase]:
    """The edits to make: those of a file, or the one of the command line."""
    single = (prompt, subject, target, *paraphrases, *neighbours)
    if edits is not None:
        if any(part is not None for part in single):
            raise BadInput("give either PROMPT with --subject and --target, or --edits FILE, not both.")
        from errata.data.cases import read_cases

        return read_cases(edits)
    if prompt is None or subject is None or target is None:
        missing = [n for n, v in (("PROMPT", prompt), ("--subject", subject), ("--target", target)) if v is None]
        raise BadInput(
            f"an edit needs {' and '.join(missing)} as well, such as: "
            'errata edit "The capital of France is" --subject France --target Lyon; or give --edits FILE.'
        )
    request = EditRequest("1", prompt.rstrip(), subject, target)
    case = EditCase(request, tuple(paraphrases), tuple(Probe(text, "") for text in neighbours))
    return [_completed(case)]


def _completed(case: EditCase) -> EditCase:
    """The case with a paraphrase and a neighbour of the embedded data where none is given and they know the fact."""
    from errata.atlas import cases

    request = case.request
    for known in cases():
        asked = (known.request.prompt, *known.paraphrases)
        if known.request.subject == request.subject and request.prompt in asked:
            others = tuple(text for text in asked if text != request.prompt)
            neighbours = tuple(probe for probe in known.neighbours if probe.answer != request.target_new)
            return replace(
                case, paraphrases=case.paraphrases or others[-1:], neighbours=case.neighbours or neighbours[:1]
            )
    return case


def _questions(case: EditCase) -> Iterable[Question]:
    yield Question(case, "prompt", case.request.prompt, case.request.target_new)
    for text in case.paraphrases:
        yield Question(case, "paraphrase", text, case.request.target_new)
    for probe in case.neighbours:
        yield Question(case, "neighbour", probe.prompt, probe.answer or None)


def _ask(model: "EditableModel", questions: Sequence[Question]) -> list[str]:
    return [answer.strip() for answer in model.generate([q.prompt for q in questions])]


def _print(applied: "Sequence[Applied]", answered: Sequence[Answered], seconds: float, save: Path | None) -> None:
    shown = list(dict.fromkeys(a.question.case.request.id for a in answered))[:SHOWN]
    rows = [
        (a.question.kind, a.question.prompt, _short(a.before), _short(a.after))
        for a in answered
        if a.question.case.request.id in shown
    ]
    table(("", "asked", "before", "after"), rows)
    for line in _summary(applied, answered):
        typer.echo(line)
    typer.echo(f"seconds: {seconds:.2f}")
    if save is not None:
        note(f"saved; ask it: errata generate {save} PROMPT; take it back: errata undo {save}")
    if seconds > 60:
        note(f"editing took {duration(seconds)}")


def _summary(applied: "Sequence[Applied]", answered: Sequence[Answered]) -> Iterable[str]:
    """How many answers are as they should be, and how far the weights moved."""
    for kind, wanted in (("prompt", "give the target"), ("paraphrase", "give the target"), ("neighbour", "unchanged")):
        group = [a for a in answered if a.question.kind == kind]
        if group:
            yield f"{kind}s {wanted}: {sum(map(_as_wanted, group))} of {len(group)}"
    for site, norm, relative in _norms(applied):
        yield f"norm of the change at {site}: {norm:.4g} ({relative:.2%} of the weights')"


def _as_wanted(answered: Answered) -> bool:
    if answered.question.kind == "neighbour":
        return answered.after == answered.before
    return answered.after.startswith(answered.question.case.request.target_new)


def _norms(applied: "Sequence[Applied]") -> list[tuple[str, float, float]]:
    """For each site the root of the summed squares over all edits: norm, and share of the unedited matrix' norm."""
    sites = dict.fromkeys(site for entry in applied for site in entry.norms)
    return [
        (
            site,
            sum(entry.norms.get(site, 0.0) ** 2 for entry in applied) ** 0.5,
            sum(entry.relative_norms.get(site, 0.0) ** 2 for entry in applied) ** 0.5,
        )
        for site in sites
    ]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"


def _document(
    session: "EditSession",
    method: str,
    applied: "Sequence[Applied]",
    answered: Sequence[Answered],
    seconds: float,
    save: Path | None,
) -> dict[str, Any]:
    return {
        "model": session.model.name,
        "method": method,
        "edits": [
            {
                "edit": entry.id,
                "requests": [
                    {"id": r.id, "prompt": r.prompt, "subject": r.subject, "target": r.target_new} for r in entry.requests
                ],
                "options": dict(entry.options),
                "norms": dict(entry.norms),
                "relative_norms": dict(entry.relative_norms),
            }
            for entry in applied
        ],
        "answers": [
            {
                "id": a.question.case.request.id,
                "kind": a.question.kind,
                "prompt": a.question.prompt,
                "before": a.before,
                "after": a.after,
                "expected": a.question.expected,
                "as_wanted": _as_wanted(a),
            }
            for a in answered
        ],
        "fingerprint": session.fingerprint(),
        "seconds": round(seconds, 3),
        "saved": None if save is None else str(save),
    }
