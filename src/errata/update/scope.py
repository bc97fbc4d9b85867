"""SERAC's memory: edits, and for prompts in the scope of one another model, which answers with the edit in front.

Paper: Mitchell, Lin, Bosselut, Manning, Finn, "Memory-Based Model Editing at Scale", ICML 2022 (arXiv 2206.06520),
section 3. The scope classifier compares embeddings, which are computed once for an edit; a prompt is answered by the
counterfactual model if the edit most like it is alike by more than 0.5, and by the edited model itself otherwise.
Departures: the encoder is the model's own stream, averaged over tokens, under a trained linear map onto a sphere,
where a long phrasing weighs no less than a short one; an edit is embedded by its prompt, which queries resemble,
without its answer. What was trained is shared by all edits of a session.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import PreTrainedModel

from errata.model.editable import EditableModel
from errata.model.portable import assembled
from errata.model.routing import Routed
from errata.model.tokens import Tokens
from errata.update.patch import Patch, Shared, same_settings
from errata.update.texts import pooled, preceded, replaced, sentence

IN_SCOPE = 0.5


def embedded(classifier: Mapping[str, Tensor], texts: Tensor) -> Tensor:
    """(n, k) embeddings of pooled texts (n, d).

    classifier: `center` (d,) and `deviation` (d,) of texts, `projection` (k, d), `scale` () of the sphere.
    """
    center, deviation, projection, scale = (
        classifier[name].to(texts) for name in ("center", "deviation", "projection", "scale")
    )
    return scale * normalize((texts - center) / deviation @ projection.T, dim=-1)


def squared_distances(queries: Tensor, entries: Tensor) -> Tensor:
    """(p, n) of embeddings (p, k) and (n, k); exp of minus them is the likeness."""
    lengths = queries.square().sum(-1, keepdim=True) + entries.square().sum(-1)
    return (lengths - 2 * queries @ entries.T).clamp_min(0)


@dataclass(frozen=True, eq=False)
class Trained(Shared):
    """What SERAC learned. tensors: of the classifier, see `embedded`, and of the counterfactual model as
    `errata.model.portable` has them.
    """

    @cached_property
    def counterfactual(self) -> PreTrainedModel:
        """The network that answers in scope."""
        return assembled(self.tensors)


@dataclass(frozen=True)
class Scope(Patch):
    """One entry for each request. A later edit of the same prompt takes the place of an earlier one.

    layer: whose stream is averaged. embeddings: (n, k). edits: n times (prompt, new answer).
    """

    kind: ClassVar[str] = "serac"

    layer: int
    embeddings: Tensor
    edits: tuple[tuple[str, str], ...]
    trained: Trained

    def __len__(self) -> int:
        return len(self.edits)

    def joined(self, later: Self) -> Self:
        same_settings(self.kind, self._settings, later._settings)
        return replace(self, embeddings=torch.cat([self.embeddings, later.embeddings]), edits=self.edits + later.edits)

    def tensors(self) -> dict[str, Tensor]:
        return {"embeddings": self.embeddings}

    def meta(self) -> dict[str, Any]:
        return {**self._settings, "edits": [list(edit) for edit in self.edits]}

    @classmethod
    def from_parts(cls, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Self:
        edits = tuple((prompt, target) for prompt, target in meta["edits"])
        common = {name: tensor for name, tensor in tensors.items() if name != "embeddings"}
        return cls(meta["layer"], tensors["embeddings"], edits, Trained(meta["trained"], common))

    @property
    def shared(self) -> Shared:
        return self.trained

    def sharing(self, shared: Shared) -> Self:
        assert isinstance(shared, Trained)
        return replace(self, trained=shared)

    @property
    def _settings(self) -> dict[str, Any]:
        """What entries must have in common."""
        return {"layer": self.layer, "trained": self.trained.digest}

    # Routing

    @property
    def routes(self) -> bool:
        return True

    def likeness(self, model: EditableModel, prompts: Sequence[Tokens]) -> Tensor:
        """(p, n) from 0 to 1, exp(-|e_q - e_i|^2); 0 for edits that a later one replaces."""
        queries = embedded(self.trained.tensors, pooled(model, prompts, self.layer))
        found = (-squared_distances(queries, self.embeddings)).exp()
        return found.masked_fill(replaced([prompt for prompt, _ in self.edits]).to(found.device), 0.0)

    def route(self, model: EditableModel, prompts: Sequence[Tokens], spare: Sequence[int]) -> list[Routed]:
        """Prompts in scope go, behind their edit, to the counterfactual model, if it has room for both."""
        rows = super().route(model, prompts, spare)
        if not (self.edits and prompts):
            return rows
        asked = list(dict.fromkeys(prompts))
        best, index = self.likeness(model, asked).max(-1)
        nearest = {
            prompt: place
            for prompt, place, likeness in zip(asked, index.tolist(), best.tolist(), strict=True)
            if likeness > IN_SCOPE
        }
        if not nearest:
            return rows
        network = self.trained.counterfactual
        nn.Module.to(network, model.device)
        other = EditableModel(network, model.tokenizer, f"the counterfactual model of {model.name}")
        return [self._answered(other, row, room, nearest.get(row.ids)) for row, room in zip(rows, spare, strict=True)]

    def _answered(self, other: EditableModel, row: Routed, spare: int, edit: int | None) -> Routed:
        """The row as the counterfactual model gets it; as it is without an edit, or without room for it."""
        if edit is None:
            return row
        ids = preceded(other.tokenizer, sentence(*self.edits[edit]), row.ids)
        return Routed(other, ids) if len(ids) + spare <= other.context else row
