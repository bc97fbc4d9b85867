"""The gradient of an edit's loss at linear maps, as the two factors it is made of.

For a map y = W x the gradient is the sum over tokens of delta_t x_t^T: x_t is the map's input at token t, delta_t
the gradient of the loss with respect to its output there (Mitchell et al. 2022, arXiv 2110.11309, section 3).
No parameter asks for a gradient: zeros that do are added to the outputs, so the graph begins at the first map.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from errata.errors import Diverged
from errata.gradient.examples import Labelled, nll, predictions
from errata.model import hooks
from errata.model.editable import EditableModel


@dataclass(frozen=True)
class Factors:
    """x: (n, t, d_in) inputs. delta: (n, t, d_out) gradients of the outputs. used: (n, t) where neither is zero."""

    x: Tensor
    delta: Tensor
    used: Tensor


@dataclass(frozen=True)
class RowDelta:
    """For each row of a batch a change of its own: row i computes with W + left_i right_i.

    sites: site -> (left (n, d_out, r), right (n, r, d_in)).
    """

    sites: Mapping[str, tuple[Tensor, Tensor]]

    def to(self, device: torch.device | str) -> "RowDelta":
        return RowDelta({site: (left.to(device), right.to(device)) for site, (left, right) in self.sites.items()})

    def apply(self, site: str, x: Tensor) -> Tensor:
        """What the changes add to the site's output. x: (n, t, d_in), or (n * t, d_in) where a family flattens."""
        left, right = (factor.to(x) for factor in self.sites[site])
        rows = x.reshape(len(left), -1, x.shape[-1])
        return ((rows @ right.mT) @ left.mT).reshape(*x.shape[:-1], -1)


def gradient_factors(model: EditableModel, sites: Sequence[str], rows: Labelled) -> tuple[dict[str, Factors], Tensor]:
    """The factors at each site and the loss of each row (n,), on the model as it stands.

    Losses are added over rows, so what a row gives does not depend on the others. Diverged if a loss is not finite.
    """
    n = len(rows.targets)
    inputs: dict[str, Tensor] = {}
    zeros: dict[str, Tensor] = {}

    def watch(site: str) -> Callable[..., Tensor]:
        def hook(module: Any, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            inputs[site] = hooks.select(args[0].detach(), n, None).to(model.device)
            zeros[site] = torch.zeros_like(output, requires_grad=True)
            return output + zeros[site]

        return hook

    handles = [model.model.get_submodule(site).register_forward_hook(watch(site)) for site in sites]
    with hooks.hooked(handles), torch.enable_grad():
        losses = nll(predictions(model, rows), rows)
        gradients = torch.autograd.grad(losses.sum(), [zeros[site] for site in sites])
    if not torch.isfinite(losses).all():
        raise Diverged("the loss of this edit is not finite: the model did not survive its earlier edits.")
    found = {}
    for site, gradient in zip(sites, gradients, strict=True):
        x, delta = inputs[site], hooks.select(gradient, n, None).to(model.device)
        found[site] = Factors(x, delta, (x != 0).any(-1) & (delta != 0).any(-1))
    return found, losses.detach()
