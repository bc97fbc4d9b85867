"""Training a change of some matrices by gradient descent, while the model's weights stay as they are.

The change is overlaid on the model, and only its parameters have gradients. What lies below the lowest changed
layer is computed once; logits are computed where a target is predicted and nowhere else. All examples make one
batch: each step of Adam follows the mean of their losses, each of which is a mean over target tokens.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from errata.errors import BadInput, Diverged
from errata.gradient.examples import Example, Labelled, labelled, nll, predictions
from errata.model import hooks
from errata.model.editable import EditableModel
from errata.model.tokens import TokenBatch, subject_index
from errata.types import EditRequest, Progress
from errata.update.delta import WeightDelta

TOKENS_AT_ONCE = 4096
"""Positions whose activations are kept for one backward pass."""

Change = Callable[[Sequence[Tensor]], WeightDelta]
"""What parameters mean for the weights; differentiable."""


@dataclass(frozen=True)
class Descent:
    """steps: of Adam at most. lr: its rate. loss_stop: mean loss at which to stop."""

    steps: int
    lr: float
    loss_stop: float

    def __post_init__(self) -> None:
        if self.steps < 1 or self.lr <= 0:
            raise BadInput(f"steps {self.steps} and lr {self.lr} must be positive.")


@dataclass(frozen=True)
class Trained:
    """update: the change found. losses: of each example under it. steps: of Adam taken."""

    update: WeightDelta
    losses: tuple[float, ...]
    steps: int

    def details(self, model: EditableModel, requests: Sequence[EditRequest]) -> tuple[dict[str, Any], ...]:
        """What `EditResult` tells of each request."""
        return tuple(
            {
                "id": request.id,
                "loss": loss,
                "steps": self.steps,
                "lookup": subject_index(model.tokenizer, request.prompt, request.subject),
                "contexts": [],
            }
            for request, loss in zip(requests, self.losses, strict=True)
        )


def train_matrix(
    model: EditableModel,
    layer: int,
    examples: Sequence[Example],
    descent: Descent,
    *,
    limit: float | None = None,
    progress: Progress | None = None,
) -> Trained:
    """A dense change of the layer's down projection, from zero. limit: see `train`."""
    site = model.site(layer)
    zero = torch.zeros_like(hooks.widened(model.weight(site)), memory_format=torch.contiguous_format)
    return train(model, examples, [zero], lambda found: WeightDelta({site: found[0]}), descent, limit, progress)


def train(
    model: EditableModel,
    examples: Sequence[Example],
    start: Sequence[Tensor],
    change: Change,
    descent: Descent,
    limit: float | None = None,
    progress: Progress | None = None,
) -> Trained:
    """The change that makes the examples' targets probable.

    start: parameters to begin with; they are left as they are. limit: bound of every parameter's size after each
    step. The loss is looked at before each step and after the last. BadInput without examples; Diverged if a loss
    is not finite.
    """
    if not examples:
        raise BadInput("there is nothing to train on: no request was given; give at least one.")
    parameters = [tensor.detach().clone().requires_grad_() for tensor in start]
    adam = torch.optim.Adam(parameters, lr=descent.lr)
    lowest = min(model.layer_of(site) for site in change(parameters).sites)
    parts = [_part(model, examples, members, lowest) for members in _chunks(examples)]
    for step in range(descent.steps + 1):
        losses = _gradients(model, parts, parameters, change, last=step == descent.steps)
        if not torch.isfinite(losses).all():
            raise Diverged(f"the loss of training on {model.name} is not finite after {step} steps; try a lower lr.")
        if progress is not None:
            progress("steps", step, descent.steps)
        if step == descent.steps or losses.mean() < descent.loss_stop:
            break
        adam.step()
        if limit is not None:
            for parameter in parameters:
                parameter.detach().clamp_(-limit, limit)
    with torch.no_grad():
        return Trained(change([parameter.detach() for parameter in parameters]), tuple(losses.tolist()), step)


@dataclass(frozen=True)
class _Part:
    """Examples that share a pass. members: their places in the order of the call.

    lowest: the lowest changed layer. below: what the layer under it returns.
    """

    members: list[int]
    rows: Labelled
    lowest: int
    below: Any

    def losses(self, model: EditableModel, update: WeightDelta) -> Tensor:
        """Mean negative log likelihood of each example's targets, (m,), differentiable in the update."""
        with model.resumed(self.lowest - 1, self.below), model.overlay(update):
            return nll(predictions(model, self.rows), self.rows)


def _gradients(
    model: EditableModel, parts: Sequence[_Part], parameters: Sequence[Tensor], change: Change, *, last: bool
) -> Tensor:
    """The examples' losses (n,); the gradient of their mean is left on the parameters, unless this is the last time."""
    n = sum(len(part.members) for part in parts)
    found = torch.empty(n, dtype=torch.float64)
    for parameter in parameters:
        parameter.grad = None
    for part in parts:
        with torch.set_grad_enabled(not last):
            losses = part.losses(model, change(parameters))
        if not last:
            (losses.sum() / n).backward()
        found[part.members] = losses.detach().double().cpu()
    return found


def _chunks(examples: Sequence[Example]) -> Iterator[list[int]]:
    """Examples of similar length, longest first, within the bound on positions."""
    order = sorted(range(len(examples)), key=lambda index: -len(examples[index].ids))
    while order:
        size = max(1, TOKENS_AT_ONCE // len(examples[order[0]].ids))
        yield order[:size]
        order = order[size:]


def _part(model: EditableModel, examples: Sequence[Example], members: list[int], lowest: int) -> _Part:
    rows = labelled(model, [examples[index] for index in members])
    return _Part(members, rows, lowest, _below(model, lowest, rows.batch))


@torch.no_grad()
def _below(model: EditableModel, lowest: int, batch: TokenBatch) -> Any:
    """What the layer under the lowest changed one returns; None where there is no layer under it."""
    seen: list[Any] = []

    def note(_: Any, args: Any, output: Any) -> None:
        seen.append(output)
        raise hooks.Enough

    if lowest == 0:
        return None
    with hooks.hooked([model.layer(lowest - 1).register_forward_hook(note)]), suppress(hooks.Enough):
        model.forward(batch)
    return seen[0]
