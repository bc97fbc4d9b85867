"""Prompts that do not fit into a model's context lose whole exemplars, the oldest first, and this is counted.

As the published evaluation of MMLU does it, for every task with exemplars: a prompt that is cut in the middle of an
exemplar would show the model another format than the one asked for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Shortened:
    """dropped: exemplars left out. cut: still too long without any, so that the model reads only the end of it."""

    dropped: int
    cut: bool


class _Window:
    """A sampler that draws once for an item and shows its exemplars without the first `skip`."""

    def __init__(self, sampler: Any) -> None:
        self._sampler = sampler
        self._drawn: Sequence[Any] | None = None
        self.skip = 0

    def sample(self, n: int, eval_doc: Any = None, **options: Any) -> Sequence[Any]:
        if self._drawn is None:
            self._drawn = self._sampler.sample(n=n, eval_doc=eval_doc, **options)
        return self._drawn[self.skip :]

    def renew(self) -> None:
        self._drawn, self.skip = None, 0

    def set_rnd(self, seed: int | None) -> None:
        self._sampler.set_rnd(seed)


def shorten(task: Any, length: Callable[[str], int], context: int) -> dict[str, Shortened]:
    """From now on the task's prompts fit; returns what was done, by prompt, filled as they are built.

    length: tokens of a text. context: positions of the model. A task may ask for less by `max_length` in its metadata.
    """
    done: dict[str, Shortened] = {}
    whole, window = task.fewshot_context, _Window(getattr(task, "sampler", None))
    limit = min(context, (task.config.metadata or {}).get("max_length", context))

    def fewshot_context(doc: Any, num_fewshot: int, **options: Any) -> Any:
        window.renew()
        room = _room(task, doc, length, limit)
        for window.skip in range(num_fewshot + 1):
            text = whole(doc, num_fewshot=num_fewshot, **options)
            fits = not isinstance(text, str) or length(text) <= room
            if fits:
                break
        if window.skip or not fits:
            done[text] = Shortened(window.skip, not fits)
        return text

    task.sampler, task.fewshot_context = window, fewshot_context
    return done


def _room(task: Any, doc: Any, length: Callable[[str], int], limit: int) -> int:
    """Positions left for a prompt, of which an output to be generated takes at most half, as in `ErrataLM`."""
    if task.OUTPUT_TYPE == "generate_until":
        return max(limit - int((task.config.generation_kwargs or {}).get("max_gen_toks", 0)), limit // 2)
    if task.OUTPUT_TYPE != "multiple_choice":
        return limit
    delimiter, bos = task.config.target_delimiter, length("")
    return limit + 1 + bos - max(length(f"{delimiter}{choice}") for choice in task.doc_to_choice(doc))
