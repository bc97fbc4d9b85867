"""Requests laid out as token rows, and the hidden vectors read at their subjects."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from errata.keyvalue.contexts import Contexts
from errata.model import hooks
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

    @property
    def span(self) -> int:
        """Tokens from the lookup on that are put in, at most: the last one of a target is not."""
        return max(len(row.ids) - bool(row.target) - row.lookup for row in self.rows)


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


class Lookups:
    """Reads vectors at the lookups of rows. Rows end there: what follows cannot change them.

    A reading may say that the layers below one have settled: the stream that enters it is kept then, and the next
    reading begins there. room: bytes that the kept streams may take; where they take more, all layers run again.
    """

    def __init__(self, model: EditableModel, rows: Sequence[Row], room: float = inf) -> None:
        self.model = model
        # Those of one length together.
        self._order = sorted(range(len(rows)), key=lambda index: rows[index].lookup)
        chosen = [rows[index] for index in self._order]
        self._parts = [_Part(model, chosen[i : i + ROWS_AT_ONCE]) for i in range(0, len(rows), ROWS_AT_ONCE)]
        tokens = sum(part.batch.ids.numel() for part in self._parts)
        self._keeps = tokens * len(model.weight(model.site(0))) * model.dtype.itemsize <= room

    @torch.no_grad()
    def read(self, path: str, *, inputs: bool = False, settled: int = 0) -> Tensor:
        """What a module gives, or takes, at each row's lookup, (n, d) in float32 at least, in the order of the rows."""
        module = self.model.model.get_submodule(path)
        found = torch.cat([part.read(module, inputs, settled if self._keeps else 0) for part in self._parts])
        back = torch.empty(len(self._order), dtype=torch.long, device=found.device)
        back[torch.tensor(self._order, device=found.device)] = torch.arange(len(self._order), device=found.device)
        return found[back]


class _Part:
    """Rows that run at once. begin: the layer that `stream`, what the layer below it returned, enters."""

    def __init__(self, model: EditableModel, rows: Sequence[Row]) -> None:
        ends = [row.lookup for row in rows]
        self.model, self.ends = model, torch.tensor(ends)
        self.batch = batched(model, rows, [end + 1 for end in ends])
        self.begin, self.stream = 0, None

    def read(self, module: nn.Module, inputs: bool, settled: int) -> Tensor:
        seen: dict[str, Any] = {}

        def note(name: str, found: Any) -> None:
            seen[name] = found
            if name == "read":
                raise hooks.Enough

        def read(found: Any) -> None:
            note("read", hooks.select(hooks.main(found), len(self.ends), self.ends))

        handles: list[hooks.Removable] = [
            module.register_forward_pre_hook(lambda _, args: read(args[0]))
            if inputs
            else module.register_forward_hook(lambda _, args, output: read(output))
        ]
        if settled > self.begin:
            below = self.model.layer(settled - 1)
            handles.append(below.register_forward_hook(lambda _, args, output: note("stream", output)))
        with hooks.hooked(handles), self.model.resumed(self.begin - 1, self.stream), suppress(hooks.Enough):
            self.model.forward(self.batch)
        if "stream" in seen:
            self.begin, self.stream = settled, seen["stream"]
        found: Tensor = seen["read"]
        return found


def in_contexts(model: EditableModel, layouts: Sequence[Layout], room: float = inf) -> Lookups:
    """Of the requests in all their contexts."""
    return Lookups(model, [row for layout in layouts for row in layout.rows], room)


def in_bare_prompts(model: EditableModel, layouts: Sequence[Layout], room: float = inf) -> Lookups:
    """Of the requests in their bare prompts, each by itself: nothing is on its left."""
    return Lookups(model, [replace(layout.rows[0], left=0) for layout in layouts], room)


def keys_at(lookups: Lookups, weights: Tensor, layer: int, settled: int = 0) -> Tensor:
    """Keys K (n, d_in): the layer's MLP inner activations at the subject, averaged over contexts.

    lookups: of the requests in their contexts. weights: (contexts,) share of each.
    """
    found = lookups.read(lookups.model.site(layer), inputs=True, settled=settled)
    rows = found.unflatten(0, (-1, len(weights)))
    return torch.einsum("ncd,c->nd", rows, weights.to(rows))


def hidden_at(lookups: Lookups, layer: int, settled: int = 0) -> Tensor:
    """(n, d_model) residual stream after the layer at the lookups."""
    return lookups.read(f"{lookups.model.arch.layers}.{layer}", settled=settled)


def values_at(lookups: Lookups, layer: int, settled: int = 0) -> Tensor:
    """(n, d_model) output of the layer's MLP, before any norm, at the lookups."""
    arch = lookups.model.arch
    return lookups.read(f"{arch.layers}.{layer}.{arch.mlp}", settled=settled)


def contribution_at(lookups: Lookups, layer: int, settled: int = 0) -> Tensor:
    """(n, d_model) what the layer's MLP adds to the residual stream at the lookups."""
    return contribution(lookups.model, layer, values_at(lookups, layer, settled))


@torch.no_grad()
def contribution(model: EditableModel, layer: int, values: Tensor) -> Tensor:
    """What outputs of the down projection, (n, d_model), add to the stream: through a norm, where a family has one."""
    if model.arch.mlp_norm is None:
        return values
    added: Tensor = model.layer(layer).get_submodule(model.arch.mlp_norm)(values)
    return added
