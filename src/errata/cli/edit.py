"""errata edit: change facts, and show what changed and what did not."""

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from errata.cli.options import Corpus, Device, Dtype, Filter, Json, Method, Model, Settings, filter_setting, settings
from errata.cli.output import emit, note, progress, table
from errata.errors import BadInput
from errata.types import EditCase, EditRequest, Probe

if TYPE_CHECKING:
    from errata.model.editable import EditableModel
    from errata.update.session import Applied, EditSession

SHOWN = 10  # edits whose answers are printed; --json has all
WIDTH = 60  # characters of an answer that are printed
WANTED = {"prompt": "give the target", "paraphrase": "give the target", "neighbour": "answer as before"}


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
    filter: Filter = None,
    max_change: Annotated[
        float,
        typer.Option(min=0, help="Refuse an update that changes a matrix by more than this share of its norm."),
    ] = 1.0,
    batch: Annotated[int | None, typer.Option(min=1, help="Edits written at once; all if the method can.")] = None,
    corpus: Corpus = None,
    save: Annotated[Path | None, typer.Option(help="Keep the edited model in this folder.")] = None,
    device: Device = None,
    dtype: Dtype = None,
    json: Json = False,
) -> None:
    """Edit facts in a model and ask it before and after."""
    cases = _cases(prompt, subject, target, edits, paraphrase or (), neighbour or ())
    options, clip = settings(change), filter_setting(filter)
    if save is not None:
        _check_folder(save)
    from errata.editing import choose_editor, open_session
    from errata.editing import edit as apply

    session = open_session(model, device, dtype)
    editor = choose_editor(method, session.model, options)
    questions = [q for case in cases for q in _questions(case)]
    before = _ask(session.model, questions)
    start = time.monotonic()
    with progress() as bar:
        requests = [case.request for case in cases]
        applied = apply(
            session, requests, editor, filter=clip, max_change=max_change, batch=batch, corpus=corpus, progress=bar
        )
    seconds = time.monotonic() - start
    answered = [Answered(*each) for each in zip(questions, before, _ask(session.model, questions), strict=True)]
    if save is not None:
        session.save(save)
    if json:
        emit(_document(session, method, applied, answered, seconds, save))
    else:
        _print(session, answered, seconds, save)


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


def _check_folder(folder: Path) -> None:
    """BadInput if a session cannot be saved there: better before the editing than after it."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "errata.json").is_file():
        raise BadInput(f"--save {folder}: the folder holds something else; choose a new or an empty one.")
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise BadInput(f"--save {folder}: {there} is no folder that can be written to; choose another one.")


def _completed(case: EditCase) -> EditCase:
    """The case with a paraphrase and a neighbour of the embedded data where none is given and they know the fact."""
    from errata.atlas.world import known_case

    request = case.request
    known = known_case(request.prompt, request.subject)
    if known is None:
        return case
    others = [text for text in (known.request.prompt, *known.paraphrases) if text != request.prompt]
    others.sort(key=lambda text: "\n" in text)
    neighbours = tuple(probe for probe in known.neighbours if probe.answer != request.target_new)
    return replace(
        case, paraphrases=case.paraphrases or tuple(others[:1]), neighbours=case.neighbours or neighbours[:1]
    )


def _questions(case: EditCase) -> Iterable[Question]:
    yield Question(case, "prompt", case.request.prompt, case.request.target_new)
    for text in case.paraphrases:
        yield Question(case, "paraphrase", text, case.request.target_new)
    for probe in case.neighbours:
        yield Question(case, "neighbour", probe.prompt, probe.answer or None)


def _ask(model: "EditableModel", questions: Sequence[Question]) -> list[str]:
    """The first sentence of each answer."""
    from errata.probes.answers import MAX_TOKENS
    from errata.probes.answers import Question as Asked

    asked = [Asked(q.prompt, q.expected or q.case.request.target_new) for q in questions]
    by_stop: dict[tuple[str, ...], list[int]] = {}
    for i, question in enumerate(asked):
        by_stop.setdefault(question.stop, []).append(i)
    answers = [""] * len(asked)
    for stop, places in by_stop.items():
        found = model.generate_full([asked[i].prompt for i in places], MAX_TOKENS, stop=stop)
        for i, generated in zip(places, found, strict=True):
            answers[i] = asked[i].answer(generated)
    return answers


def _print(session: "EditSession", answered: Sequence[Answered], seconds: float, save: Path | None) -> None:
    shown = list(dict.fromkeys(a.question.case.request.id for a in answered))
    rows = [
        (a.question.kind, a.question.prompt, _short(a.before), _short(a.after))
        for a in answered
        if a.question.case.request.id in shown[:SHOWN]
    ]
    table(("", "asked", "before", "after"), rows)
    if len(shown) > SHOWN:
        typer.echo(f"... and {len(shown) - SHOWN} more edits; --json has all of them")
    typer.echo()
    for line in _summary(session, answered):
        typer.echo(line)
    typer.echo(f"time: {seconds:.2f} seconds")
    if save is not None:
        note(f"Saved. Ask it: errata generate {save} PROMPT. Take the edit back: errata undo {save}")
        if session.model.patches:
            note(
                "Its edits are a memory beside the weights: errata.load(FOLDER).model answers with them, by its own "
                "`generate` too; transformers alone would load the model without them."
            )


def _summary(session: "EditSession", answered: Sequence[Answered]) -> Iterable[str]:
    """How many answers are as they should be, and how far the weights moved."""
    from errata.editing import change

    for kind, wanted in WANTED.items():
        group = [a for a in answered if a.question.kind == kind]
        if group:
            yield f"{kind}s that {wanted}: {sum(map(_as_wanted, group))} of {len(group)}"
    for site, (norm, share) in change(session).items():
        yield f"norm of the change of {site}: {norm:.4g} ({share:.2%} of the matrix)"
    for patch in session.model.patches:
        yield f"memory beside the weights ({patch.kind}): entries {len(patch)}, {patch.nbytes} bytes"


def _as_wanted(answered: Answered) -> bool:
    from errata.probes.answers import same

    if answered.question.kind == "neighbour":
        return same(answered.after, answered.before)
    return same(answered.after, answered.question.case.request.target_new)


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
                    {"id": r.id, "prompt": r.prompt, "subject": r.subject, "target": r.target_new}
                    for r in entry.requests
                ],
                "options": dict(entry.options),
                "filter": None if entry.filter is None else dict(entry.filter),
                "norms": dict(entry.norms),
                "relative_norms": dict(entry.relative_norms),
                "entries": entry.entries,
                "bytes": entry.bytes,
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
