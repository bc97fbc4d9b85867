"""PMET, literally: two offsets found text by text, the second written layer by layer with an explicit inverse.

Frozen: a copy of `tests/oracles` as it stood before the work on speed, so that ratios stay comparable.
"""

import math
from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from benchmarks.oracles.memit import Solve
from benchmarks.oracles.rome import Fact, Plain, Settings


class Padded:
    """Texts as one batch, padded on the right, or on the left with places counted as if on the right (a fault)."""

    def __init__(self, plain: Plain, rows: Sequence[Sequence[int]], left: bool) -> None:
        self.plain, self.width, fill = plain, max(map(len, rows)), plain.tokenizer.eos_token_id
        self.ids, self.mask = [], []
        for row in rows:
            gap = self.width - len(row)
            self.ids.append([fill] * gap + list(row) if left else list(row) + [fill] * gap)
            self.mask.append([0] * gap + [1] * len(row) if left else [1] * len(row) + [0] * gap)

    def logits(self, index: int) -> Tensor:
        ids, mask = torch.tensor([self.ids[index]]), torch.tensor([self.mask[index]])
        return self.plain.model(input_ids=ids, attention_mask=mask, use_cache=False).logits[0]

    def seen(self, index: int, module: nn.Module, place: int, *, inputs: bool) -> Tensor:
        """What a module takes or gives in a row, at a column."""
        found: list[Tensor] = []

        def note(_: nn.Module, args: tuple[Tensor, ...], output: Tensor | tuple[Tensor, ...]) -> None:
            tensor = args[0] if inputs else output[0] if isinstance(output, tuple) else output
            found.append(tensor.reshape(-1, tensor.shape[-1])[place])

        handle = module.register_forward_hook(note)
        with torch.no_grad():
            self.logits(index)
        handle.remove()
        return found[0]


def pmet(
    plain: Plain,
    attention: str,
    layers: Sequence[int],
    facts: Sequence[Fact],
    prefixes: Sequence[str],
    settings: Settings,
    settled: tuple[float, float],
    transposed: bool,
    solve: Solve,
    apart: bool = False,
    left: bool = False,
) -> tuple[dict[int, Tensor], list[int]]:
    """Dense updates (d_out, d_in) by layer, and the steps of each search. attention: path within a layer.

    apart: targets are tokenised by themselves. left: see `Padded`.
    """
    edited = deepcopy(plain)
    texts = [[fact.prompt, *(f"{prefix}. {fact.prompt}" for prefix in prefixes)] for fact in facts]
    Z, steps = [], []
    for fact, contexts in zip(facts, texts, strict=True):
        z, step = find_target(plain, attention, layers[-1], fact, contexts, settings, settled, apart, left)
        Z.append(z)
        steps.append(step)
    updates = {}
    for done, layer in enumerate(layers):
        K = torch.stack([key(edited, layer, fact, contexts, left) for fact, contexts in zip(facts, texts, strict=True)])
        now = [
            edited.input_and_output(edited.down(layers[-1]), f.prompt, edited.last_token(f.prompt, f.subject))[1]
            for f in facts
        ]
        R = (torch.stack(Z) - torch.stack(now)) / math.sqrt(len(layers) - done)
        D = solve(layer, K.double(), R.double()).to(K.dtype)
        with torch.no_grad():
            edited.down(layer).weight.add_(D.T if transposed else D)
        updates[layer] = D
    return updates, steps


def key(plain: Plain, layer: int, fact: Fact, contexts: Sequence[str], left: bool) -> Tensor:
    """The bare prompt's key and the mean over the prefixed ones, half and half; the prompts alone are one batch."""
    batch = Padded(plain, [plain.ids(text) for text in contexts], left)
    found = [
        batch.seen(index, plain.down(layer), plain.last_token(text, fact.subject), inputs=True)
        for index, text in enumerate(contexts)
    ]
    return (found[0] + torch.stack(found[1:]).mean(0)) / 2 if len(found) > 1 else found[0]


def find_target(
    plain: Plain,
    attention: str,
    layer: int,
    fact: Fact,
    contexts: Sequence[str],
    settings: Settings,
    settled: tuple[float, float],
    apart: bool,
    left: bool,
) -> tuple[Tensor, int]:
    """What the layer's MLP should put out at the subject, and the steps it took to find."""
    attn, mlp = plain.layers[layer].get_submodule(attention), plain.down(layer)
    place, essence = plain.last_token(fact.prompt, fact.subject), f"{fact.subject} is a"
    rows, targets = [], []
    for text in contexts:
        ids, start = plain.split(text, fact.target)
        target = plain.ids(fact.target) if apart else ids[start:]
        rows.append([*ids[:start], *target[:-1]])
        targets.append((start, target))
    batch = Padded(plain, [*rows, plain.ids(essence)], left)
    attn_init, mlp_init = (batch.seen(0, module, place, inputs=False) for module in (attn, mlp))
    d_attn, d_mlp = (torch.zeros_like(mlp_init, requires_grad=True) for _ in range(2))
    adam = torch.optim.Adam([d_mlp, d_attn], lr=settings.lr)
    before, weight = None, 1.0
    for step in range(settings.steps):
        losses, met = [], True
        for index, text in enumerate(contexts):
            start, target = targets[index]
            at = plain.last_token(text, fact.subject)
            with plain.adding(attn, at, d_attn), plain.adding(mlp, at, d_mlp):
                logp = batch.logits(index).log_softmax(-1)[start - 1 :]
            losses.append(-torch.stack([logp[i, token] for i, token in enumerate(target)]).mean())
            met = met and all(int(logp[i].argmax()) == token for i, token in enumerate(target))
        at = plain.last_token(essence, fact.subject)
        with plain.adding(attn, at, d_attn), plain.adding(mlp, at, d_mlp):
            now = batch.logits(len(contexts))[at].log_softmax(-1)
        before = now.detach() if before is None else before
        kl = settings.kl * torch.nn.functional.kl_div(now[None], before[None], log_target=True, reduction="batchmean")
        shares = [d.norm() / (v0.norm() ** 2).clamp_min(1e-30) for d, v0 in ((d_mlp, mlp_init), (d_attn, attn_init))]
        decay = settings.weight_decay * (shares[0] + shares[1])
        loss = weight * torch.stack(losses).mean() + kl + decay
        if loss < settings.loss_stop:
            break
        weight = settled[0] if met else 1.0
        if met and kl <= settled[1]:
            break
        if step == settings.steps - 1:
            break
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            for delta, init in ((d_mlp, mlp_init), (d_attn, attn_init)):
                if delta.norm() > settings.clamp * init.norm():
                    delta.mul_(settings.clamp * init.norm() / delta.norm())
    return mlp_init + d_mlp.detach(), step
