"""Text put before a prompt, so that keys and targets hold in more than one context.

Prefixes are sampled from the model itself with a generator of their own, stored as token ids in the
method's state, and used again by later batches (ROME, appendix E.5; MEMIT, appendix B.3).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from errata.errors import BadInput
from errata.model.editable import EditableModel
from errata.model.tokens import Tokens, encode, pad, preceded_by

STATE = "contexts"
TOP_K = 5
STARTS = ("The", "Therefore", "Because", "I", "You")
"""Words that MEMIT's sampled prefixes begin with."""

Groups = tuple[tuple[int, int], ...]
"""(length in tokens, how many prefixes) of each group."""


@dataclass(frozen=True)
class Contexts:
    """The bare prompt and sampled prefixes.

    ids: (n, width) token ids of the prefixes, -1 behind their ends. prefixes: their texts.
    weights: (1 + n,) share of each context in a key, the bare prompt's first; sums to 1.
    """

    ids: Tensor
    prefixes: tuple[str, ...]
    weights: Tensor

    def texts(self, prompt: str) -> list[str]:
        """The prompt in each of its contexts, bare first."""
        return [prompt, *(preceded_by(f"{prefix}. ", prompt) for prefix in self.prefixes)]

    def rows(self, model: EditableModel) -> list[Tokens]:
        """Token ids of the sampled texts by themselves; those that hold no text are left out."""
        return [tuple(encode(model.tokenizer, text)) for text in self.prefixes if text]

    def state(self) -> dict[str, Tensor]:
        """What the next batch needs to use the same contexts."""
        return {STATE: self.ids}


def groups(value: Sequence[Sequence[int]]) -> Groups:
    """Checked (length, count) pairs, as options name them. BadInput unless all are positive integers."""
    try:
        pairs = tuple((int(length), int(count)) for length, count in value)
    except (TypeError, ValueError):
        pairs = ((0, 0),)
    if any(length < 1 or count < 1 for length, count in pairs):
        raise BadInput(f"contexts is {value!r}; give pairs of length and count, such as [[5, 10], [10, 10]], or [].")
    return pairs


def even(sizes: Groups) -> Tensor:
    """Every context counts the same, as in ROME's code. (1 + n,)"""
    n = 1 + sum(count for _, count in sizes)
    return torch.full((n,), 1 / n, dtype=torch.float64)


def grouped(sizes: Groups) -> Tensor:
    """The bare prompt and each group count the same, as in MEMIT's code. (1 + n,)"""
    share = 1 / (1 + len(sizes))
    return torch.tensor([share, *(share / count for _, count in sizes for _ in range(count))], dtype=torch.float64)


def contexts(
    model: EditableModel,
    sizes: Groups,
    weights: Tensor,
    state: Mapping[str, Tensor],
    seed: int,
    starts: Sequence[str] = (),
) -> Contexts:
    """The contexts in `state`, else newly sampled ones.

    starts: words the prefixes begin with, in turn; without any they begin after BOS.
    """
    ids = state[STATE] if STATE in state else sample_prefixes(model, sizes, starts, seed)
    if len(ids) != len(weights) - 1:
        raise BadInput(
            f"the state holds {len(ids)} contexts and the options ask for {len(weights) - 1}: "
            "it belongs to a run with other options. Start anew without that state."
        )
    texts = tuple(_text(model, [token for token in row if token >= 0]) for row in ids.tolist())
    return Contexts(ids, texts, weights)


@torch.no_grad()
def sample_prefixes(model: EditableModel, sizes: Groups, starts: Sequence[str], seed: int) -> Tensor:
    """Sampled prefixes as token ids, (n, width), -1 behind their ends.

    Each is `length` tokens long with what it starts from, as in the released code of ROME and MEMIT;
    every token is one of the five most probable. The random numbers are of a generator of their own.
    """
    generator = torch.Generator().manual_seed(seed)
    rows: list[list[int]] = []
    for length, count in sizes:
        begun = [_start(model, starts[i % len(starts)] if starts else None) for i in range(count)]
        rows += _extend(model, begun, length, generator)
    special = set(model.tokenizer.all_special_ids)
    kept = [[token for token in row if token not in special] for row in rows]
    width = max(map(len, kept), default=0)
    return torch.tensor([row + [-1] * (width - len(row)) for row in kept], dtype=torch.long).reshape(len(kept), width)


def _start(model: EditableModel, word: str | None) -> list[int]:
    """Ids to sample after: the word, or BOS (what stands for it where a tokenizer has none)."""
    if word is not None:
        return encode(model.tokenizer, word)
    known = (model.tokenizer.bos_token_id, model.tokenizer.eos_token_id)
    return [next((int(token) for token in known if token is not None), model.pad_id)]


def _extend(model: EditableModel, rows: list[list[int]], length: int, generator: torch.Generator) -> list[list[int]]:
    """The rows with tokens sampled behind them, each until it has `length` of them and one sampled at least."""
    wanted = [max(length, len(row) + 1) for row in rows]
    special = torch.tensor(sorted(model.tokenizer.all_special_ids), dtype=torch.long)
    while any(len(row) < goal for row, goal in zip(rows, wanted, strict=True)):
        batch = pad(rows, model.pad_id)
        logits = model.logits(batch).cpu()[torch.arange(len(rows)), batch.lengths - 1]
        if not torch.isfinite(logits).all():
            raise BadInput(f"{model.name} gives non-finite logits; `errata doctor {model.name}` looks into it.")
        drawn = _draw(logits.index_fill(1, special, -torch.inf), generator)
        rows = [[*row, token] if len(row) < goal else row for row, goal, token in zip(rows, wanted, drawn, strict=True)]
    return rows


def _draw(logits: Tensor, generator: torch.Generator) -> list[int]:
    """One token a row out of the most probable ones. logits: (n, vocab)."""
    best = logits.topk(TOP_K, dim=-1)
    choice = torch.multinomial(best.values.softmax(-1), 1, generator=generator)
    return [int(token) for token in best.indices.gather(1, choice)[:, 0]]


def _text(model: EditableModel, ids: Sequence[int]) -> str:
    text = model.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    # A prefix may end inside a character; half a character is no text.
    return str(text).replace("\ufffd", "").replace("\n", " ").strip()
