"""What an edited layer should put out at the subject, so that the new answer follows.

An offset delta at the subject's last token is found by gradient descent on

    mean over contexts of the mean over target tokens of -log p(token)
    + kl KL(p0 | p_delta) at "{subject} is a" + weight_decay |delta| / |v0|^2

(ROME, eq. 4; MEMIT, eq. 16; terms and constants as in the released code, where the decay is a first
power over a square). PMET has two offsets, of the attention's and of the MLP's output: the decay then is a
sum of two, and each offset has its own ball. Requests do not influence each other: they are rows of one batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from errata.errors import BadInput
from errata.keyvalue.adam import adam
from errata.keyvalue.keys import Layout, Row
from errata.keyvalue.replay import Replay

Shift = Callable[[Replay, Tensor], Tensor]
"""(replay of n rows, offsets (n, d) or (n, parts, d)) -> what `Replay.logits` takes as the shift at the lookup."""


@dataclass(frozen=True)
class Objective:
    """steps: evaluations of the loss at most. clamp: largest |delta| / |v0|. loss_stop: loss below which to stop.

    patience: after so many evaluations in a row at which all target tokens were the most probable ones in all
    contexts the search ends (ENCORE, arXiv 2502.01636, section 4); 0 for never.
    settled: (weight, drift): where all target tokens were the most probable ones in all contexts, the next
    log likelihood counts with this weight, and a kl KL of at most `drift` ends the search (PMET).
    """

    steps: int
    lr: float
    weight_decay: float
    clamp: float
    kl: float
    loss_stop: float
    settled: tuple[float, float] | None = None
    patience: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.lr <= 0 or self.clamp <= 0 or min(self.weight_decay, self.kl, self.patience) < 0:
            raise BadInput(
                f"steps {self.steps}, lr {self.lr} and clamp {self.clamp} must be positive, "
                f"weight_decay {self.weight_decay}, kl {self.kl} and patience {self.patience} at least 0."
            )


@dataclass(frozen=True)
class Target:
    """What was found for one request. offset, origin: (d,) or (parts, d), delta and v0. loss: at this offset.

    steps: optimiser steps taken.
    """

    offset: Tensor
    origin: Tensor
    loss: float
    steps: int


def interleave(layouts: Sequence[Layout]) -> list[Row]:
    """The rows that `optimise` expects: each request's rewriting rows in turn, then all essence rows."""
    return [row for layout in layouts for row in layout.rows] + [layout.essence for layout in layouts]


def bare(layouts: Sequence[Layout]) -> Tensor:
    """(n,) indices of the bare prompts among the rows of `interleave`."""
    return torch.arange(len(layouts)) * len(layouts[0].rows)


def at_stream(replay: Replay, offsets: Tensor) -> Tensor:
    """An offset of what the replay shifts: the residual stream, or the parts of a `PartsReplay`."""
    return offsets


def at_down(replay: Replay, offsets: Tensor) -> Tensor:
    """An offset of the down projection's output, through the norm that some families put behind it."""
    norm = replay.model.arch.mlp_norm
    if norm is None:
        return offsets
    module = replay.model.layer(replay.layer).get_submodule(norm)
    changed: Tensor = module(replay.values + offsets) - module(replay.values)
    return changed


def optimise(
    replay: Replay, layouts: Sequence[Layout], origins: Tensor, objective: Objective, shift: Shift
) -> list[Target]:
    """One offset for each request, in order.

    replay: of `interleave(layouts)`. origins: (n, d) or (n, parts, d), what each request's bare prompt has
    where the offsets go, v0. As in the released code the loss is looked at before each step, and the last
    step is left out. A loss that is not finite ends the search; the offset then is what led to it.
    """
    found: dict[int, Target] = {}
    search = _begin(replay, layouts, origins)
    reference: Tensor | None = None
    for step in range(objective.steps):
        offsets = search.offsets.detach().requires_grad_()
        nll, met, essence = search.scores(offsets, shift)
        reference = essence.detach() if reference is None else reference
        drift = objective.kl * _divergence(reference[search.members], essence)
        losses = search.weights * nll + drift + objective.weight_decay * search.decay(offsets)
        values = losses.detach()
        done = (values < objective.loss_stop) | ~torch.isfinite(values) | (step == objective.steps - 1)
        if objective.settled is not None:
            weight, still = objective.settled
            done |= met & (drift.detach() <= still)
            search = replace(search, weights=torch.where(met, weight, torch.ones_like(search.weights)))
        if objective.patience:
            search = replace(search, predicted=torch.where(met, search.predicted + 1, 0))
            done |= search.predicted >= objective.patience
        for slot in done.nonzero()[:, 0].tolist():
            found[search.members[slot]] = Target(search.offsets[slot], search.origins[slot], float(values[slot]), step)
        if done.all():
            break
        (gradient,) = torch.autograd.grad(losses.sum(), offsets)
        search = search.stepped(gradient, step + 1, objective).select((~done).nonzero()[:, 0])
    return [found[index] for index in range(len(layouts))]


