"""Log-probabilities of given tokens: rows packed by length, shared prefixes computed once.

Logits are computed only where they are read: a hook hands the output layer those hidden states alone, so
whatever a family does after it (soft caps, scales) still happens.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from errata.model import hooks
from errata.model.editable import EditableModel
from errata.model.prefixes import Group, share
from errata.model.routing import by_model
from errata.model.tokens import Tokens, encode_target, pad

TOKENS_AT_ONCE = 8192
"""Positions in one batch, cached ones included."""


@dataclass(frozen=True)
class Row:
    """ids: tokens given to the model. scored: how many positions at the end are read."""

    ids: Tokens
    scored: int

    @property
    def given(self) -> Tokens:
        """The tokens before those that are read: what may be shared."""
        return self.ids[: len(self.ids) - self.scored]

    @property
    def prompt(self) -> Tokens:
        """What comes before the first token that is predicted."""
        return self.ids[: len(self.ids) - self.scored + 1]


@dataclass(frozen=True)
class TargetScore:
    """Teacher-forced score of one answer, natural logarithms; NaN where logits were not finite.

    total, mean: over its tokens. matched: share of its tokens that are the most probable ones.
    """

    total: float
    mean: float
    matched: float


@torch.no_grad()
def score_targets(model: EditableModel, pairs: Sequence[tuple[str, str]]) -> list[TargetScore]:
    """Scores of (prompt, answer without leading space)."""
    encoded = [encode_target(model.tokenizer, prompt, target) for prompt, target in pairs]
    rows = [Row(tuple(ids[:-1]), len(ids) - given) for ids, given in encoded]
    scores: dict[int, TargetScore] = {}
    for index, log_probs in tail_log_probs(model, rows):
        ids, given = encoded[index]
        scores[index] = _score(log_probs, ids[given:])
    return [scores[index] for index in range(len(pairs))]


def _score(log_probs: Tensor, target: Sequence[int]) -> TargetScore:
    total, greedy = target_log_prob(log_probs, target)
    return TargetScore(total, total / len(target), float(greedy.float().mean()))


def target_log_prob(log_probs: Tensor, target: Sequence[int]) -> tuple[float, Tensor]:
    """Summed log-probability of `target`, and for each of its tokens whether it is the most probable.

    log_probs: (k, vocab), k >= len(target); the last rows are those of the target.
    """
    tail = log_probs[-len(target) :]
    wanted = torch.tensor(target, device=tail.device)
    return float(tail.gather(1, wanted[:, None]).sum()), tail.argmax(-1) == wanted


@torch.no_grad()
def tail_log_probs(model: EditableModel, rows: Sequence[Row]) -> Iterator[tuple[int, Tensor]]:
    """(index, (scored, vocab) float32 log-probabilities) of every row, in an order of its own.

    The k-th of the `scored` positions predicts the token after it. All NaN if a logit was not finite.
    """
    # A prompt ends where the first prediction is read.
    routed = model.routed([row.prompt for row in rows], [row.scored for row in rows])
    for runner, members in by_model(routed).items():
        run = [Row(routed[i].ids + rows[i].ids[len(rows[i].prompt) :], rows[i].scored) for i in members]
        yield from ((members[place], log_probs) for place, log_probs in _read(runner, run))


def _read(model: EditableModel, rows: Sequence[Row]) -> Iterator[tuple[int, Tensor]]:
    """As `tail_log_probs`, of rows that this model runs as they are."""
    for group in share([row.given for row in rows]):
        cache = _prefill(model, rows[group.members[0]].ids[: group.prefix]) if group.prefix else None
        for members in _batches(rows, group):
            yield from zip(members, _tails(model, [rows[i] for i in members], group.prefix, cache), strict=True)


def _batches(rows: Sequence[Row], group: Group) -> Iterator[list[int]]:
    """Rows of similar length, longest first, within the bound on positions."""
    order = sorted(group.members, key=lambda index: -len(rows[index].ids))
    while order:
        size = max(1, TOKENS_AT_ONCE // len(rows[order[0]].ids))
        yield order[:size]
        order = order[size:]


def _prefill(model: EditableModel, ids: Sequence[int]) -> DynamicCache:
    cache = DynamicCache(config=model.model.config)
    batch = torch.tensor([list(ids)], device=model.device)
    model.model(input_ids=batch, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return cache


def _tails(model: EditableModel, rows: Sequence[Row], prefix: int, cache: DynamicCache | None) -> list[Tensor]:
    """Log-probabilities at the last `scored` positions of each row, as (scored, vocab) tensors."""
    batch = pad([row.ids[prefix:] for row in rows], model.pad_id).to(model.device)
    ends, most = batch.lengths, max(row.scored for row in rows)
    keep = (ends[:, None] - most + torch.arange(most, device=model.device)).clamp_min(0)
    past = copy.deepcopy(cache)
    if past is not None:
        past.batch_repeat_interleave(len(rows))
    scored = torch.tensor([row.scored for row in rows], device=model.device)
    with hooks.hooked([reading(model, keep)]), model.asked_at(ends - scored):
        logits = model.model(
            input_ids=batch.ids,
            attention_mask=torch.cat([batch.mask.new_ones(len(rows), prefix), batch.mask], 1),
            position_ids=batch.positions + prefix,
            past_key_values=past,
            use_cache=past is not None,
        ).logits.float()
    finite = logits.isfinite().all(-1, keepdim=True)
    log_probs = logits.log_softmax(-1).where(finite, torch.nan)
    return [log_probs[i, most - row.scored :] for i, row in enumerate(rows)]


def reading(model: EditableModel, keep: Tensor) -> hooks.Removable:
    """Lets the output layer see the positions `keep` (n, k) of each row alone, so that logits are (n, k, vocab)."""
    here = torch.arange(len(keep), device=keep.device)[:, None]

    def narrow(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        stream = args[0]
        return stream[here.to(stream.device), keep.to(stream.device)], *args[1:]

    handle: hooks.Removable = model.model.get_output_embeddings().register_forward_pre_hook(narrow)
    return handle
