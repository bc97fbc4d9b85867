"""The part of a forward pass that an offset at one layer can change, recorded once and run again often.

Rows are aligned so that their lookup tokens share a column. What lies left of that column cannot see
the offset, and neither can the layers below: the first is kept as attention keys and values, the
second as the layer's output. The rest runs through the model's own forward, so scales and soft caps
of the logits are the model's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor
from transformers import DynamicCache

from errata.keyvalue.keys import Row, batched
from errata.model import hooks
from errata.model.editable import EditableModel
from errata.model.lower import resumed
from errata.model.tokens import TokenBatch


@dataclass(frozen=True)
class Replay:
    """n rows from their lookup columns on, ready to run again from above one layer.

    ids, positions: (n, t). mask: (n, p + t), p columns lie left of the lookup. stream: (n, t, d_model)
    output of the layer. past: for each layer keys and values (n, heads, p, d_head).
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

    def logits(self, shift: Tensor, columns: Tensor) -> Tensor:
        """Logits (n, c, vocab) with `shift` added to the stream at the lookup; differentiable in shift.

        shift: (n, d_model). columns: (c,), counted from the lookup column.
        """
        first = (self.stream[:, :1].to(shift) + shift[:, None]).to(self.stream)
        return self._run(torch.cat([first, self.stream[:, 1:]], 1), columns)

    def _run(self, stream: Tensor, columns: Tensor) -> Tensor:
        """Logits (n, c, vocab) with this stream, (n, t, d_model), after the layer."""
        cache = _Past(self.past) if self.past else None
        with resumed(self.model, self.layer, (stream, *[None] * (self.parts - 1)) if self.parts else stream):
            output = self.model.model(
                input_ids=self.ids,
                attention_mask=self.mask,
                position_ids=self.positions,
                past_key_values=cache,
                use_cache=cache is not None,
                logits_to_keep=columns,
            )
        logits: Tensor = output.logits
        return logits


@dataclass(frozen=True)
class PartsReplay(Replay):
    """n rows ready to run again from a layer itself on, with its attention and its MLP shifted.

    layer: the one below, -1 where there is none. attention: (n, d_model) output of the shifted layer's
    attention at the lookup; keys and values are those of its down projection.
    """

    attention: Tensor

    def logits(self, shift: Tensor, columns: Tensor) -> Tensor:
        """Logits (n, c, vocab) with offsets of the attention's and of the down projection's output at the lookup.

        shift: (n, 2, d_model), differentiable. columns: (c,), counted from the lookup column.
        """
        layer, lookups = self.layer + 1, torch.zeros(len(shift), dtype=torch.long, device=shift.device)
        attention = self.model.shifted(self.model.attention(layer), lookups, shift[:, 0])
        with attention, self.model.shifted(self.model.down(layer), lookups, shift[:, 1]):
            return self._run(self.stream, columns)


class _Past(DynamicCache):
    """Keys and values that every pass appends its own to, without keeping them."""

    def __init__(self, past: Sequence[tuple[Tensor, Tensor]]) -> None:
        super().__init__(past)
        self._past = past

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any) -> tuple[Tensor, Tensor]:
        keys, values = self._past[layer_idx]
        return torch.cat([keys, key_states], -2), torch.cat([values, value_states], -2)


@torch.no_grad()
def record(model: EditableModel, layer: int, rows: Sequence[Row]) -> Replay:
    """One plain pass over the rows, padded on the right, and the shift that brings their lookups into one column.

    The last token of a target is never an input: nothing is read behind it.
    """
    return Replay(**_recorded(model, layer, layer, rows)[0])


@torch.no_grad()
def record_parts(model: EditableModel, layer: int, rows: Sequence[Row]) -> PartsReplay:
    """As `record`, but ready to run again from the layer itself on."""
    recorded, attention = _recorded(model, max(layer - 1, 0), layer, rows)
    # Below layer 0 nothing is resumed: the model embeds the tokens again, and its stream is not used.
    return PartsReplay(**{**recorded, "layer": layer - 1}, attention=attention)


def _recorded(model: EditableModel, resumed: int, layer: int, rows: Sequence[Row]) -> tuple[dict[str, Any], Tensor]:
    """The fields of a replay, and the attention's output at the lookup, (n, d_model).

    resumed: the layer whose output is kept. layer: the one whose keys and values are.
    """
    lengths = [len(row.ids) - bool(row.target) for row in rows]
    batch = batched(model, rows, lengths).to(model.device)
    lookups = torch.tensor([row.lookup for row in rows], device=model.device)
    seen, past = _observed(model, resumed, layer, batch, lookups)
    left, right = int(lookups.max()), max(n - row.lookup for n, row in zip(lengths, rows, strict=True))
    before = lookups[:, None] - torch.arange(left, 0, -1, device=model.device)
    after = lookups[:, None] + torch.arange(right, device=model.device)
    recorded = {
        "model": model,
        "layer": resumed,
        "ids": _taken(batch.ids, after),
        "positions": _taken(batch.positions, after),
        "mask": torch.cat([_visible(batch.mask, before), _visible(batch.mask, after)], 1),
        "stream": _taken(hooks.main(seen["layer"]), after),
        "past": tuple((_taken_past(k, before), _taken_past(v, before)) for k, v in past) if left else (),
        "keys": seen["key"],
        "values": seen["value"],
        "parts": len(seen["layer"]) if isinstance(seen["layer"], tuple) else 0,
    }
    return recorded, seen["attention"]


def _observed(
    model: EditableModel, resumed: int, layer: int, batch: TokenBatch, lookups: Tensor
) -> tuple[dict[str, Any], list[tuple[Tensor, Tensor]]]:
    """What a layer returns, another's parts take and give at the lookups, and all layers' attention keys and values."""
    seen: dict[str, Any] = {}
    cache = DynamicCache()

    def note(name: str, output: Any) -> None:
        # At once: Falcon adds the attention's output to the MLP's in place.
        seen[name] = hooks.select(hooks.main(output), len(lookups), lookups)

    handles = [
        model.layer(resumed).register_forward_hook(lambda _, args, output: seen.update(layer=output)),
        model.attention(layer).register_forward_hook(lambda _, args, output: note("attention", output)),
        model.down(layer).register_forward_pre_hook(lambda _, args: note("key", args[0])),
        model.down(layer).register_forward_hook(lambda _, args, output: note("value", output)),
    ]
    with hooks.hooked(handles):
        model.model(
            input_ids=batch.ids,
            attention_mask=batch.mask,
            position_ids=batch.positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
    return seen, [(entry[0], entry[1]) for entry in cache]


def _taken(tensor: Tensor, columns: Tensor) -> Tensor:
    """Chosen columns of each row: (n, t, ...), (n, s) -> (n, s, ...). Columns outside the row give what is masked."""
    return tensor[torch.arange(len(tensor), device=tensor.device)[:, None], columns.clamp(0, tensor.shape[1] - 1)]


def _visible(mask: Tensor, columns: Tensor) -> Tensor:
    """The mask at chosen columns of each row, 0 outside it."""
    return _taken(mask, columns) * ((columns >= 0) & (columns < mask.shape[1]))


def _taken_past(tensor: Tensor, columns: Tensor) -> Tensor:
    """The same of attention keys or values, (n, heads, t, d_head)."""
    return _taken(tensor.transpose(1, 2), columns).transpose(1, 2)
