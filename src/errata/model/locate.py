"""Causal tracing: which layers hold the facts of a model.

Noise on the embeddings of the subject makes the model forget the answer. One thing is then restored to
what it was without noise, at the subject's last token and one layer at a time: the residual stream after
the layer, or the output of its MLP. How much of the answer's probability comes back is the layer's
indirect effect (Meng et al. 2022, arXiv 2202.05262, section 2). Edits go where the MLPs' effect peaks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from errata.errors import BadInput
from errata.model import hooks
from errata.model.editable import EditableModel
from errata.model.tokens import TokenBatch, encode_target, pad, subject_tokens
from errata.types import EditCase, Progress

KINDS = ("mlp", "hidden")


@dataclass(frozen=True)
class LayerEffect:
    """Mean indirect effect of a layer over the cases, with its 95 % interval.

    kind: "mlp" or "hidden". effect, low, high: in probability of the answer.
    """

    layer: int
    kind: str
    effect: float
    low: float
    high: float


@dataclass(frozen=True)
class Trace:
    """What tracing found. cases: how many answers the model knew; only those are traced. skipped: the others.

    clean, corrupted: mean probability of the answer without noise and with it.
    """

    model: str
    cases: int
    skipped: int
    clean: float
    corrupted: float
    effects: tuple[LayerEffect, ...]

    def peak(self, kind: str = "mlp") -> int:
        """The layer with the largest mean effect."""
        return max((e for e in self.effects if e.kind == kind), key=lambda e: e.effect).layer


@dataclass(frozen=True)
class _Known:
    """A prompt whose answer the model gives. ids end before the answer's last token.

    start: index of the answer's first token. subject: indices of the subject's tokens.
    """

    ids: list[int]
    answer: list[int]
    start: int
    subject: list[int]


@torch.no_grad()
def trace(
    model: EditableModel,
    cases: Sequence[EditCase],
    samples: int = 8,
    noise: float = 3.0,
    window: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Trace:
    """Indirect effects of all layers over the cases whose `target_true` the model knows.

    samples: draws of noise for each case. noise: its standard deviation in those of the subjects'
    embeddings. window: how many neighbouring MLPs are restored together, a fifth of them by default
    (as 10 of GPT-2 XL's 48). BadInput if the model knows none of the answers.
    """
    laid = [known for case in cases if (known := _known(model, case)) is not None]
    if not laid:
        raise BadInput(
            f"{model.name} knows none of the {len(cases)} answers (target_true), so there is nothing to trace; "
            "give facts that it knows: --data FILE"
        )
    generator = torch.Generator().manual_seed(seed)
    spread = noise * _deviation(model, laid)
    width = window if window is not None else max(1, round(model.n_layers / 5))
    tables = []
    for done, known in enumerate(laid, 1):
        drawn = spread * torch.randn(samples, len(known.subject), _width(model), generator=generator)
        tables.append(
            torch.stack([_restored(model, known, drawn, kind, w) for kind, w in (("mlp", width), ("hidden", 1))])
        )
        if progress is not None:
            progress("tracing", done, len(laid))
    found = torch.stack(tables)  # (cases, kinds, 2 + layers): clean, corrupted, each layer
    effects = found[:, :, 2:] - found[:, :, 1:2]
    return Trace(
        model.name,
        len(laid),
        len(cases) - len(laid),
        float(found[:, 0, 0].mean()),
        float(found[:, 0, 1].mean()),
        tuple(_effect(effects[:, k, layer], layer, KINDS[k]) for k in range(2) for layer in range(model.n_layers)),
    )


def _known(model: EditableModel, case: EditCase) -> _Known | None:
    """The case laid out, or None if it has no true answer or the model does not give it."""
    request = case.request
    if request.target_true is None:
        return None
    ids, start = encode_target(model.tokenizer, request.prompt, request.target_true)
    subject = subject_tokens(model.tokenizer, request.prompt, request.subject)
    best = model.logits(pad([ids[:-1]], model.pad_id))[0].argmax(-1).tolist()
    return _Known(ids[:-1], ids[start:], start, subject) if best[start - 1 :] == ids[start:] else None


def _deviation(model: EditableModel, laid: Sequence[_Known]) -> float:
    """Standard deviation of the embeddings of all subjects' tokens."""
    tokens = torch.tensor([known.ids[place] for known in laid for place in known.subject], device=model.device)
    return float(_embedding(model)(tokens).float().std())


def _restored(model: EditableModel, known: _Known, drawn: Tensor, kind: str, window: int) -> Tensor:
    """Probability of the answer: clean, corrupted, and with each layer restored. (2 + layers,), means over noise.

    All of it is one batch: the first row is clean, then samples rows without restoring, then samples
    rows for each layer. drawn: (samples, subject tokens, d) noise.
    """
    samples, layers = len(drawn), model.n_layers
    batch = pad([known.ids] * (1 + samples * (1 + layers)), model.pad_id).to(model.device)
    owner = torch.arange(-1, layers).repeat_interleave(samples)
    modules = [model.mlp(i) if kind == "mlp" else model.layer(i) for i in range(layers)]
    handles = [_embedding(model).register_forward_hook(_noise(known.subject, drawn.repeat(1 + layers, 1, 1)))]
    for layer, module in enumerate(modules):
        near = (owner >= 0) & (owner - (window - 1) // 2 <= layer) & (layer <= owner + window // 2)
        rows = 1 + near.nonzero()[:, 0]
        handles.append(module.register_forward_hook(_restore(rows, known.subject[-1], len(batch.ids))))
    with hooks.hooked(handles):
        scores = _probability(model, batch, known)
    return torch.cat([scores[:1], scores[1:].reshape(1 + layers, samples).mean(1)])


def _noise(subject: Sequence[int], drawn: Tensor) -> Callable[..., Tensor]:
    """A hook that adds noise to the subject's embeddings in all rows but the first."""

    def add(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        noisy = output.clone()
        noisy[1:, subject] += drawn.to(output)
        return noisy

    return add


def _restore(rows: Tensor, place: int, n: int) -> Callable[..., Any]:
    """A hook that gives some of n rows the first row's output at one position."""

    def put(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        tensor = hooks.main(output)
        changed = tensor.reshape(n, -1, tensor.shape[-1]).clone()
        changed[rows.to(changed.device), place] = changed[0, place]
        return hooks.with_main(output, changed.reshape(tensor.shape))

    return put


def _probability(model: EditableModel, batch: TokenBatch, known: _Known) -> Tensor:
    """(n,) probability of the whole answer, on the CPU."""
    logp = model.forward(batch)[:, known.start - 1 :].float().log_softmax(-1)
    answer = torch.tensor(known.answer, device=logp.device).expand(len(logp), -1)
    return logp.gather(2, answer[..., None])[..., 0].sum(1).exp().cpu()


def _effect(values: Tensor, layer: int, kind: str) -> LayerEffect:
    """Mean over cases and its interval. values: (cases,)."""
    mean = float(values.mean())
    error = 1.96 * float(values.std()) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return LayerEffect(layer, kind, mean, mean - error, mean + error)


def _embedding(model: EditableModel) -> nn.Module:
    module: nn.Module = model.model.get_submodule(model.arch.embedding)
    return module


def _width(model: EditableModel) -> int:
    weight = _embedding(model).weight
    assert isinstance(weight, Tensor)
    return weight.shape[1]
