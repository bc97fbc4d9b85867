"""Errata's models as a model of lm-evaluation-harness, called "errata" there.

It gives the answers of the harness' own `hf` model, faster: rows are packed by length, what they share is computed
once, one-token choices share a pass, and logits exist only where they are read.
From the command line, with all options of the harness:

    python -m errata.capability.local --model errata --model_args pretrained=atlas --tasks atlas_mmlu ...
"""

import logging
import math
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any

import torch
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from errata.errors import BadInput
from errata.model.caches import GIB, PrefixCache
from errata.model.editable import EditableModel
from errata.model.generation import Generation, generate
from errata.model.loading import load
from errata.model.lower import LowerStates
from errata.model.scoring import Row, tail_log_probs, target_log_prob
from errata.model.tokens import chat_text, encode
from errata.types import PREFIX_CACHE

Scored = tuple[float, bool]
Advance = Callable[[int], None]
MAX_NEW_TOKENS = 256
RECENT = 64
"""Texts whose tokens are remembered."""

_log = logging.getLogger(__name__)


class GeneratedText(str):
    """A continuation, with what the harness does not carry: how it ended, and whether logits stayed finite."""

    clean_stop: bool
    finite: bool

    def __new__(cls, text: str, clean_stop: bool = True, finite: bool = True) -> "GeneratedText":
        made = super().__new__(cls, text)
        made.clean_stop, made.finite = clean_stop, finite
        return made


