"""Token ids and positions, always from character offsets of the whole text, never from decoded pieces."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from errata.errors import BadInput, UnsupportedModel

Span = tuple[int, int]
Tokens = tuple[int, ...]


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
    """Ids of a text, with BOS if the tokenizer adds one."""
    return _ids(tokenizer, text)[0]


def encode_target(tokenizer: PreTrainedTokenizerBase, prompt: str, target: str) -> tuple[list[int], int]:
    """Ids of `prompt + " " + target` and how many of them are the prompt's.

    The whole is tokenised once: decoded pieces tokenise differently, and a target tokenised alone
    would begin with BOS for some tokenizers. A prompt that ends in a space gets no second one; that
    space counts to the target. BadInput for an empty target.
    """
    if not target.strip():
        raise BadInput(f"the target of {prompt!r} is empty; give the text that should follow the prompt.")
    space = "" if prompt[-1:].isspace() else " "
    ids, spans = _ids(tokenizer, prompt + space + target.lstrip())
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
    """Character span of the subject's last occurrence; whole words first. BadInput if there is none."""
    name = re.escape(subject)
    spans = [match.span() for match in re.finditer(rf"(?<!\w){name}(?!\w)", text)]
    spans = spans or [match.span() for match in re.finditer(name, text)]
    if not subject or not spans:
        raise BadInput(f"the subject {subject!r} is not in {text!r}; name a part of the text, letter by letter.")
    return spans[-1]


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[list[int], list[Span]]:
    """Ids of a text and the character span of each; added tokens such as BOS have an empty span."""
    if not tokenizer.is_fast:
        raise UnsupportedModel(
            f"{type(tokenizer).__name__} gives no character offsets, which Errata needs to find subjects; "
            "convert it to a fast tokenizer (tokenizer.json)."
        )
    encoding = tokenizer(text, return_offsets_mapping=True, verbose=False)
    return list(encoding["input_ids"]), [(int(start), int(end)) for start, end in encoding["offset_mapping"]]
