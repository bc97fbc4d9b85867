"""Attention keys and values: of prefixes that many prompts share, and of rows that grow token by token."""

import copy
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from errata.model.tokens import Tokens

if TYPE_CHECKING:
    from errata.model.editable import EditableModel

GIB = 1 << 30


class Layer(Protocol):
    """Keys and values of one layer's cache, (n, heads, t, d)."""

    keys: Tensor
    values: Tensor


class PrefixCache:
    """Keys and values of whole prefixes, those used last, for calls to come. limit: their bytes, 0 for none.

    A change of the model's weights or memories, or a hook on its modules, forgets all. What a prefix is answered
    with never depends on what was asked before: only the very same tokens are found again.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: OrderedDict[Tokens, DynamicCache] = OrderedDict()
        self._state: object = None

    def get(self, model: "EditableModel", ids: Tokens) -> DynamicCache:
        """Those of one prefix, computed unless they are held; not to be written to."""
        if (state := _state(model)) != self._state:
            self._held.clear()
            self._state = state
        found = self._held.pop(ids) if ids in self._held else prefill(model, ids)
        self._held[ids] = found
        while sum(map(nbytes, self._held.values())) > self._limit:
            self._held.popitem(last=False)
        return found


def nbytes(cache: DynamicCache) -> int:
    """What its keys and values take."""
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in layers(cache))


def layers(cache: DynamicCache) -> list[Layer]:
    """Keys and values by layer."""
    return cast("list[Layer]", cache.layers)


def for_rows(cache: DynamicCache, n: int) -> DynamicCache:
    """The cache of one prefix as that of n rows that begin with it, in the same memory.

    It is for passes that nothing follows: each layer reads what they add, and does not keep it.
    """
    rows = copy.copy(cache)
    rows.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in layers(rows):
        layer.keys, layer.values = (states.expand(n, -1, -1, -1) for states in (layer.keys, layer.values))
        layer.__dict__["update"] = partial(_joined, layer)
    return rows


def _joined(layer: Layer, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
    return torch.cat([layer.keys, key_states], -2), torch.cat([layer.values, value_states], -2)


def _state(model: "EditableModel") -> object:
    """Changes with the weights, which torch counts writes to, with the patches, and with hooks such as overlays."""
    hooks = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.model.modules())
    return model, hooks, model.patches, [(id(tensor), tensor._version) for tensor in model.model.parameters()]


class Reserved(DynamicLayer):
    """Keys and values of one layer in memory set aside for `room` positions of every row.

    A token's are written in place, and nothing is copied as rows grow. A row that leaves gives its place to the last.
    """

    def __init__(self, room: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # transformers is
        self._room = room
        self._whole: list[Tensor] = []

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        added = (key_states, value_states)
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._whole = [states.new_empty(*states.shape[:2], self._room, states.shape[3]) for states in added]
        begin = self.get_seq_length()
        end = begin + key_states.shape[2]
        for whole, states in zip(self._whole, added, strict=True):
            whole[: len(states), :, begin:end] = states
        self.keys, self.values = (whole[: len(key_states), :, :end] for whole in self._whole)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows; each of them stands where it stood, or comes from behind those that are kept."""
        for place, row in enumerate(indices.tolist()):
            if place != row:
                for whole in self._whole:
                    whole[place] = whole[row]
        end = self.get_seq_length()
        self.keys, self.values = (whole[: len(indices), :, :end] for whole in self._whole)


def reserved(model: "EditableModel", room: int) -> DynamicCache:
    """An empty cache for rows of at most `room` positions; one that only remembers a window, where the model does."""
    cache = DynamicCache(config=model.model.config)
    if not any(cache.is_sliding):
        cache.layers = [Reserved(room) for _ in range(model.n_layers)]
    return cache


def prefill(model: "EditableModel", ids: Sequence[int]) -> DynamicCache:
    """Keys and values of one row of tokens."""
    cache = DynamicCache(config=model.model.config)
    batch = torch.tensor([list(ids)], device=model.device)
    model.model(input_ids=batch, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return cache
