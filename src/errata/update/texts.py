"""Prompts and the texts of edits, for memories that look edits up by prompt."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from errata.model.editable import EditableModel
from errata.model.tokens import Tokens, encode, pad

ROWS_AT_ONCE = 64


@torch.no_grad()
def pooled(model: EditableModel, rows: Sequence[Tokens], layer: int) -> Tensor:
    """(n, d) mean of the stream after a layer over the tokens of each row, float32 at least.

    The first token is left out, BOS or not: what it carries is huge and the same everywhere. A row without
    another has zeros, which are near to nothing.
    """
    parts = []
    for at in range(0, len(rows), ROWS_AT_ONCE):
        batch = pad(rows[at : at + ROWS_AT_ONCE], model.pad_id).to(model.device)
        stream = model.hidden_at(batch, layer, None)
        used = (batch.mask.bool() & (batch.positions > 0)).to(stream)[..., None]
        parts.append((stream * used).sum(1) / used.sum(1).clamp_min(1))
    return torch.cat(parts)


def ended(answer: str) -> str:
    """An answer with one full stop at its end, whether it came with one or not."""
    return f"{answer.rstrip().removesuffix('.')}."


def sentence(prompt: str, answer: str) -> str:
    """A fact as a line of its own."""
    return f"{prompt} {ended(answer)}\n"


def preceded(tokenizer: PreTrainedTokenizerBase, text: str, prompt: Tokens) -> Tokens:
    """The tokens of a text with those of a prompt behind them, and one BOS at most."""
    head = encode(tokenizer, text)
    tail = prompt[1:] if prompt[0] == head[0] == tokenizer.bos_token_id else prompt
    return (*head, *tail)


def replaced(prompts: Sequence[str]) -> Tensor:
    """(n,) whether a later edit has the same prompt."""
    last = {prompt: index for index, prompt in enumerate(prompts)}
    return torch.tensor([last[prompt] != index for index, prompt in enumerate(prompts)])
