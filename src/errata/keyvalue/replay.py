"""The part of a forward pass that an offset at one layer can change, recorded once and run again often.

Rows are aligned so that their lookup tokens share a column. What lies left of that column cannot see
the offset, and neither can the layers below: the first is kept as attention keys and values, the
second as the layer's output. The rest runs through the model's own forward, so scales and soft caps
of the logits are the model's; its head sees no more than the places that are asked for.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor
from transformers import DynamicCache

from errata.keyvalue.keys import Layout, Row, batched
from errata.model import hooks
from errata.model.editable import EditableModel
from errata.model.tokens import TokenBatch


@dataclass(frozen=True)
class Replay:
    """n rows from their lookup columns on, ready to run again from above one layer.

    ids, positions: (n, t). mask: (n, p + t), p columns lie left of the lookup. stream: (n, t, d_model)
    output of the layer. past: for each layer above it keys and values (n, heads, p, d_head); empty where p is 0.
    keys: (n, d_in) and values: (n, d_out), input and output of the layer's down projection at the lookup.
    parts: how many things the layer returns; 0 for a bare tensor.
    """

    model: EditableModel
    layer: int
    ids: Tensor
    positions: Tensor
    mask: Tensor
    stream: Tensor
    past: tuple[tuple[Tensor, Tensor], ...]
    keys: Tensor
    values: Tensor
    parts: int

    def select(self, rows: Tensor) -> Self:
        """The same for some of the rows. rows: (m,) indices."""
        kept = {field.name: getattr(self, field.name) for field in fields(self)}
        chosen: dict[str, Any] = {name: value[rows] for name, value in kept.items() if isinstance(value, Tensor)}
        return replace(self, **chosen, past=tuple((k[rows], v[rows]) for k, v in self.past))

    def logits(self, shift: Tensor, columns: Tensor, rows: Tensor | None = None) -> Tensor:
        """Logits (n, c, vocab) with `shift` added to the stream at the lookup; differentiable in shift.

        shift: (n, d_model). columns: (c,), counted from the lookup column. rows: (c,), for logits (c, vocab) of
        each of these rows at its own column alone.
        """
        first = (self.stream[:, :1].to(shift) + shift[:, None]).to(self.stream)
        return self._run(torch.cat([first, self.stream[:, 1:]], 1), columns, rows)

    def _run(self, stream: Tensor, columns: Tensor, rows: Tensor | None) -> Tensor:
        """The logits with this stream, (n, t, d_model), after the layer."""
        cache = _Past(self.past, self.layer + 1) if self.past else None
        whole = (stream, *[None] * (self.parts - 1)) if self.parts else stream
        with self.model.resumed(self.layer, whole), _chosen(self.model, columns, rows):
            output = self.model.model(
                input_ids=self.ids,
                attention_mask=self.mask,
                position_ids=self.positions,
                past_key_values=cache,
                use_cache=cache is not None,
            )
        logits: Tensor = output.logits
        return logits if rows is None else logits[0]


@dataclass(frozen=True)
class PartsReplay(Replay):
    """n rows ready to run again from a layer itself on, with its attention and its MLP shifted.

    layer: the one below, -1 where there is none. attention: (n, d_model) output of the shifted layer's
    attention at the lookup; keys and values are those of its down projection.
    """

    attention: Tensor

    def logits(self, shift: Tensor, columns: Tensor, rows: Tensor | None = None) -> Tensor:
        """The same with offsets of the attention's and of the down projection's output at the lookup.

        shift: (n, 2, d_model), differentiable.
        """
        layer, lookups = self.layer + 1, torch.zeros(len(shift), dtype=torch.long, device=shift.device)
        attention = self.model.shifted(self.model.attention(layer), lookups, shift[:, 0])
        with attention, self.model.shifted(self.model.down(layer), lookups, shift[:, 1]):
            return self._run(self.stream, columns, rows)


class _Past(DynamicCache):
    """Keys and values that every pass appends its own to, without keeping them. below: layers that do not run."""

    def __init__(self, past: Sequence[tuple[Tensor, Tensor]], below: int) -> None:
        # Their lengths are asked for all the same.
        super().__init__([past[0]] * below + list(past))
        self._past, self._below = past, below

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any) -> tuple[Tensor, Tensor]:
        keys, values = self._past[layer_idx - self._below]
        return torch.cat([keys, key_states], -2), torch.cat([values, value_states], -2)


@torch.no_grad()
def record(model: EditableModel, layer: int, rows: Sequence[Row]) -> Replay:
    """One plain pass over the rows, padded on the right, and the shift that brings their lookups into one column.

    The last token of a target is never an input: nothing is read behind it. Above the layer only what is left of
    the lookups runs, and no logits are computed.
    """
    return Replay(**_recorded(model, layer, layer, rows)[0])


@torch.no_grad()
def record_parts(model: EditableModel, layer: int, rows: Sequence[Row]) -> PartsReplay:
    """As `record`, but ready to run again from the layer itself on; below layer 0 the tokens are embedded again."""
    recorded, attention = _recorded(model, layer - 1, layer, rows)
    return PartsReplay(**recorded, attention=attention)


def footprint(model: EditableModel, layout: Layout, layer: int) -> int:
    """About how many bytes the search for one target takes above a layer: what its gradient needs, and the logits.

    Linear maps with fixed weights keep nothing; norms and attention keep about eight vectors of the stream for each
    token, activation functions five of the MLP's inner one, and attention the keys and values of all it sees.
    """
    d_out, d_in = model.weight(model.site(layer)).shape
    rows, left = len(layout.rows) + 1, max(row.lookup for row in layout.rows)
    stream = layout.span * (8 * d_out + 5 * d_in) + 2 * d_out * (2 * left + layout.span)
    logits = 4 * (sum(len(row.target) for row in layout.rows) + 1) * int(model.model.config.vocab_size)
    return int((rows * (model.n_layers - layer) * stream + logits) * max(model.dtype.itemsize, 4))


def _recorded(model: EditableModel, below: int, layer: int, rows: Sequence[Row]) -> tuple[dict[str, Any], Tensor]:
    """The fields of a replay, and the attention's output at the lookup, (n, d_model).

    below: the layer whose output is kept, -1 for the embeddings. layer: the one whose keys and values are.
    """
    lengths = [len(row.ids) - bool(row.target) for row in rows]
    batch = batched(model, rows, lengths).to(model.device)
    lookups = torch.tensor([row.lookup for row in rows], device=model.device)
    seen = _observed(model, below, layer, batch, lookups)
    stream = hooks.main(seen["below"])
    left, right = int(lookups.max()), max(n - row.lookup for n, row in zip(lengths, rows, strict=True))
    before = lookups[:, None] - torch.arange(left, 0, -1, device=model.device)
    after = lookups[:, None] + torch.arange(right, device=model.device)
    parts = len(seen["below"]) if isinstance(seen["below"], tuple) else 0
    past = _past(model, below, batch, stream, parts, left) if left else ()
    recorded = {
        "model": model,
        "layer": below,
        "ids": _taken(batch.ids, after),
        "positions": _taken(batch.positions, after),
        "mask": torch.cat([_visible(batch.mask, before), _visible(batch.mask, after)], 1),
        "stream": _taken(stream, after),
        "past": tuple((_taken_past(k, before), _taken_past(v, before)) for k, v in past),
        "keys": seen["key"],
        "values": seen["value"],
        "parts": parts,
    }
    return recorded, seen["attention"]


def _observed(model: EditableModel, below: int, layer: int, batch: TokenBatch, lookups: Tensor) -> dict[str, Any]:
    """What a layer returns, or the embeddings, and what another's parts take and give at the lookups."""
    seen: dict[str, Any] = {}

    def note(name: str, output: Any) -> None:
        seen[name] = output
        if len(seen) == 4:
            raise hooks.Enough

    def at_lookups(output: Any) -> Tensor:
        # At once: Falcon adds the attention's output to the MLP's in place.
        return hooks.select(hooks.main(output), len(lookups), lookups)

    lowest = model.layer(below) if below >= 0 else model.embedding
    handles = [
        lowest.register_forward_hook(lambda _, args, output: note("below", output)),
        model.attention(layer).register_forward_hook(lambda _, args, output: note("attention", at_lookups(output))),
        model.down(layer).register_forward_pre_hook(lambda _, args: note("key", at_lookups(args[0]))),
        model.down(layer).register_forward_hook(lambda _, args, output: note("value", at_lookups(output))),
    ]
    with hooks.hooked(handles), suppress(hooks.Enough):
        model.forward(batch)
    return seen


