"""The nouns that every layer shares: requests, cases and probes. No torch here."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from errata.errors import BadInput

Progress = Callable[[str, int, int], None]
"""Called with (what, done, of how many) while something takes time."""
Engine = Literal["local", "vllm"]
"""What answers capability tasks."""
Scale = Literal["atlas", "paper"]
"""On which models a paper's experiment is run: the embedded ones, or its own."""
Protocol = Literal["fixed", "paper"]
"""How methods are run: as their papers have them, or as the papers on collapse ran them."""
PREFIX_CACHE = 0.25
"""GiB of memory for keys and values of prefixes that prompts share, unless the user says otherwise."""


@dataclass(frozen=True)
class EditRequest:
    """One fact to write. It knows nothing of its probes: an editor cannot peek at its exam.

    prompt: text that ends where the answer begins, without trailing space; contains `subject`.
    target_new, target_true: answers without leading space.
    """

    id: str
    prompt: str
    subject: str
    target_new: str
    target_true: str | None = None

    def __post_init__(self) -> None:
        for name in ("prompt", "subject", "target_new"):
            if not getattr(self, name).strip():
                raise BadInput(f"edit {self.id}: {name} is empty; give the text of the {name}.")
        if self.subject not in self.prompt:
            raise BadInput(
                f"edit {self.id}: the subject {self.subject!r} is not in the prompt {self.prompt!r}; "
                "name a part of the prompt, letter by letter."
            )


@dataclass(frozen=True)
class Probe:
    """A question and the answer that counts as right.

    kind: how it follows from an edit, where it does: "alias" (the subject by another name), "one_hop" (one further
    fact about the new answer), "two_hop" (two of them), or another word; "" where that is not known.
    aliases: other ways to give the answer, which count as well.
    """

    prompt: str
    answer: str
    kind: str = ""
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class EditCase:
    """A request and its probes.

    paraphrases: prompts that should give `target_new` after the edit (generalization).
    neighbours: prompts, mostly about other subjects, whose answer must not change (locality); answer = the true one.
    portability: questions that follow from the new fact; answer = what follows.
    group: shared by edits that stand side by side and belong together: questions of the last one take all of them.
    source: where the case was read, such as "file:line".
    """

    request: EditRequest
    paraphrases: tuple[str, ...] = ()
    neighbours: tuple[Probe, ...] = ()
    portability: tuple[Probe, ...] = ()
    group: str = ""
    source: str = field(default="", compare=False)

    @property
    def phrasings(self) -> tuple[str, ...]:
        """The prompt and its paraphrases: all that is in the scope of the edit."""
        return self.request.prompt, *self.paraphrases
