"""What prompts begin with alike: worth a pass of its own, kept for later calls, or laid out once in one sequence."""

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Protocol, cast

import torch
from torch import Tensor
from transformers import DynamicCache

from errata.model.tokens import Tokens

if TYPE_CHECKING:
    from errata.model.editable import EditableModel

WORTH_SHARING = 512
"""Tokens that sharing a prefix must save before it pays for a pass of its own."""
KEPT_BYTES = 256 << 20
"""Of keys and values of prefixes that are kept from call to call, unless the user says otherwise."""


class Layer(Protocol):
    """Keys and values of one layer's cache, (n, heads, t, d)."""

    keys: Tensor
    values: Tensor


@dataclass(frozen=True)
class Group:
    """Prompts, by index, that share their first `prefix` tokens."""

    prefix: int
    members: tuple[int, ...]


class PrefixCache:
    """Keys and values of whole prefixes, those used last, for calls to come. limit: their bytes, 0 for none.

    A change of the model's weights or memories, or a hook on its modules, forgets all. What a prefix is answered
    with never depends on what was asked before: only the very same tokens are found again.
    """

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self._limit = limit
        self._held: OrderedDict[Tokens, DynamicCache] = OrderedDict()
        self._state: object = None

    def get(self, model: "EditableModel", ids: Tokens, compute: Callable[[Tokens], DynamicCache]) -> DynamicCache:
        """What `compute` makes of `ids`, or made of them before; not to be written to."""
        if (state := _state(model)) != self._state:
            self._held.clear()
            self._state = state
        found = self._held.pop(ids) if ids in self._held else compute(ids)
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
    """The cache of one prefix as that of n rows that begin with it, in the same memory."""
    rows = copy.copy(cache)
    rows.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in layers(rows):
        layer.keys, layer.values = (states.expand(n, -1, -1, -1) for states in (layer.keys, layer.values))
    return rows


def _state(model: "EditableModel") -> object:
    """Changes with the weights, which torch counts writes to, with the patches, and with hooks such as overlays."""
    hooks = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.model.modules())
    return model, hooks, model.patches, [(id(tensor), tensor._version) for tensor in model.model.parameters()]


def share(prompts: Sequence[Tokens]) -> list[Group]:
    """Groups of prompts with a common prefix worth sharing; the last group shares nothing."""
    groups: list[Group] = []
    single: list[int] = []
    for group in alike(prompts):
        if group.prefix * (len(group.members) - 1) >= WORTH_SHARING:
            groups.append(group)
        else:
            single += group.members
    return [*groups, Group(0, tuple(single))] if single else groups


def alike(prompts: Sequence[Tokens]) -> Iterator[Group]:
    """All prompts, in groups of those of which at least half is shared."""
    members: list[int] = []
    prefix: Tokens = ()
    for index in sorted(range(len(prompts)), key=lambda index: prompts[index]):
        common = _common(prefix, prompts[index]) if members else prompts[index]
        if members and 2 * len(common) < len(prompts[index]):
            yield Group(len(prefix), tuple(members))
            members, common = [], prompts[index]
        members.append(index)
        prefix = common
    if members:
        yield Group(len(prefix), tuple(members))


def _common(a: Tokens, b: Tokens) -> Tokens:
    return a[: sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))]


@dataclass(frozen=True)
class Line:
    """Rows laid out in one sequence, in which tokens that several begin with alike stand once.

    ids: (t,). depths: (t,) how many tokens come before each in its row. paths: for each row where its tokens stand.
    """

    ids: Tokens
    depths: Tokens
    paths: tuple[Tokens, ...]

    @property
    def plain(self) -> bool:
        """Whether every token is preceded by all before it, as in a sequence of its own."""
        return max(map(len, self.paths)) == len(self.ids)

    def visible(self) -> Tensor:
        """(t, t) bool: whether the token of each row of the matrix reads that of each column, its own included."""
        seen = torch.zeros(len(self.ids), len(self.ids), dtype=torch.bool)
        for path in self.paths:
            where = torch.tensor(path)
            seen[where[:, None], where] |= torch.ones(len(path), len(path), dtype=torch.bool).tril()
        return seen


def lay_out(rows: Sequence[Tokens]) -> Line:
    """One line for all rows."""
    places: dict[tuple[int, int], int] = {}
    ids: list[int] = []
    depths: list[int] = []
    paths: list[Tokens] = []
    for row in rows:
        at, path = -1, []
        for depth, token in enumerate(row):
            at = places.setdefault((at, token), len(ids))
            if at == len(ids):
                ids.append(token)
                depths.append(depth)
            path.append(at)
        paths.append(tuple(path))
    return Line(tuple(ids), tuple(depths), tuple(paths))
