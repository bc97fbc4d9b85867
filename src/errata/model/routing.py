"""Prompts that a memory sends elsewhere: with other tokens, or to another model; transformers' `generate` included."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import pad as filled

from errata.errors import BadInput
from errata.model.tokens import Tokens, pad_left

if TYPE_CHECKING:
    from errata.model.editable import EditableModel


@dataclass(frozen=True)
class Routed:
    """What is run in place of a prompt. model: which runs it, of the same tokenizer. ids: what it is given."""

    model: "EditableModel"
    ids: Tokens


def by_model(rows: Sequence[Routed]) -> dict["EditableModel", list[int]]:
    """For each model the indices of the rows that it runs."""
    found: dict[EditableModel, list[int]] = {}
    for index, row in enumerate(rows):
        found.setdefault(row.model, []).append(index)
    return found


class RoutedGenerate:
    """Stands in front of a model's `generate`, as transformers gives it, until it is removed."""

    def __init__(self, model: "EditableModel") -> None:
        self._model = model
        self._original = model.model.generate
        model.model.__dict__["generate"] = self

    def remove(self) -> None:
        del self._model.model.__dict__["generate"]

    def __call__(self, inputs: Tensor | None = None, *args: Any, **kwargs: Any) -> Any:
        """As `generate`: what it returns begins with the prompts as they were given.

        BadInput for a dict of outputs where several models answer.
        """
        ids = kwargs.pop("input_ids", inputs)
        if ids is None:
            return self._original(*args, **kwargs)
        mask = kwargs.pop("attention_mask", None)
        rows = [tuple(row[kept].tolist()) for row, kept in zip(ids, _kept(ids, mask), strict=True)]
        if "max_length" in kwargs and kwargs.get("max_new_tokens") is None:
            kwargs["max_new_tokens"] = kwargs.pop("max_length") - ids.shape[1]
        new = int(kwargs.get("max_new_tokens") or 0)
        routed = self._model.routed(rows, [new] * len(rows))
        members = by_model(routed)
        outputs, continuations = [], []
        for model, indices in members.items():
            batch = pad_left([routed[index].ids for index in indices], model.pad_id).to(ids.device)
            generate = self._original if model is self._model else model.model.generate
            ends = torch.full((len(indices),), batch.ids.shape[1] - 1, device=ids.device)
            with model.asked_at(ends):
                outputs.append(generate(batch.ids, *args, attention_mask=batch.mask, **kwargs))
            found = outputs[-1] if isinstance(outputs[-1], Tensor) else outputs[-1].sequences
            continuations.append(found[:, batch.ids.shape[1] :])
        sequences = _joined(ids, list(members.values()), continuations, self._model.pad_id)
        if all(isinstance(output, Tensor) for output in outputs):
            return sequences
        if len(outputs) > 1:
            raise BadInput("prompts that several models answer have no common dict of outputs; give them one by one.")
        outputs[0].sequences = sequences
        return outputs[0]


def _joined(ids: Tensor, members: Sequence[Sequence[int]], continuations: Sequence[Tensor], pad_id: int) -> Tensor:
    """The prompts (n, t) with what follows each, in their order; copies of a prompt stand together.

    members: which prompts each of the continuations (n_i * copies, t_i) belongs to.
    """
    copies = len(continuations[0]) // len(members[0])
    width = max(part.shape[1] for part in continuations)
    behind = torch.cat([filled(part, (0, width - part.shape[1]), value=pad_id) for part in continuations])
    places = torch.tensor([index for indices in members for index in indices], device=ids.device)
    order = places.repeat_interleave(copies).argsort(stable=True)
    return torch.cat([ids.repeat_interleave(copies, 0), behind[order]], 1)


def _kept(ids: Tensor, mask: Tensor | None) -> Tensor:
    return torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