@register_model("errata")
class ErrataLM(TemplateLM):  # type: ignore[misc]  # the harness is untyped
    """An `EditableModel` that answers the harness' requests.

    pretrained: the model, or its name as `errata.load` takes it. advance: called with the number of requests
    just answered. batch_size, max_batch_size: accepted because the harness passes them; rows are packed by
    their tokens instead. prefix_cache: GiB of memory for keys and values of prefixes that are kept from task to
    task. lower: hidden states of an edited model's lower layers, kept from checkpoint to checkpoint.
    """

    def __init__(
        self,
        pretrained: EditableModel | str,
        device: str | None = None,
        dtype: str | None = None,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        advance: Advance | None = None,
        prefix_cache: float = PREFIX_CACHE,
        lower: LowerStates | None = None,
    ) -> None:
        super().__init__()
        del batch_size, max_batch_size
        # The harness' command line asks for a GPU unless told otherwise, and its own model then looks for itself.
        device = None if device and device.startswith("cuda") and not torch.cuda.is_available() else device
        self.editable = load(pretrained, device, dtype) if isinstance(pretrained, str) else pretrained
        self.tokenizer = self.editable.tokenizer
        self.advance: Advance = advance or (lambda answered: None)
        self.prefixes = PrefixCache(int(prefix_cache * GIB))
        self.lower = lower
        # The choices of one question follow the same context, one after another.
        self._encode = lru_cache(RECENT)(lambda text: encode(self.tokenizer, text))

    @property
    def device(self) -> Any:
        return self.editable.device

    @property
    def scored_context(self) -> int:
        """Tokens that are read before the last one of an answer is scored, at most."""
        return self.editable.context

    @property
    def eot_token_id(self) -> int:
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        bos = self.tokenizer.bos_token_id
        return self.eot_token_id if bos is None else int(bos)

    @property
    def tokenizer_name(self) -> str:
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return chat_text(
            self.tokenizer,
            chat_history,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Ids as the tokenizer makes them; a text that already begins with BOS, as chat templates do, gets no other."""
        if add_special_tokens is None:
            return list(self._encode(string))
        return list(self.tokenizer.encode(string, add_special_tokens=bool(add_special_tokens)))

    def length(self, string: str) -> int:
        """How many tokens a text has."""
        return len(self.tok_encode(string))

    # Log-likelihoods

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[Scored]:
        """(log-probability, whether greedy decoding gives it) of each continuation; NaN where not finite."""
        scored: list[Scored] = super().loglikelihood(requests, disable_tqdm=disable_tqdm)
        return scored

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], disable_tqdm: bool = True
    ) -> list[Scored]:
        """Requests with the same tokens but the last, as letters A to D after one question, share one row."""
        sharers: dict[tuple[int, ...], list[int]] = {}
        for index, (_, context, continuation) in enumerate(requests):
            sharers.setdefault(self._fed(context, continuation), []).append(index)
        rows = [Row(ids, max(len(requests[i][2]) for i in members)) for ids, members in sharers.items()]
        answers: dict[int, Scored] = {}
        groups = list(sharers.values())
        for row, log_probs in tail_log_probs(self.editable, rows, self.prefixes, self.lower):
            for index in groups[row]:
                total, greedy = target_log_prob(log_probs, requests[index][2])
                answers[index] = (total, bool(greedy.all()) and not math.isnan(total))
            self.advance(len(groups[row]))
        return [answers[index] for index in range(len(requests))]

    def _fed(self, context: Sequence[int], continuation: Sequence[int]) -> tuple[int, ...]:
        """What the model reads: all but the last token, cut on the left to what it can hold."""
        if len(continuation) > self.scored_context:
            raise BadInput(
                f"an answer of {len(continuation)} tokens does not fit into the {self.scored_context} positions "
                f"of {self.editable.name}; leave this task out"
            )
        return tuple([*context, *continuation][-(self.scored_context + 1) :][:-1])

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> list[float]:
        """Log-probability of whole texts, in windows of the model's length."""
        windows = [self._windows(request.args[0]) for request in requests]
        scored = iter(self._loglikelihood_tokens([(None, *window) for text in windows for window in text]))
        return [math.fsum(next(scored)[0] for _ in text) for text in windows]

    def _windows(self, text: str) -> list[tuple[list[int], list[int]]]:
        tokens = self.tok_encode(text)
        return [
            make_disjoint_window(window)
            for window in get_rolling_token_windows(tokens, self.prefix_token_id, self.scored_context, 1)
        ]

    # Generation

    def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:
        """Greedy continuations up to a stop string or the end of text, as `GeneratedText`."""
        answers: dict[int, str] = {}
        for (stop, new), members in self._by_kwargs(requests).items():
            prompts = {index: self._fitting(requests[index].args[0], new) for index in members}
            done = self.continued(list(prompts.values()), new, stop)
            answers |= {i: GeneratedText(row.text, row.clean_stop, row.finite) for i, row in zip(prompts, done)}
        return [answers[index] for index in range(len(requests))]

    def continued(self, prompts: Sequence[str], new: int, stop: Sequence[str]) -> list[Generation]:
        """Greedy continuations, of `new` tokens at most, of prompts that leave room for them; counts what is done."""
        return generate(self.editable, prompts, new, stop, self.prefixes, self.advance)

    def _by_kwargs(self, requests: Sequence[Any]) -> dict[tuple[tuple[str, ...], int], list[int]]:
        """Indices of requests by (stop strings, most new tokens)."""
        groups: dict[tuple[tuple[str, ...], int], list[int]] = {}
        for index, request in enumerate(requests):
            kwargs = normalize_gen_kwargs(request.args[1], MAX_NEW_TOKENS)
            if kwargs.get("do_sample"):
                raise BadInput("a task asks for sampling, and Errata answers greedily; pass do_sample=false for it")
            until = kwargs.get("until") or []
            stop = tuple(text for text in ([until] if isinstance(until, str) else until) if text)
            groups.setdefault((stop, int(kwargs["max_gen_toks"])), []).append(index)
        return groups

    def _fitting(self, prompt: str, new: int) -> str:
        """The prompt, cut on the left if it leaves no room for `new` tokens (or half the model's length)."""
        room = max(self.editable.context - new, self.editable.context // 2)
        encoding = self.tokenizer(prompt, return_offsets_mapping=True, verbose=False)
        surplus = len(encoding["input_ids"]) - room
        if surplus <= 0:
            return prompt
        _log.warning("a prompt of %d tokens is cut to its last %d", surplus + room, room)
        # BOS, where there is one, has an empty span at 0 and is added again to what is left.
        return prompt[encoding["offset_mapping"][surplus + 1][0] :]


def main() -> None:
    """The harness' own command line, with this model and the package's tasks known to it."""
    from lm_eval.__main__ import cli_evaluate

    if "--tasks" in sys.argv and "--include_path" not in sys.argv:
        sys.argv += ["--include_path", str(files("errata.capability") / "tasks")]
    cli_evaluate()


if __name__ == "__main__":
    main()
