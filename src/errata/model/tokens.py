"""Token ids and positions, always from character offsets of the whole text, never from decoded pieces."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from errata.errors import BadInput, UnsupportedModel

Span = tuple[int, int]
Tokens = tuple[int, ...]


class ChatPrompt(str):
    """A prompt inside a chat template, as the model reads it; it tokenises without further special tokens.

    start, end: where the user's own words stand in it.
    """

    start: int
    end: int

    def __new__(cls, text: str, start: int = 0, end: int | None = None) -> Self:
        made = super().__new__(cls, text)
        made.start, made.end = start, len(text) if end is None else end
        return made


@dataclass(frozen=True)
class ChatFrame:
    """What a chat template puts before and behind one message of the user, to be answered next."""

    before: str
    behind: str

    def __call__(self, prompt: str) -> ChatPrompt:
        """The prompt as that message."""
        start = len(self.before)
        return ChatPrompt(f"{self.before}{prompt}{self.behind}", start, start + len(prompt))


def chat_frame(tokenizer: PreTrainedTokenizerBase) -> ChatFrame:
    """The frame of a tokenizer's chat template. BadInput if it has none."""
    if not tokenizer.chat_template:
        raise BadInput(
            f"{tokenizer.name_or_path or 'the tokenizer'} has no chat template, so no text can go through one; choose "
            "a chat model, or chat_template: auto"
        )
    mark = "\N{OBJECT REPLACEMENT CHARACTER}"
    before, _, behind = chat_text(tokenizer, [{"role": "user", "content": mark}]).rpartition(mark)
    return ChatFrame(before, behind)


def chat_text(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], **options: Any) -> str:
    """Messages as the chat template writes them, up to where the model is to answer; options: of the tokenizer.

    Templates that tell the model today's date are given a fixed one: results must not depend on the day.
    """
    given = {"add_generation_prompt": True, "date_string": "26 Jul 2024", **options}
    return str(tokenizer.apply_chat_template(messages, tokenize=False, **given))


def own_words(prompt: str) -> str:
    """What the user said: the prompt itself, without the chat template around it."""
    return prompt[prompt.start : prompt.end] if isinstance(prompt, ChatPrompt) else prompt


def preceded_by(text: str, prompt: str) -> str:
    """The prompt with a text before it; in a chat template, before the user's own words."""
    if not isinstance(prompt, ChatPrompt):
        return text + prompt
    return ChatPrompt(prompt[: prompt.start] + text + prompt[prompt.start :], prompt.start, prompt.end + len(text))


@dataclass(frozen=True)
class TokenBatch:
    """Rows of token ids padded on the right, so that a token's index is its position.

    ids, mask, positions: (n, t) long. mask: 1 for a token, 0 for padding.
    """

    ids: Tensor
    mask: Tensor
    positions: Tensor

    @property
    def lengths(self) -> Tensor:
        """(n,) tokens in each row."""
        return self.mask.sum(1)

    def to(self, device: torch.device | str) -> "TokenBatch":
        return TokenBatch(self.ids.to(device), self.mask.to(device), self.positions.to(device))


