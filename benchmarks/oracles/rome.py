"""ROME and R-ROME, literally from the paper: one text at a time, plain hooks, torch's Adam, an explicit inverse.

Frozen: a copy of `tests/oracles` as it stood before the work on speed, so that ratios stay comparable.
"""

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class Fact:
    """prompt ends where target begins; subject is in the prompt."""

    prompt: str
    subject: str
    target: str


@dataclass
class Settings:
    steps: int
    lr: float
    weight_decay: float
    clamp: float
    kl: float
    loss_stop: float


class Plain:
    """A Hugging Face model and the paths that the equations speak of."""

    def __init__(self, model: Any, tokenizer: Any, layers: str, down: str) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.layers = model.get_submodule(layers)
        self.down_path = down

    def down(self, layer: int) -> nn.Module:
        return self.layers[layer].get_submodule(self.down_path)

    def ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text)["input_ids"])

    def split(self, prompt: str, target: str) -> tuple[list[int], int]:
        whole, alone = self.ids(f"{prompt} {target}"), self.ids(prompt)
        assert whole[: len(alone)] == alone
        return whole, len(alone)

    def last_token(self, text: str, subject: str) -> int:
        end = text.rindex(subject) + len(subject)
        spans = self.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        return max(i for i, (a, b) in enumerate(spans) if a < end and b > text.rindex(subject))

    def logits(self, ids: Sequence[int]) -> Tensor:
        return self.model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0]

    def input_and_output(self, module: nn.Module, text: str, position: int) -> tuple[Tensor, Tensor]:
        """Of a module, at one position of a text."""
        args, output = self._seen(module, text)
        return _at(args[0], position), _at(output, position)

    def output(self, module: nn.Module, text: str, position: int) -> Tensor:
        """The same of a module that takes its input by name."""
        return _at(self._seen(module, text)[1], position)

    def _seen(self, module: nn.Module, text: str) -> tuple[Any, Any]:
        seen: list[tuple[Any, Any]] = []
        handle = module.register_forward_hook(lambda _, args, output: seen.append((args, output)))
        with torch.no_grad():
            self.logits(self.ids(text))
        handle.remove()
        return seen[0]

    @contextmanager
    def adding(self, module: nn.Module, position: int, delta: Tensor) -> Any:
        def add(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            tensor = output[0] if isinstance(output, tuple) else output
            rows = tensor.reshape(-1, tensor.shape[-1])
            rows = torch.cat([rows[:position], (rows[position] + delta)[None], rows[position + 1 :]])
            rows = rows.reshape(tensor.shape)
            return (rows, *output[1:]) if isinstance(output, tuple) else rows

        handle = module.register_forward_hook(add)
        try:
            yield
        finally:
            handle.remove()


def _at(output: Any, position: int) -> Tensor:
    """One position of what a module puts out for one text: a tensor, or a tuple that begins with it."""
    tensor: Tensor = output[0] if isinstance(output, tuple) else output
    return tensor.reshape(-1, tensor.shape[-1])[position]


def find_offset(
    plain: Plain, module: nn.Module, fact: Fact, contexts: Sequence[str], origin: Tensor, settings: Settings
) -> tuple[Tensor, float, int]:
    """Equation 4, as the released code minimises it. Returns delta, its loss, and the steps taken."""
    essence = f"{fact.subject} is a"
    delta = torch.zeros_like(origin, requires_grad=True)
    adam = torch.optim.Adam([delta], lr=settings.lr)
    before: Tensor | None = None
    for step in range(settings.steps):
        losses = []
        for text in contexts:
            ids, start = plain.split(text, fact.target)
            with plain.adding(module, plain.last_token(text, fact.subject), delta):
                logp = plain.logits(ids).log_softmax(-1)
            losses.append(-torch.stack([logp[i - 1, ids[i]] for i in range(start, len(ids))]).mean())
        place = plain.last_token(essence, fact.subject)
        with plain.adding(module, place, delta):
            now = plain.logits(plain.ids(essence))[place].log_softmax(-1)
        before = now.detach() if before is None else before
        kl = torch.nn.functional.kl_div(now[None], before[None], log_target=True, reduction="batchmean")
        decay = settings.weight_decay * torch.norm(delta) / torch.norm(origin) ** 2
        loss = torch.stack(losses).mean() + settings.kl * kl + decay
        if loss < settings.loss_stop or step == settings.steps - 1:
            break
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            longest = settings.clamp * origin.norm()
            if delta.norm() > longest:
                delta.mul_(longest / delta.norm())
    return delta.detach(), float(loss.detach()), step


def rome(
    plain: Plain,
    layer: int,
    fact: Fact,
    contexts: Sequence[str],
    C: Tensor | None,
    settings: Settings,
    one_key: bool = False,
) -> tuple[Tensor, float, int]:
    """The dense update (d_out, d_in). contexts: texts, the bare prompt first. one_key: R-ROME."""
    down = plain.down(layer)
    read: Callable[[str], tuple[Tensor, Tensor]] = lambda text: plain.input_and_output(  # noqa: E731
        down, text, plain.last_token(text, fact.subject)
    )
    pairs = [read(text) for text in contexts]
    mean_key = torch.stack([k for k, _ in pairs]).mean(0)
    mean_out = torch.stack([v for _, v in pairs]).mean(0)
    v0 = pairs[0][1]
    delta, loss, steps = find_offset(plain, down, fact, contexts, v0, settings)
    u = mean_key if C is None else torch.linalg.inv(C.double()).to(mean_key) @ mean_key
    u = u / u.norm()
    k, old = (mean_key, mean_out) if one_key else pairs[0]
    return torch.outer(v0 + delta - old, u) / (k @ u), loss, steps