def _divergence(before: Tensor, after: Tensor) -> Tensor:
    """KL(before | after) of log probabilities (n, vocab). (n,)"""
    return (before.exp() * (before - after)).sum(-1)


@dataclass(frozen=True)
class _Search:
    """The requests still searched for: a of them, with j rewriting rows and up to t target tokens each.

    members: their places in the order of the call. at: (a, j, t) which column, counted from the lookup's, predicts
    each target token. ids: (a, j, t) the tokens. shares: (a, j, t) 1 / length, 0 behind the end. weights: (a,) of the
    log likelihoods. predicted: (a,) evaluations in a row at which the target was the most probable answer. offsets,
    origins: (a, d) or (a, parts, d). first, second: the same, Adam's moments.
    """

    replay: Replay
    members: list[int]
    at: Tensor
    ids: Tensor
    shares: Tensor
    weights: Tensor
    predicted: Tensor
    origins: Tensor
    offsets: Tensor
    first: Tensor
    second: Tensor

    def scores(self, offsets: Tensor, shift_of: Shift) -> tuple[Tensor, Tensor, Tensor]:
        """Of each request (a,): the mean negative log likelihood of its target tokens, and whether all of them
        are the most probable ones in all contexts; and log probabilities at the essence rows (a, vocab)."""
        a, j, _ = self.at.shape
        read = self.shares > 0
        owner, context, _ = read.nonzero(as_tuple=True)
        essence = a * j + torch.arange(a, device=owner.device)
        rows = torch.cat([owner * j + context, essence])
        columns = torch.cat([self.at[read], torch.zeros_like(essence)])
        shift = shift_of(self.replay, torch.cat([offsets.repeat_interleave(j, 0), offsets]))
        logits = self.replay.logits(shift, columns, rows)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        target, ids = logits[: len(owner)], self.ids[read]
        nll = torch.zeros_like(self.shares).index_put((read,), cross_entropy(target, ids, reduction="none"))
        best = torch.ones_like(read).index_put((read,), target.detach().argmax(-1) == ids)
        return (nll * self.shares).sum(-1).mean(-1), best.flatten(1).all(-1), logits[len(owner) :].log_softmax(-1)

    def decay(self, offsets: Tensor) -> Tensor:
        """|delta| / |v0|^2, (a,), summed over the parts; 0 where both are, as at a token that sees no other."""
        share: Tensor = offsets.norm(dim=-1) / self.origins.norm(dim=-1).square().clamp_min(1e-30)
        return share.reshape(len(share), -1).sum(-1)

    def stepped(self, gradient: Tensor, step: int, objective: Objective) -> "_Search":
        """After one step of Adam, clamped to the ball around zero. step: from 1."""
        offsets, first, second = adam(self.offsets, gradient, self.first, self.second, step, objective.lr)
        limit = objective.clamp * self.origins.norm(dim=-1, keepdim=True)
        offsets = offsets * (limit / offsets.norm(dim=-1, keepdim=True).clamp_min(1e-30)).clamp_max(1)
        return replace(self, offsets=offsets, first=first, second=second)

    def select(self, slots: Tensor) -> "_Search":
        """The same for some of the requests. slots: (b,) among the a."""
        a, j, _ = self.at.shape
        if len(slots) == a:
            return self
        rows = torch.cat([(slots[:, None] * j + torch.arange(j, device=slots.device)).flatten(), a * j + slots])
        names = ("at", "ids", "shares", "weights", "predicted", "origins", "offsets", "first", "second")
        kept = {name: getattr(self, name)[slots] for name in names}
        members = [self.members[slot] for slot in slots.tolist()]
        return replace(self, replay=self.replay.select(rows), members=members, **kept)


def _begin(replay: Replay, layouts: Sequence[Layout], origins: Tensor) -> _Search:
    """The search before its first step, all offsets zero."""
    rows = [row for layout in layouts for row in layout.rows]
    shape = (len(layouts), len(layouts[0].rows), max(len(row.target) for row in rows))
    at = _filled([list(_predicting(row)) for row in rows], shape)
    ids = _filled([list(row.target) for row in rows], shape)
    lengths = torch.tensor([len(row.target) for row in rows]).reshape(*shape[:2], 1)
    shares = ((torch.arange(shape[2]) < lengths) / lengths).to(origins)
    zero, device = torch.zeros_like(origins), origins.device
    members, weights = list(range(len(layouts))), torch.ones(len(layouts)).to(origins)
    predicted = torch.zeros(len(layouts), dtype=torch.long, device=device)
    laid = (at.to(device), ids.to(device), shares)
    return _Search(replay, members, *laid, weights, predicted, origins, zero, zero, zero)


def _predicting(row: Row) -> range:
    """Columns, counted from the lookup, whose logits predict the row's target tokens."""
    return range(row.start - 1 - row.lookup, len(row.ids) - 1 - row.lookup)


def _filled(rows: Sequence[Sequence[int]], shape: tuple[int, int, int]) -> Tensor:
    """Rows of unequal length, filled with zeros, as a long tensor of that shape."""
    return torch.tensor([[*row, *[0] * (shape[2] - len(row))] for row in rows]).reshape(shape)
