"""Greedy generation in batches: shared prefixes computed once, keys and values written in place, rows leaving early.

A row ends by itself: stop strings are looked for in each row, and a row that has ended makes room in the batch.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import DynamicCache

from errata.errors import BadInput
from errata.model.caches import PrefixCache, layers, reserved
from errata.model.prefixes import share
from errata.model.routing import by_model
from errata.model.tokens import Tokens, encode, pad_left

if TYPE_CHECKING:
    from errata.model.editable import EditableModel

TOKENS_AT_ONCE = 16_384
"""Cache positions that one batch may fill; bounds its memory."""


@dataclass(frozen=True)
class Generation:
    """text: up to the first stop string or the end of text. clean_stop: it ended by one of them and
    not by the length limit. finite: all logits were; a row ends at the first that is not. ids: the
    tokens chosen, those of a stop string included, end of text not.
    """

    text: str
    clean_stop: bool
    finite: bool
    ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Ends:
    """What ends a row. tail: how many last tokens can hold the stop strings, one byte a token at worst."""

    model: "EditableModel"
    stop: tuple[str, ...]
    eos: frozenset[int]

    @property
    def tail(self) -> int:
        return 4 + max((len(text.encode()) for text in self.stop), default=0)

    def decode(self, ids: Sequence[int]) -> str:
        text = self.model.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text)

    def cut(self, text: str) -> str:
        """The text before the earliest stop string."""
        return text[: min((text.find(end) for end in self.stop if end in text), default=len(text))]

    def stopped(self, ids: Sequence[int]) -> bool:
        if not self.stop:
            return False
        tail = self.decode(ids[-self.tail :])
        return any(end in tail for end in self.stop)


@dataclass
class _Row:
    """A continuation in the making. limit: how many tokens it may have."""

    ends: _Ends
    limit: int
    ids: list[int] = field(default_factory=list)
    clean: bool = False
    finite: bool = True

    def take(self, token: int, finite: bool) -> bool:
        """Adds a token; says whether the row goes on."""
        self.finite = finite
        if not finite:
            return False
        if token in self.ends.eos:
            self.clean = True
            return False
        self.ids.append(token)
        self.clean = self.ends.stopped(self.ids)
        return not self.clean and len(self.ids) < self.limit

    def done(self) -> Generation:
        return Generation(self.ends.cut(self.ends.decode(self.ids)), self.clean, self.finite, tuple(self.ids))


@torch.no_grad()
def generate(
    model: "EditableModel",
    prompts: Sequence[str],
    max_new_tokens: int,
    stop: Sequence[str],
    prefixes: PrefixCache | None = None,
    advance: Callable[[int], None] | None = None,
) -> list[Generation]:
    """The most probable continuation of each prompt, token by token, in the order of the prompts.

    prefixes: what was kept of earlier calls. advance: called with the number of prompts just continued.
    """
    bare = [tuple(encode(model.tokenizer, prompt)) for prompt in prompts]
    routed = model.routed(bare, [min(max_new_tokens, _room(model, ids)) for ids in bare])
    found: dict[int, Generation] = {}
    for runner, members in by_model(routed).items():
        encoded = [routed[index].ids for index in members]
        for chunk in _continued(runner, encoded, max_new_tokens, tuple(stop), prefixes or PrefixCache(0)):
            found |= {members[place]: row for place, row in chunk.items()}
            if advance is not None:
                advance(len(chunk))
    return [found[index] for index in range(len(prompts))]


def _continued(
    model: "EditableModel",
    encoded: Sequence[Tokens],
    max_new_tokens: int,
    stop: tuple[str, ...],
    prefixes: PrefixCache,
) -> Iterator[dict[int, Generation]]:
    """Continuations of prompts that this model runs as they are, batch by batch."""
    ends = _Ends(model, stop, _end_tokens(model))
    remembers = not any(DynamicCache(config=model.model.config).is_sliding)
    for group in share([ids[:-1] for ids in encoded]):
        prefix = encoded[group.members[0]][: group.prefix]
        shared = prefixes.get(model, prefix) if prefix and remembers else None
        for chunk in _chunks(encoded, group.members, max_new_tokens):
            prompts = [encoded[index] for index in chunk]
            rows = [_Row(ends, min(max_new_tokens, _room(model, ids))) for ids in prompts]
            _continue(model, prompts, rows, shared)
            yield {index: row.done() for index, row in zip(chunk, rows, strict=True)}


def _end_tokens(model: "EditableModel") -> frozenset[int]:
    """End of text, as the tokenizer and the generation config (one or several) name it."""
    named = getattr(model.model.generation_config, "eos_token_id", None)
    several = named if isinstance(named, list) else [named]
    return frozenset(token for token in (*several, model.tokenizer.eos_token_id) if token is not None)


def _room(model: "EditableModel", ids: Sequence[int]) -> int:
    room = model.context - len(ids)
    if not ids or room < 1:
        raise BadInput(
            f"a prompt of {len(ids)} tokens cannot be continued by {model.name}; "
            f"give between 1 and {model.context - 1} tokens."
        )
    return room


def _chunks(prompts: Sequence[Sequence[int]], members: Sequence[int], new: int) -> Iterator[list[int]]:
    """Members whose prompts are of similar length, longest first, within the memory bound."""
    order = sorted(members, key=lambda index: -len(prompts[index]))
    while order:
        size = max(1, TOKENS_AT_ONCE // (len(prompts[order[0]]) + new))
        yield order[:size]
        order = order[size:]


def _cache(
    model: "EditableModel", shared: DynamicCache | None, prompts: Sequence[Sequence[int]], rows: Sequence["_Row"]
) -> DynamicCache:
    """A cache with room for the rows, and in it the shared prefix without the last tokens of each, if there is one.

    As many tokens stay out of it as the longest prompt has after the prefix; the shorter ones compute some of the
    prefix again, which keeps padding on the left.
    """
    longest = max(map(len, prompts))
    cache = reserved(model, longest + max(row.limit for row in rows))
    if shared is not None:
        kept = [len(ids) - longest + shared.get_seq_length() for ids in prompts]
        for index, layer in enumerate(layers(shared)):
            cache.update(_padded(layer.keys, kept), _padded(layer.values, kept), index)
    return cache


def _padded(states: Tensor, kept: Sequence[int]) -> Tensor:
    """The first tokens of (1, heads, t, d) states, as many as each row keeps, on the right of (n, heads, t, d)."""
    rows = states.new_zeros(len(kept), *states.shape[1:])
    for row, count in zip(rows, kept, strict=True):
        if count > 0:
            row[:, -count:] = states[0, :, :count]
    return rows


def _continue(
    model: "EditableModel", prompts: Sequence[Sequence[int]], rows: Sequence[_Row], shared: DynamicCache | None
) -> None:
    """Lets every row take tokens until none goes on."""
    batch = pad_left(prompts, model.pad_id).to(model.device)
    cache = _cache(model, shared, prompts, rows)
    known = cache.get_seq_length()
    ids, mask, positions, active = batch.ids[:, known:], batch.mask, batch.positions[:, known:], list(rows)
    ends = torch.full((len(active),), ids.shape[1] - 1, device=model.device)
    while True:
        with model.asked_at(ends):
            logits = _last_logits(model, ids, mask, positions, cache)
        tokens = logits.argmax(-1)
        finite = logits.isfinite().all(-1).tolist()
        taken = zip(active, tokens.tolist(), finite, strict=True)
        keep = [slot for slot, (row, token, fine) in enumerate(taken) if row.take(token, fine)]
        if not keep:
            return
        if len(keep) < len(active):
            keep = _closed(keep)
            chosen = torch.tensor(keep)  # on the CPU: the layers of the cache may be on several devices
            cache.batch_select_indices(chosen)
            tokens, mask, positions = tokens[chosen], mask[chosen], positions[chosen]
            active = [active[slot] for slot in keep]
        ids, positions, ends = tokens[:, None], positions[:, -1:] + 1, ends.new_full((len(active),), -1)
        mask = torch.cat([mask, mask.new_ones(len(active), 1)], 1)


def _closed(keep: Sequence[int]) -> list[int]:
    """These slots, ascending, in another order: those that can stay where they are do, the last ones fill the gaps."""
    staying = {slot for slot in keep if slot < len(keep)}
    moving = [slot for slot in keep if slot >= len(keep)]
    return [slot if slot in staying else moving.pop() for slot in range(len(keep))]


def _last_logits(model: "EditableModel", ids: Tensor, mask: Tensor, positions: Tensor, cache: DynamicCache) -> Tensor:
    """(n, vocab) logits that follow the last token of each row."""
    output = model.model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    logits: Tensor = output.logits[:, -1]
    return logits
