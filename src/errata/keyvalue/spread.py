"""A change at one layer, written into that layer and several below it.

Layers are taken in increasing order. What is still missing at the last one is read again after each
write, and each layer takes its share of it: one over the number of layers left (MEMIT, algorithm 1), or over
the root of that number (PMET). Writes are overlaid, not made.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from errata.keyvalue.keys import Layout, hidden_at, keys_at, values_at
from errata.model.editable import EditableModel
from errata.update.delta import LowRank, WeightDelta

Solve = Callable[[int, Tensor, Tensor], LowRank]
"""(layer, K (n, d_in), R (n, d_out)) -> the layer's update."""
Read = Callable[[EditableModel, Sequence[Layout], int], Tensor]
"""(model, layouts, layer) -> what targets are set for, (n, d_model), at the bare prompts' subjects."""


def spread(
    model: EditableModel,
    layouts: Sequence[Layout],
    weights: Tensor,
    layers: Sequence[int],
    Z: Tensor,
    solve: Solve,
    read: Read = hidden_at,
    power: float = 1.0,
) -> tuple[WeightDelta, Mapping[int, Tensor]]:
    """The updates that bring what is read at the last layer to Z, and the keys K (n, d_in) of each layer.

    Z: (n, d_model) wanted at the bare prompts' subjects, of the stream after the layer or of what else `read`
    gives. weights: share of each context in a key. power: a layer takes 1 / (layers left) ** power.
    The keys are those each solve used: read after the writes below it, before its own.
    """
    sites: dict[str, LowRank] = {}
    keys: dict[int, Tensor] = {}
    for done, layer in enumerate(layers):
        with model.overlay(WeightDelta(sites)):
            keys[layer] = keys_at(model, layouts, weights, layer)
            missing = (Z - read(model, layouts, layers[-1])) / (len(layers) - done) ** power
            residuals = _before_norm(model, layouts, layer, missing)
        sites[model.site(layer)] = solve(layer, keys[layer], residuals)
    return WeightDelta(sites), keys


def _before_norm(model: EditableModel, layouts: Sequence[Layout], layer: int, R: Tensor) -> Tensor:
    """Residuals of the stream as residuals of the down projection's output, (n, d_model).

    The same thing, unless the family normalises that output: y -> g y / rms(y). The norm's output has a
    fixed length but for the gain g, so its wanted output is met in direction: d = (wanted / g) rms(y) - y.
    """
    if model.arch.mlp_norm is None:
        return R
    y = values_at(model, layouts, layer)
    with torch.no_grad():
        gain = model.after_mlp(layer, torch.ones_like(y[:1]))
        wanted = model.after_mlp(layer, y) + R
    return wanted / gain * y.square().mean(-1, keepdim=True).sqrt() - y
