"""Knowledge neurons, literally from the paper: a whole pass for each layer, step and token, neuron by neuron."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from oracles.rome import Plain


def attribution(plain: Plain, ids: Sequence[int], answer: int, layer: int, steps: int) -> Tensor:
    """Integrated gradients of p(answer) after these tokens, for the layer's inner neurons at the last of them."""
    down = plain.down(layer)
    seen: list[Tensor] = []
    handle = down.register_forward_pre_hook(lambda _, args: seen.append(args[0].reshape(-1, args[0].shape[-1])[-1]))
    with torch.no_grad():
        plain.logits(ids)
    handle.remove()
    activations = seen[0]
    total = torch.zeros_like(activations)
    for j in range(1, steps + 1):
        scaled = (activations * j / steps).requires_grad_()

        def put(_: Any, args: tuple[Any, ...], scaled: Tensor = scaled) -> tuple[Tensor]:
            rows = args[0].reshape(-1, args[0].shape[-1])
            return (torch.cat([rows[:-1], scaled[None]]).reshape(args[0].shape),)

        handle = down.register_forward_pre_hook(put)
        p = plain.logits(ids)[-1].softmax(-1)[answer]
        handle.remove()
        total += torch.autograd.grad(p, scaled)[0]
    return torch.stack([a * g / steps for a, g in zip(activations, total, strict=True)])


def attribution_before(plain: Plain, ids: Sequence[int], answer: int, layer: int, steps: int, up: str) -> Tensor:
    """As the public code for decoders has it: what the first map of the MLP puts out, scaled by 0 to 1 inclusive."""
    first = plain.layers[layer].get_submodule(up)
    seen: list[Tensor] = []
    handle = first.register_forward_hook(lambda _, args, output: seen.append(output.reshape(-1, output.shape[-1])[-1]))
    with torch.no_grad():
        plain.logits(ids)
    handle.remove()
    activations = seen[0]
    total = torch.zeros_like(activations)
    for j in range(steps):
        scaled = (activations * (j / (steps - 1) if steps > 1 else 0.0)).requires_grad_()

        def put(_: Any, args: tuple[Any, ...], output: Tensor, scaled: Tensor = scaled) -> Tensor:
            rows = output.reshape(-1, output.shape[-1])
            return torch.cat([rows[:-1], scaled[None]]).reshape(output.shape)

        handle = first.register_forward_hook(put)
        p = plain.logits(ids)[-1].softmax(-1)[answer]
        handle.remove()
        total += torch.autograd.grad(p, scaled)[0]
    return activations * total / steps


def guessed(plain: Plain, ids: Sequence[int], count: int) -> list[int]:
    """The ids with so many most probable tokens behind them."""
    row = list(ids)
    for _ in range(count):
        row.append(int(plain.logits(row)[-1].argmax()))
    return row


def scores(plain: Plain, ids: Sequence[int], answer: int, layers: int, steps: int) -> Tensor:
    """(layers, d_in) for one token of an answer, after these tokens."""
    return torch.stack([attribution(plain, ids, answer, layer, steps) for layer in range(layers)])


def neurons(found: Sequence[Tensor], threshold: float, share: float) -> set[tuple[int, int]]:
    """(layer, neuron) that exceed the threshold in more than that share of the prompts."""
    counts: Counter[tuple[int, int]] = Counter()
    for prompt in found:
        largest = float(prompt.max())
        for layer in range(prompt.shape[0]):
            for neuron in range(prompt.shape[1]):
                counts[layer, neuron] += bool(prompt[layer, neuron] > threshold * largest)
    return {place for place, count in counts.items() if count > share * len(found)}


def edited(
    plain: Plain, texts: Sequence[str], old: str, new: str, layers: int, steps: int, threshold: float, share: float
) -> list[tuple[int, int, set[tuple[int, int]]]]:
    """For each token of the new answer in turn: the token it replaces, itself, and the neurons of the one it replaces.

    The first replaces the old answer's first, each later one what is said after those before it.
    """
    ids, start = plain.split(texts[0], new)
    found = []
    for place in range(start, len(ids)):
        says = int(plain.logits(ids[:place])[-1].argmax())
        if says == ids[place]:
            continue
        first, given = plain.split(texts[0], old)
        token = first[given] if place == start else says
        prompts = [plain.ids(text) + ids[start:place] for text in texts]
        sought = neurons([scores(plain, row, token, layers, steps) for row in prompts], threshold, share)
        found.append((token, ids[place], sought))
    return found


def fires(plain: Plain, ids: Sequence[int], layer: int, neuron: int) -> float:
    """The neuron's activation at the last of the tokens."""
    seen: list[float] = []
    handle = plain.down(layer).register_forward_pre_hook(
        lambda _, args: seen.append(float(args[0].reshape(-1, args[0].shape[-1])[-1, neuron]))
    )
    with torch.no_grad():
        plain.logits(ids)
    handle.remove()
    return seen[0]
