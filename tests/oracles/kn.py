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


def scores(plain: Plain, prompt: str, answer: str, layers: int, steps: int) -> Tensor:
    """(layers, d_in), the mean over the answer's tokens, each after those before it."""
    ids, start = plain.split(prompt, answer)
    return torch.stack(
        [
            torch.stack([attribution(plain, ids[:end], ids[end], layer, steps) for end in range(start, len(ids))]).mean(
                0
            )
            for layer in range(layers)
        ]
    )


def neurons(found: Sequence[Tensor], threshold: float, share: float) -> set[tuple[int, int]]:
    """(layer, neuron) that exceed the threshold in more than that share of the prompts."""
    counts: Counter[tuple[int, int]] = Counter()
    for prompt in found:
        largest = float(prompt.max())
        for layer in range(prompt.shape[0]):
            for neuron in range(prompt.shape[1]):
                counts[layer, neuron] += bool(prompt[layer, neuron] > threshold * largest)
    return {place for place, count in counts.items() if count > share * len(found)}