def _past(
    model: EditableModel, below: int, batch: TokenBatch, stream: Tensor, parts: int, width: int
) -> list[tuple[Tensor, Tensor]]:
    """Attention keys and values of the first so many columns, (n, heads, width, d_head), for the layers above one."""
    cache = DynamicCache()
    first = stream[:, :width]
    whole = (first, *[None] * (parts - 1)) if parts else first

    def end(*_: Any) -> None:
        raise hooks.Enough

    last = model.attention(model.n_layers - 1).register_forward_hook(end)
    with hooks.hooked([last]), model.resumed(below, whole), suppress(hooks.Enough):
        model.model(
            input_ids=batch.ids[:, :width],
            attention_mask=batch.mask[:, :width],
            position_ids=batch.positions[:, :width],
            past_key_values=cache,
            use_cache=True,
        )
    return [(entry[0], entry[1]) for entry in list(cache)[below + 1 :]]


@contextmanager
def _chosen(model: EditableModel, columns: Tensor, rows: Tensor | None) -> Iterator[None]:
    """Within the context the head sees these columns of all rows, or with rows these places alone, as one row."""
    every = slice(None) if rows is None else rows

    def choose(_: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        chosen = args[0][every, columns]
        return (chosen if rows is None else chosen[None], *args[1:])

    with hooks.hooked([model.head.register_forward_pre_hook(choose)]):
        yield


def _taken(tensor: Tensor, columns: Tensor) -> Tensor:
    """Chosen columns of each row: (n, t, ...), (n, s) -> (n, s, ...). Columns outside the row give what is masked."""
    return tensor[torch.arange(len(tensor), device=tensor.device)[:, None], columns.clamp(0, tensor.shape[1] - 1)]


def _visible(mask: Tensor, columns: Tensor) -> Tensor:
    """The mask at chosen columns of each row, 0 outside it."""
    return _taken(mask, columns) * ((columns >= 0) & (columns < mask.shape[1]))


def _taken_past(tensor: Tensor, columns: Tensor) -> Tensor:
    """The same of attention keys or values, (n, heads, t, d_head)."""
    return _taken(tensor.transpose(1, 2), columns).transpose(1, 2)
