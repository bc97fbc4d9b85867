"""A change at one layer, written into that layer and several below it.

Layers are taken in increasing order. What is still missing at the last one is read again after each
write, and each layer takes its share of it: one over the number of layers left (MEMIT, algorithm 1), or over
the root of that number (PMET). Writes are overlaid, not made.
"""

from collections.abc import Callable, Mapping, Sequence
from math import inf

import torch
from torch import Tensor

from errata.keyvalue.keys import Layout, Lookups, hidden_at, in_bare_prompts, in_contexts, keys_at, values_at
from errata.model.editable import EditableModel
from errata.update.delta import LowRank, WeightDelta

Solve = Callable[[int, Tensor, Tensor], LowRank]
"""(layer, K (n, d_in), R (n, d_out)) -> the layer's update."""
Read = Callable[[Lookups, int, int], Tensor]
"""(lookups, layer, settled) -> what targets are set for, (n, d_model); see `Lookups`."""


def spread(
    model: EditableModel,
    layouts: Sequence[Layout],
    weights: Tensor,
    layers: Sequence[int],
    Z: Tensor,
    solve: Solve,
    read: Read = hidden_at,
    power: float = 1.0,
    room: float = inf,
) -> tuple[WeightDelta, Mapping[int, Tensor]]:
    """The updates that bring what is read at the last layer to Z, and the keys K (n, d_in) of each layer.

    Z: (n, d_model) wanted at the bare prompts' subjects, of the stream after the layer or of what else `read`
    gives. weights: share of each context in a key. power: a layer takes 1 / (layers left) ** power. room: bytes for
    streams between layers, which spare running the settled layers again.
    The keys are those each solve used: read after the writes below it, before its own.
    """
    sites: dict[str, LowRank] = {}
    keys: dict[int, Tensor] = {}
    rows, bare = in_contexts(model, layouts, room), in_bare_prompts(model, layouts, room)
    for done, layer in enumerate(layers):
        with model.overlay(WeightDelta(sites)):
            keys[layer] = keys_at(rows, weights, layer, settled=layer)
            missing = (Z - read(bare, layers[-1], layer)) / (len(layers) - done) ** power
            residuals = _before_norm(bare, layer, missing)
        sites[model.site(layer)] = solve(layer, keys[layer], residuals)
    return WeightDelta(sites), keys


def _before_norm(bare: Lookups, layer: int, R: Tensor) -> Tensor:
    """Residuals of the stream as residuals of the down projection's output, (n, d_model).

    The same thing, unless the family normalises that output: y -> g y / rms(y). The norm's output has a
    fixed length but for the gain g, so its wanted output is met in direction: d = (wanted / g) rms(y) - y.
    """
    model = bare.model
    if model.arch.mlp_norm is None:
        return R
    norm = model.layer(layer).get_submodule(model.arch.mlp_norm)
    y = values_at(bare, layer)
    with torch.no_grad():
        gain: Tensor = norm(torch.ones_like(y[:1]))
        wanted: Tensor = norm(y) + R
    return wanted / gain * y.square().mean(-1, keepdim=True).sqrt() - y
