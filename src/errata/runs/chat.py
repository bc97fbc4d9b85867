"""Requests and probes as a chat model is asked them: inside its chat template."""

from dataclasses import dataclass, replace

from errata.model.editable import EditableModel
from errata.model.tokens import ChatFrame, chat_frame
from errata.runs.config import ChatTemplate
from errata.types import EditCase, EditRequest, Probe


@dataclass(frozen=True)
class Frames:
    """The chat template around the prompts of edits, and around what the model is asked; None for none."""

    edits: ChatFrame | None = None
    probes: ChatFrame | None = None

    @property
    def used(self) -> ChatTemplate:
        """What goes through the template."""
        return ChatTemplate(edits=self.edits is not None, probes=self.probes is not None)


def frames(chosen: ChatTemplate, model: EditableModel) -> Frames:
    """As chosen; "auto" uses a template that is there. BadInput if one is asked for that is not."""
    asked = chosen.settled(bool(model.tokenizer.chat_template))
    frame = chat_frame(model.tokenizer) if asked.edits or asked.probes else None
    return Frames(frame if asked.edits else None, frame if asked.probes else None)


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
