"""Log-probabilities of given tokens: what rows share is computed once, and rows are packed by length.

A prefix that many rows share has a pass of its own. Rows that begin alike after it, as the choices of one question
do, are laid out in one line, where each token stands once and reads only what comes before it in its own rows.
Logits are computed only where they are read: a hook hands the output layer those hidden states alone, so
whatever a family does after it (soft caps, scales) still happens.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from errata.model import hooks
from errata.model.caches import PrefixCache, for_rows, prefill
from errata.model.editable import EditableModel
from errata.model.lower import LowerStates
from errata.model.prefixes import Group, Line, alike, lay_out, share
from errata.model.routing import by_model
from errata.model.tokens import Tokens, encode_target, pad

TOKENS_AT_ONCE = 8192
"""Positions in one batch, cached ones included."""
LINE = 512
"""Tokens of a line of several rows, at most."""
MASKED = ("sdpa", "eager")
"""Kinds of attention that take a mask of their own for every token."""


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
def tail_log_probs(
    model: EditableModel, rows: Sequence[Row], prefixes: PrefixCache | None = None, lower: LowerStates | None = None
) -> Iterator[tuple[int, Tensor]]:
    """(index, (scored, vocab) float32 log-probabilities) of every row, in an order of its own.

    The k-th of the `scored` positions predicts the token after it. All NaN if a logit was not finite.
    prefixes: what was kept of earlier calls. lower: hidden states of lower layers, likewise; not used where memories
    beside the weights may change them.
    """
    # A prompt ends where the first prediction is read.
    routed = model.routed([row.prompt for row in rows], [row.scored for row in rows])
    for runner, members in by_model(routed).items():
        run = [Row(routed[i].ids + rows[i].ids[len(rows[i].prompt) :], rows[i].scored) for i in members]
        reader = _Reader(runner, run, prefixes or PrefixCache(0), None if runner.patches else lower)
        yield from ((members[place], log_probs) for place, log_probs in reader.read())


@dataclass(frozen=True)
class _Batch:
    """Lines that are run together. members: the rows of each, by index."""

    lines: tuple[Line, ...]
    members: tuple[tuple[int, ...], ...]

    def rows(self) -> Iterator[tuple[int, int, Tokens]]:
        """(line, row, where its tokens stand in the line)."""
        for n, (line, members) in enumerate(zip(self.lines, self.members, strict=True)):
            yield from ((n, row, path) for row, path in zip(members, line.paths, strict=True))


@dataclass(frozen=True)
class _Reader:
    """Reads rows that `model` runs as they are. lined: whether several may stand in one line."""

    model: EditableModel
    rows: Sequence[Row]
    prefixes: PrefixCache
    lower: LowerStates | None
    lined: bool = True

    def read(self) -> Iterator[tuple[int, Tensor]]:
        """As `tail_log_probs`."""
        for group in self._groups():
            prefix = self.rows[group.members[0]].ids[: group.prefix]
            batches = list(self._batches(group))
            keys = [self._key(prefix, batch) for batch in batches]
            # A batch whose lower layers run needs the prefix' keys and values there.
            resume = self.lower is not None and all(map(self.lower.holds, keys))
            cache = self._prefill(prefix, resume) if prefix else None
            for batch, key in zip(batches, keys, strict=True):
                yield from self._run(batch, key, cache, len(prefix))

    # What is run together

    def _groups(self) -> list[Group]:
        """Rows by shared prefix; those that fit into one line, prefix and all, are left to lines."""
        loose: list[int] = []
        groups: list[Group] = []
        for group in share([row.given for row in self.rows]):
            once = group.prefix + sum(len(self.rows[i].ids) - group.prefix for i in group.members)
            if group.prefix and not (once <= LINE and self._has_lines(0)):
                groups.append(group)
            else:
                loose += group.members
        return [*groups, Group(0, tuple(loose))] if loose else groups

    def _has_lines(self, prefix: int) -> bool:
        """Whether rows may stand in one line behind a prefix: not with memories, nor with short attention windows."""
        config = self.model.model.config
        windows = [getattr(config, name, None) or prefix + LINE for name in ("sliding_window", "window_size")]
        masked = config._attn_implementation in MASKED and not self.model.patches
        return self.lined and masked and prefix + LINE <= min(windows)

    def _lines(self, group: Group) -> Iterator[tuple[int, ...]]:
        """The rows of each line, by index."""
        if not self._has_lines(group.prefix):
            yield from ((index,) for index in group.members)
            return
        rests = [self.rows[index].ids[group.prefix :] for index in group.members]
        for run in alike(rests):
            line: list[int] = []
            taken = run.prefix
            for member in run.members:
                own = len(rests[member]) - run.prefix
                if line and taken + own > LINE:
                    yield tuple(line)
                    line, taken = [], run.prefix
                line.append(group.members[member])
                taken += own
            yield tuple(line)

    def _batches(self, group: Group) -> Iterator[_Batch]:
        """Lines of similar length, longest first, within the bound on positions."""
        members = list(self._lines(group))
        lines = [lay_out([self.rows[i].ids[group.prefix :] for i in line]) for line in members]
        order = sorted(range(len(lines)), key=lambda index: -len(lines[index].ids))
        while order:
            size = max(1, TOKENS_AT_ONCE // (group.prefix + len(lines[order[0]].ids)))
            yield _Batch(tuple(lines[i] for i in order[:size]), tuple(members[i] for i in order[:size]))
            order = order[size:]

    # Passes

    def _key(self, prefix: Tokens, batch: _Batch | None = None) -> str:
        if self.lower is None:
            return ""
        return self.lower.key(self.model, prefix, batch and [(line.ids, line.paths) for line in batch.lines])

    def _pass(self, key: str, resume: bool = True) -> AbstractContextManager[None]:
        return nullcontext() if self.lower is None else self.lower.run(self.model, key, resume=resume)

    def _prefill(self, prefix: Tokens, resume: bool) -> DynamicCache:
        """Keys and values of a prefix; with `resume` those of lower layers may be missing."""
        if self.lower is None:
            return self.prefixes.get(self.model, prefix)
        with self._pass(self._key(prefix), resume):
            cache = prefill(self.model, prefix)
        self.lower.lengthen(cache, len(prefix))
        return cache

    def _run(self, batch: _Batch, key: str, cache: DynamicCache | None, prefix: int) -> Iterator[tuple[int, Tensor]]:
        """(index, (scored, vocab) log-probabilities) of the rows of a batch."""
        model, lines = self.model, batch.lines
        tokens = pad([line.ids for line in lines], model.pad_id).to(model.device)
        depths = pad([line.depths for line in lines], 0).ids.to(model.device)
        reads = {i: [(n, c) for c in path[-self.rows[i].scored :]] for n, i, path in batch.rows()}
        ends = torch.tensor([places[0][1] for places in reads.values()], device=model.device)
        order = {place: k for k, place in enumerate(dict.fromkeys(chain.from_iterable(reads.values())))}
        where, columns = torch.tensor(list(order), device=model.device).T
        with hooks.hooked([reading(model, columns, where)]), model.asked_at(ends), self._pass(key):
            logits = model.model(
                input_ids=tokens.ids,
                attention_mask=_attention(lines, tokens.mask, prefix, model.dtype),
                position_ids=depths + prefix,
                past_key_values=None if cache is None else for_rows(cache, len(lines)),
                use_cache=cache is not None,
            ).logits.float()
        finite = logits.isfinite().all(-1, keepdim=True)
        if len(lines) < len(reads) and not finite.all():
            yield from self._alone(list(reads))
            return
        log_probs = logits.log_softmax(-1).where(finite, torch.nan)
        for index, places in reads.items():
            yield index, log_probs[[order[place] for place in places]]

    def _alone(self, members: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """Rows in lines of their own: in a common one NaN is seen through any mask, as zero times NaN is NaN."""
        reader = _Reader(self.model, [self.rows[index] for index in members], self.prefixes, None, lined=False)
        yield from ((members[place], log_probs) for place, log_probs in reader.read())


def _attention(lines: Sequence[Line], mask: Tensor, prefix: int, dtype: torch.dtype) -> Tensor:
    """What the model takes as attention mask. mask: (n, t), 1 for tokens. prefix: of cached tokens before each line."""
    n, width = mask.shape
    before = mask.new_ones(n, prefix)
    if all(line.plain for line in lines):
        return torch.cat([before, mask], 1)
    seen = torch.eye(width, dtype=torch.bool).repeat(n, 1, 1)  # padding reads itself, so that it stays finite
    for line, visible in zip(lines, seen, strict=True):
        visible[: len(line.ids), : len(line.ids)] = line.visible()
    hidden = torch.zeros(n, width, width, dtype=dtype).masked_fill_(~seen, torch.finfo(dtype).min).to(mask.device)
    return torch.cat([hidden.new_zeros(n, width, prefix), hidden], 2)[:, None]


def reading(model: EditableModel, columns: Tensor, rows: Tensor | None = None) -> hooks.Removable:
    """Lets the output layer see chosen positions alone.

    columns: (n, k) of each row, for logits (n, k, vocab). With rows (m,), the row of each of the columns (m,), for
    logits (m, vocab).
    """
    where = torch.arange(len(columns), device=columns.device)[:, None] if rows is None else rows

    def narrow(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        stream = args[0]
        return stream[where.to(stream.device), columns.to(stream.device)], *args[1:]

    handle: hooks.Removable = model.model.get_output_embeddings().register_forward_pre_hook(narrow)
    return handle
