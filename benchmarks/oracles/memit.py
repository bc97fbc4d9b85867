"""MEMIT, literally from the paper: one fact at a time, weights really written between layers, an explicit inverse.

EMMET and AlphaEdit are the same with another solution of a layer.

Frozen: a copy of `tests/oracles` as it stood before the work on speed, so that ratios stay comparable.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
from torch import Tensor

from benchmarks.oracles.rome import Fact, Plain, Settings, find_offset

Solve = Callable[[int, Tensor, Tensor], Tensor]


def least_squares(moments: dict[int, Tensor], weight: float, history: dict[int, Tensor] | None = None) -> Solve:
    """Equation 14. history: sum of k k^T of earlier edits, by layer."""

    def solve(layer: int, K: Tensor, R: Tensor) -> Tensor:
        M = weight * moments[layer].double() + (0 if history is None else history[layer].double())
        return R.T @ K @ torch.linalg.inv(M + K.T @ K)

    return solve


def equality(moments: dict[int, Tensor], weight: float, gram_ridge: float) -> Solve:
    """EMMET's closed form, with the ridge of the authors' code."""

    def solve(layer: int, K: Tensor, R: Tensor) -> Tensor:
        C_inv = torch.linalg.inv(weight * moments[layer].double())
        gram = K @ C_inv @ K.T + gram_ridge * torch.eye(len(K), dtype=torch.float64)
        return R.T @ torch.linalg.inv(gram) @ K @ C_inv

    return solve


def null_space(
    moments: dict[int, Tensor], threshold: float, l2: float, history: dict[int, Tensor] | None = None
) -> Solve:
    """AlphaEdit's closed form, with the projector and the non-symmetric matrix of the authors' code."""

    def solve(layer: int, K: Tensor, R: Tensor) -> Tensor:
        U, S, _ = torch.linalg.svd(moments[layer].double())
        P = U[:, threshold > S] @ U[:, threshold > S].T
        H = torch.zeros_like(P) if history is None else history[layer].double()
        return R.T @ K @ P @ torch.linalg.inv((K.T @ K + H) @ P + l2 * torch.eye(len(P), dtype=torch.float64))

    return solve


def memit(
    plain: Plain,
    layers: Sequence[int],
    facts: Sequence[Fact],
    prefixes: Sequence[str],
    settings: Settings,
    transposed: bool,
    solve: Solve,
) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """Dense updates (d_out, d_in) and keys K (n, d_in) by layer. prefixes: sampled texts before every prompt."""
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
        K = torch.stack([key(edited, layer, fact, contexts) for fact, contexts in zip(facts, texts, strict=True)])
        now = [
            edited.input_and_output(edited.layers[layers[-1]], f.prompt, edited.last_token(f.prompt, f.subject))[1]
            for f in facts
        ]
        R = (torch.stack(Z) - torch.stack(now)) / (len(layers) - done)
        D = solve(layer, K.double(), R.double()).to(K.dtype)
        with torch.no_grad():
            down.weight.add_(D.T if transposed else D)
        updates[layer], keys[layer] = D, K
    return updates, keys


def key(plain: Plain, layer: int, fact: Fact, contexts: Sequence[str]) -> Tensor:
    """The bare prompt's key and the mean over the prefixed ones, half and half."""
    found = [
        plain.input_and_output(plain.down(layer), text, plain.last_token(text, fact.subject))[0] for text in contexts
    ]
    return (found[0] + torch.stack(found[1:]).mean(0)) / 2 if len(found) > 1 else found[0]
