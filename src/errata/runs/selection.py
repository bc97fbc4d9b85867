"""Which edits of a data set a run makes: those that can be located, do not contradict and, if asked, are not known."""

import json
from collections.abc import Collection, Iterator, Sequence

from errata.data.cases import contradictions, grouped
from errata.errors import BadInput
from errata.model.editable import EditableModel
from errata.model.tokens import ChatFrame, encode_target, subject_index
from errata.probes.edits import answered
from errata.runs.chat import framed_case, framed_request
from errata.runs.layout import RunDir
from errata.types import EditCase, EditRequest, Progress

AT_ONCE = 64
"""Edits whose prompts are asked together, so that a run of ten edits does not ask those of ten thousand."""
KNOWN = "the unedited model gives the new answer already"

Verdict = tuple[EditCase, str | None]
"""A case and why it is not edited, None if it is."""


def select(
    model: EditableModel,
    cases: Sequence[EditCase],
    wanted: int,
    known: Collection[str] | None = (),
    frame: ChatFrame | None = None,
    progress: Progress | None = None,
) -> tuple[list[EditCase], list[tuple[str, str]]]:
    """The first `wanted` cases that can be edited, and (id, reason) of those before them that cannot.

    known: ids of requests whose new answer the unedited model gives; None to ask it. frame: the chat template in
    which they are edited.
    """
    kept: list[EditCase] = []
    skipped: list[tuple[str, str]] = []
    for case, reason in verdicts(model, cases, known, frame):
        if reason is None:
            kept.append(case)
        else:
            skipped.append((case.request.id, reason))
        if len(kept) == wanted:
            break
        if progress and known is None:
            progress("edits asked beforehand", len(kept), wanted)
    if progress and known is None:
        progress("edits asked beforehand", wanted, wanted)
    if not kept:
        raise BadInput(f"none of the edits can be made in {model.name}; the first one: {skipped[0][1]}")
    return kept, skipped


def verdicts(
    model: EditableModel, cases: Sequence[EditCase], known: Collection[str] | None, frame: ChatFrame | None = None
) -> Iterator[Verdict]:
    """The verdict on each case in order, a few asked ahead at most. known, frame: as for `select`."""
    opposed = {late.id: early.id for early, late in contradictions([case.request for case in cases])}
    for chunk in _chunks(grouped(cases)):
        located = [verdict for group in chunk for verdict in _of_group(model, group, opposed, frame)]
        free = [case for case, reason in located if reason is None]
        if known is None:
            ids = {
                case.request.id
                for case, yes in zip(free, answered(model, [framed_case(case, frame) for case in free]))
                if yes
            }
        else:
            ids = {case.request.id for case in free} & set(known)
        yield from ((case, KNOWN if case.request.id in ids else reason) for case, reason in located)


def read_known(run: RunDir) -> list[str] | None:
    """Ids of the edits that the run's model knew when the run began, None if they were not asked yet."""
    return list(json.loads(run.known.read_text("utf-8"))["edits"]) if run.known.exists() else None


def _chunks(groups: Sequence[Sequence[EditCase]]) -> Iterator[list[Sequence[EditCase]]]:
    """The groups in order, some together: no more than hold about `AT_ONCE` cases."""
    chunk: list[Sequence[EditCase]] = []
    for group in groups:
        chunk.append(group)
        if sum(map(len, chunk)) >= AT_ONCE:
            yield chunk
            chunk = []
    yield chunk


def _of_group(
    model: EditableModel, group: Sequence[EditCase], opposed: dict[str, str], frame: ChatFrame | None
) -> list[Verdict]:
    """One that cannot be made takes the others of its group with it, since questions take them all."""
    found = [(case, _obstacle(model, framed_request(case.request, frame), opposed)) for case in group]
    ill = next((case.request.id for case, reason in found if reason is not None), None)
    if ill is None:
        return found
    return [(case, reason or f"belongs together with edit {ill}, which cannot be made") for case, reason in found]


def _obstacle(model: EditableModel, request: EditRequest, opposed: dict[str, str]) -> str | None:
    """Why the request cannot be made, None if it can."""
    try:
        subject_index(model.tokenizer, request.prompt, request.subject)
        ids, _ = encode_target(model.tokenizer, request.prompt, request.target_new)
    except BadInput as error:
        return str(error)
    if len(ids) > model.context:
        return f"prompt and target have {len(ids)} tokens; {model.name} reads {model.context}"
    if request.id in opposed:
        return f"contradicts edit {opposed[request.id]}: the same prompt with another answer"
    return None
