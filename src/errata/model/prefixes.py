"""What prompts begin with alike: worth a pass of its own, or laid out once in one sequence."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import Tensor

from errata.model.tokens import Tokens

WORTH_SHARING = 512
"""Tokens that sharing a prefix must save before it pays for a pass of its own."""


@dataclass(frozen=True)
class Group:
    """Prompts, by index, that share their first `prefix` tokens."""

    prefix: int
    members: tuple[int, ...]


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
