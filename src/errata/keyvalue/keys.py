"""Requests laid out as token rows, and the hidden vectors read at their subjects."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from errata.keyvalue.contexts import Contexts
from errata.model.editable import EditableModel
from errata.model.tokens import TokenBatch, encode, encode_apart, encode_target, pad, subject_index
from errata.types import EditRequest

ESSENCE = "{} is a"
"""The prompt whose next-token distribution should not move (ROME, eq. 4)."""
ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class Row:
    """ids: tokens of a text. lookup: index of the subject's last token.

    start: index of the first target token in ids; len(ids) where there is no target. left: masked tokens that are
    put before the text while lookup and start stay where they are, which is a fault.
    """

    ids: tuple[int, ...]
    lookup: int
    start: int
    left: int = 0

    @property
    def target(self) -> tuple[int, ...]:
        return self.ids[self.start :]


@dataclass(frozen=True)
class Layout:
    """A request in its contexts: rows with prompt and target, the bare prompt's first, and the essence row."""

    request: EditRequest
    rows: tuple[Row, ...]
    essence: Row

    @property
    def lookup(self) -> int:
        """The lookup token's index in the bare prompt."""
        return self.rows[0].lookup


def lay_out(
    model: EditableModel,
    request: EditRequest,
    contexts: Contexts,
    target_apart: bool = False,
    left_padding: bool = False,
) -> Layout:
    """Token rows of a request. BadInput if the subject is not in the prompt.

    Two faults of public code: target_apart: targets are tokenised by themselves, see `encode_apart`. left_padding:
    the rows are padded on the left to the longest of them, and places are counted as if on the right.
    """
    rows = tuple(_row(model, text, request, target_apart) for text in contexts.texts(request.prompt))
    # Every place of the pattern is filled, so a brace in the subject stays a brace.
    text = ESSENCE.replace("{}", request.subject)
    lookup, ids = subject_index(model.tokenizer, text, request.subject), encode(model.tokenizer, text)
    essence = Row(tuple(ids[: lookup + 1]), lookup, lookup + 1)
    if left_padding:
        width = max(len(ids), *(len(row.ids) - 1 for row in rows))
        rows = tuple(replace(row, left=width - len(row.ids) + 1) for row in rows)
        essence = replace(essence, left=width - len(ids))
    return Layout(request, rows, essence)


def _row(model: EditableModel, prompt: str, request: EditRequest, target_apart: bool) -> Row:
    ids, start = (encode_apart if target_apart else encode_target)(model.tokenizer, prompt, request.target_new)
    # Of the prompt alone: the target may name the subject too.
    return Row(tuple(ids), subject_index(model.tokenizer, prompt, request.subject), start)


def batched(model: EditableModel, rows: Sequence[Row], lengths: Sequence[int]) -> TokenBatch:
    """The first so many tokens of each row, padded on the right; what a row has on its left is masked as well.

    That is end of text, with which public code pads, and whose embedding is not zero.
    """
    end = model.tokenizer.eos_token_id
    fill = (model.pad_id if end is None else int(end),)
    ids = [(fill * row.left + row.ids)[:length] for row, length in zip(rows, lengths, strict=True)]
    batch, left = pad(ids, model.pad_id), torch.tensor([[row.left] for row in rows])
    return replace(batch, mask=batch.mask * (batch.positions >= left))


def keys_at(model: EditableModel, layouts: Sequence[Layout], weights: Tensor, layer: int) -> Tensor:
    """Keys K (n, d_in): the layer's MLP inner activations at the subject, averaged over contexts.

    weights: (contexts,) share of each. Rows end at the subject: what follows cannot change it.
    """
    site = model.site(layer)
    heads = [row for layout in layouts for row in layout.rows]
    found = _at_lookups(model, heads, lambda batch, ends: model.inputs_at(batch, [site], ends)[site])
    rows = found.reshape(len(layouts), len(weights), -1)
    return torch.einsum("ncd,c->nd", rows, weights.to(rows))


def hidden_at(model: EditableModel, layouts: Sequence[Layout], layer: int) -> Tensor:
    """(n, d_model) residual stream after the layer at the subject of the bare prompts."""
    return _at_lookups(model, _bare(layouts), lambda batch, ends: model.hidden_at(batch, layer, ends))


def values_at(model: EditableModel, layouts: Sequence[Layout], layer: int) -> Tensor:
    """(n, d_model) output of the layer's MLP, before any norm, at the subject of the bare prompts."""
    return _at_lookups(model, _bare(layouts), lambda batch, ends: model.mlp_out_at(batch, layer, ends))


def contribution_at(model: EditableModel, layouts: Sequence[Layout], layer: int) -> Tensor:
    """(n, d_model) what the layer's MLP adds to the residual stream at the subject of the bare prompts."""
    return contribution(model, layer, values_at(model, layouts, layer))


@torch.no_grad()
def contribution(model: EditableModel, layer: int, values: Tensor) -> Tensor:
    """What outputs of the down projection, (n, d_model), add to the stream: through a norm, where a family has one."""
    return model.after_mlp(layer, values)


def _bare(layouts: Sequence[Layout]) -> list[Row]:
    """The bare prompts, each by itself: nothing is on their left."""
    return [replace(layout.rows[0], left=0) for layout in layouts]


def _at_lookups(model: EditableModel, rows: Sequence[Row], read: Callable[[TokenBatch, Tensor], Tensor]) -> Tensor:
    """What `read` gives for the lookup of each row, in the order of the rows; rows of one length together."""
    order = sorted(range(len(rows)), key=lambda index: rows[index].lookup)
    parts = []
    for start in range(0, len(order), ROWS_AT_ONCE):
        part = [rows[index] for index in order[start : start + ROWS_AT_ONCE]]
        ends = [row.lookup for row in part]
        parts.append(read(batched(model, part, [end + 1 for end in ends]), torch.tensor(ends)))
    found = torch.cat(parts)
    back = torch.empty(len(order), dtype=torch.long, device=found.device)
    back[torch.tensor(order, device=found.device)] = torch.arange(len(order), device=found.device)
    return found[back]
