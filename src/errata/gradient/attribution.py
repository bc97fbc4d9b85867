"""Which inner neurons of an MLP an answer rests on: integrated gradients of its probability.

    IG_i = a_i / m sum over j = 1..m of d p / d a_i, where the activations are j / m a

(Dai et al., arXiv 2104.08696, eqs. 1 to 3). Only one position's activations are scaled, so only what lies above
and to the right of it is run again, and all steps make one batch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad as filled

from errata.keyvalue.keys import Row
from errata.keyvalue.replay import record
from errata.keyvalue.targets import at_down
from errata.model import hooks
from errata.model.editable import EditableModel
from errata.model.scoring import reading
from errata.model.tokens import pad

ROWS_AT_ONCE = 128


def attributions(
    model: EditableModel, texts: Sequence[Sequence[int]], answers: Tensor, layer: int, steps: int
) -> Tensor:
    """Of the layer's inner neurons at the last token of each text, for the next token's probability: (n, d_in).

    texts: token ids. answers: (n,) the tokens whose probabilities are attributed. steps: m.
    """
    replay = record(model, layer, [Row(tuple(ids), len(ids) - 1, len(ids)) for ids in texts])
    W, A = hooks.widened(model.weight(model.site(layer))), replay.keys
    # The down projection is linear: scaled activations are an offset of its output, and gradients come back through W.
    missing = (torch.arange(1, steps + 1, dtype=torch.float64) / steps - 1).to(A)
    gradients = torch.zeros_like(replay.values)
    for slots in torch.arange(len(texts) * steps, device=A.device).split(ROWS_AT_ONCE):
        rows, step = slots // steps, slots % steps
        part = replay.select(rows)
        offsets = (missing[step][:, None] * (A[rows] @ W.T)).requires_grad_()
        logits = hooks.widened(part.logits(at_down(part, offsets), torch.tensor([0], device=A.device))[:, 0])
        gradients.index_add_(0, rows, _gradient(logits, answers[rows.cpu()], offsets))
    return A * (gradients @ W) / steps


def attributions_before(
    model: EditableModel, texts: Sequence[Sequence[int]], answers: Tensor, layer: int, steps: int
) -> Tensor:
    """As `attributions`, but as the public code for decoders computes them: (n, d_in).

    The activations are those before the nonlinearity, of the gate where there is one, and the steps are evenly
    spaced from 0 to 1 inclusive, so that a single one stands at 0.
    """
    path, width = f"{model.arch.layers}.{layer}.{model.arch.up[0]}", model.weight(model.site(layer)).shape[1]
    batch = pad(texts, model.pad_id).to(model.device)
    ends, module = batch.lengths - 1, model.layer(layer).get_submodule(model.arch.up[0])
    found = model.outputs_at(batch, [path], ends)[path]
    # Some families have gate and up projection in one matrix, the gate first.
    A, rest = found[:, :width], found.shape[1] - width
    gradients = torch.zeros_like(A)
    for scale in torch.linspace(0, 1, steps).tolist():
        offsets = ((scale - 1) * A).requires_grad_()
        with model.shifted(module, ends, filled(offsets, (0, rest))), hooks.hooked([reading(model, ends[:, None])]):
            logits = hooks.widened(model.forward(batch)[:, 0])
        gradients += _gradient(logits, answers, offsets)
    return A * gradients / steps


def _gradient(logits: Tensor, answers: Tensor, offsets: Tensor) -> Tensor:
    """Of the answers' probabilities (n,) with respect to what was added, as its shape. logits: (n, vocab)."""
    p = logits.softmax(-1).gather(-1, answers.to(logits.device)[:, None])
    (gradient,) = torch.autograd.grad(p.sum(), offsets)
    return gradient