def pad(rows: Sequence[Sequence[int]], pad_id: int) -> TokenBatch:
    """Rows of ids, padded on the right to the longest. BadInput if there is none or one is empty."""
    if not rows or not all(rows):
        raise BadInput("cannot run the model on an empty text; give at least one token in each row.")
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad_id] * (width - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return TokenBatch(ids, mask, torch.arange(width).expand(len(rows), width).contiguous())


def pad_left(rows: Sequence[Sequence[int]], pad_id: int) -> TokenBatch:
    """Rows of ids, padded on the left for generation; positions count tokens only."""
    width = max(map(len, rows))
    ids = torch.tensor([[*[pad_id] * (width - len(row)), *row] for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return TokenBatch(ids, mask, (mask.cumsum(1) - 1).clamp_min(0))


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of a text, with BOS if the tokenizer adds one; a text that begins with BOS itself gets no other."""
    backend = tokenizer.backend_tokenizer if tokenizer.is_fast else None
    if backend is not None and backend.truncation is None and backend.padding is None:
        # What wraps it takes as long as the tokens do.
        return list(backend.encode(str(text), add_special_tokens=not _is_complete(tokenizer, text)).ids)
    return list(_encoded(tokenizer, text)["input_ids"])


def encode_target(tokenizer: PreTrainedTokenizerBase, prompt: str, target: str) -> tuple[list[int], int]:
    """Ids of `prompt + " " + target` and how many of them are the prompt's.

    The whole is tokenised once: decoded pieces tokenise differently, and a target tokenised alone
    would begin with BOS for some tokenizers. A prompt that ends in a space gets no second one; that
    space counts to the target. BadInput for an empty target.
    """
    if not target.strip():
        raise BadInput(f"the target of {prompt!r} is empty; give the text that should follow the prompt.")
    space = "" if prompt[-1:].isspace() else " "
    ids, spans = _ids(tokenizer, _continued(prompt, space + target.lstrip()))
    alone = encode(tokenizer, prompt)
    if ids[: len(alone)] == alone:
        return ids, len(alone)
    # A merge crosses the boundary: the token that crosses it is predicted, so it belongs to the target.
    return ids, next(index for index, (_, end) in enumerate(spans) if end > len(prompt))


def encode_apart(tokenizer: PreTrainedTokenizerBase, prompt: str, target: str) -> tuple[list[int], int]:
    """As `encode_target`, but with the target tokenised by itself, which is a fault of public code.

    It then begins with BOS where the tokenizer adds one, and without a space where it adds none.
    """
    ids = encode(tokenizer, prompt)
    return ids + encode(tokenizer, target), len(ids)


def subject_index(tokenizer: PreTrainedTokenizerBase, text: str, subject: str) -> int:
    """Index in `encode(text)` of the last token of the subject's last occurrence.

    An occurrence as a whole word goes before one inside another word. BadInput if there is none.
    """
    return subject_tokens(tokenizer, text, subject)[-1]


def subject_tokens(tokenizer: PreTrainedTokenizerBase, text: str, subject: str) -> list[int]:
    """Indices in `encode(text)` of all tokens that hold a part of the subject's last occurrence."""
    start, end = subject_span(text, subject)
    _, spans = _ids(tokenizer, text)
    # Offsets, not decoded text: "Å" is two byte tokens and decodes to neither.
    return [index for index, (first, last) in enumerate(spans) if first < end and last > start]


def subject_span(text: str, subject: str) -> Span:
    """Character span of the subject's last occurrence; whole words first. BadInput if there is none.

    In a chat template only the user's own words are searched: it may hold the subject itself, as "user" or "model".
    """
    name, words = re.escape(subject), own_words(text)
    spans = [match.span() for match in re.finditer(rf"(?<!\w){name}(?!\w)", words)]
    spans = spans or [match.span() for match in re.finditer(name, words)]
    if not subject or not spans:
        raise BadInput(f"the subject {subject!r} is not in {words!r}; name a part of the text, letter by letter.")
    skipped = text.start if isinstance(text, ChatPrompt) else 0
    return spans[-1][0] + skipped, spans[-1][1] + skipped


def _continued(prompt: str, text: str) -> str:
    """The prompt with a text behind it, still a chat prompt if it is one."""
    if isinstance(prompt, ChatPrompt):
        return ChatPrompt(prompt + text, prompt.start, prompt.end)
    return prompt + text


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[list[int], list[Span]]:
    """Ids of a text and the character span of each; added tokens such as BOS have an empty span."""
    if not tokenizer.is_fast:
        raise UnsupportedModel(
            f"{type(tokenizer).__name__} gives no character offsets, which Errata needs to find subjects; "
            "convert it to a fast tokenizer (tokenizer.json)."
        )
    encoding = _encoded(tokenizer, text, return_offsets_mapping=True)
    return list(encoding["input_ids"]), [(int(start), int(end)) for start, end in encoding["offset_mapping"]]


def _encoded(tokenizer: PreTrainedTokenizerBase, text: str, **options: Any) -> Any:
    """What the tokenizer gives for a text."""
    return tokenizer(str(text), verbose=False, add_special_tokens=not _is_complete(tokenizer, text), **options)


def _is_complete(tokenizer: PreTrainedTokenizerBase, text: str) -> bool:
    """Whether a text gets no further BOS."""
    bos = tokenizer.bos_token
    return isinstance(text, ChatPrompt) or (bos is not None and text.startswith(bos))
