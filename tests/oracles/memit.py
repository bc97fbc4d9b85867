"""MEMIT, literally from the paper: one fact at a time, weights really written between layers, an explicit inverse."""

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor

from oracles.rome import Fact, Plain, Settings, find_offset


def memit(
    plain: Plain,
    layers: Sequence[int],
    facts: Sequence[Fact],
    prefixes: Sequence[str],
    moments: dict[int, Tensor],
    weight: float,
    settings: Settings,
    transposed: bool,
    history: dict[int, Tensor] | None = None,
) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """Dense updates (d_out, d_in) and keys K (n, d_in) by layer. prefixes: sampled texts before every prompt.

    history: sum of k k^T of earlier edits, by layer.
    """
    edited = deepcopy(plain)
    texts = [[fact.prompt, *(f"{prefix}. {fact.prompt}" for prefix in prefixes)] for fact in facts]
    last = plain.layers[layers[-1]]
    Z = []
    for fact, contexts in zip(facts, texts, strict=True):
        h = plain.input_and_output(last, fact.prompt, plain.last_token(fact.prompt, fact.subject))[1]
        Z.append(h + find_offset(plain, last, fact, contexts, h, settings)[0])
    updates, keys = {}, {}
    for done, layer in enumerate(layers):
        down = edited.down(layer)
        K = torch.stack([_key(edited, layer, fact, contexts) for fact, contexts in zip(facts, texts, strict=True)])
        now = [
            edited.input_and_output(edited.layers[layers[-1]], f.prompt, edited.last_token(f.prompt, f.subject))[1]
            for f in facts
        ]
        R = (torch.stack(Z) - torch.stack(now)) / (len(layers) - done)
        M = weight * moments[layer].double() + (0 if history is None else history[layer].double())
        D = (R.double().T @ K.double() @ torch.linalg.inv(M + K.double().T @ K.double())).to(K.dtype)
        with torch.no_grad():
            down.weight.add_(D.T if transposed else D)
        updates[layer], keys[layer] = D, K
    return updates, keys


def _key(plain: Plain, layer: int, fact: Fact, contexts: Sequence[str]) -> Tensor:
    """The bare prompt's key and the mean over the prefixed ones, half and half."""
    found = [
        plain.input_and_output(plain.down(layer), text, plain.last_token(text, fact.subject))[0] for text in contexts
    ]
    return (found[0] + torch.stack(found[1:]).mean(0)) / 2 if len(found) > 1 else found[0]
