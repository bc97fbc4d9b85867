"""Requests and probes as a chat model is asked them: inside its chat template."""

from dataclasses import replace

from errata.model.editable import EditableModel
from errata.model.tokens import ChatFrame
from errata.runs.config import ChatTemplate
from errata.types import EditCase, EditRequest, Probe


def settled(chosen: ChatTemplate, model: EditableModel) -> ChatTemplate:
    """What is asked of the template, without "auto": a model that has one uses it."""
    return chosen.settled(bool(model.tokenizer.chat_template))


def framed_request(request: EditRequest, frame: ChatFrame | None) -> EditRequest:
    """The request with its prompt as the user's message; as it is without a frame."""
    return request if frame is None else replace(request, prompt=frame(request.prompt))


def framed_case(case: EditCase, frame: ChatFrame | None) -> EditCase:
    """The case with every prompt as the user's message; as it is without a frame."""
    if frame is None:
        return case

    def asked(probe: Probe) -> Probe:
        return replace(probe, prompt=frame(probe.prompt))

    return replace(
        case,
        request=framed_request(case.request, frame),
        paraphrases=tuple(map(frame, case.paraphrases)),
        neighbours=tuple(map(asked, case.neighbours)),
        portability=tuple(map(asked, case.portability)),
    )
