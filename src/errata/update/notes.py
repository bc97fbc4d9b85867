"""IKE's memory: facts that are put in front of the prompts they bear on.

Paper: Zheng, Li, Dong, Fan, Wu, Xu, Chang, "Can We Edit Factual Knowledge by In-Context Learning?", EMNLP 2023
(arXiv 2305.12740), section 3. Public code looks demonstrations up by the edit that is being tested, which
assumes an oracle. Here the retriever sees the prompt alone, and a prompt that is near to no fact is run as it
is. Demonstrations are other facts of the memory; a request brings no paraphrase, so they are of two of the
paper's three kinds: copy (the fact itself) and retain (an unrelated prompt keeps its answer). The word
"Prompt:" is left out, so that a prompt's own tokens follow a line break whatever the tokenizer.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn.functional import normalize

from errata.errors import BadInput
from errata.model.editable import EditableModel
from errata.model.routing import Routed
from errata.model.tokens import Tokens
from errata.update.patch import Patch, same_settings
from errata.update.texts import pooled, preceded, replaced, sentence

NEW = "New fact: "
Encoder = Callable[[list[str]], Tensor]


@dataclass(frozen=True)
class Retriever:
    """How texts are compared: by the cosine of their embeddings, less the mean one of the model's own text.

    layer: whose stream is averaged over tokens. encoder: name of a sentence-transformers model instead.
    threshold: cosine from which a fact bears on a prompt. demonstrations: how many go before the fact.
    """

    layer: int
    threshold: float
    demonstrations: int = 0
    encoder: str | None = None

    def embed(self, model: EditableModel, rows: Sequence[Tokens]) -> Tensor:
        """(n, d) embeddings of token rows, float32 at least, on the model's device."""
        if self.encoder is not None:
            texts = [str(model.tokenizer.decode(list(row), skip_special_tokens=True)) for row in rows]
            return self._encode(texts).to(model.device)
        return pooled(model, rows, self.layer)

    @cached_property
    def _encode(self) -> Encoder:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError:
            raise BadInput(
                f"the option encoder {self.encoder!r} needs sentence-transformers: pip install 'errata[encoder]'. "
                "Without the option the model's own hidden states are compared."
            ) from None
        loaded = SentenceTransformer(self.encoder)
        return lambda texts: torch.as_tensor(loaded.encode(texts, convert_to_tensor=True)).float()


@dataclass(frozen=True)
class Notes(Patch):
    """One fact for each request. A later fact on the same prompt takes the place of an earlier one.

    retriever: shared by all. center: (d,) mean embedding of unrelated text. embeddings: (n, d) of the prompts.
    facts: (prompt, new answer, true answer or None) of each.
    """

    kind: ClassVar[str] = "ike"

    retriever: Retriever
    center: Tensor
    embeddings: Tensor
    facts: tuple[tuple[str, str, str | None], ...]

    def __len__(self) -> int:
        return len(self.facts)

    def joined(self, later: Self) -> Self:
        same_settings(self.kind, asdict(self.retriever), asdict(later.retriever))
        return replace(self, embeddings=torch.cat([self.embeddings, later.embeddings]), facts=self.facts + later.facts)

    def tensors(self) -> dict[str, Tensor]:
        return {"center": self.center, "embeddings": self.embeddings}

    def meta(self) -> dict[str, Any]:
        return {"retriever": asdict(self.retriever), "facts": [list(fact) for fact in self.facts]}

    @classmethod
    def from_parts(cls, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Self:
        facts = tuple((prompt, target, true) for prompt, target, true in meta["facts"])
        return cls(Retriever(**meta["retriever"]), tensors["center"], tensors["embeddings"], facts)

    # Routing

    @property
    def routes(self) -> bool:
        return True

    def similarities(self, model: EditableModel, prompts: Sequence[Tokens]) -> Tensor:
        """(p, n) cosines of prompts and facts; -inf for facts that a later one replaces."""
        queries = normalize(self.retriever.embed(model, prompts) - self.center)
        found: Tensor = queries @ normalize(self.embeddings - self.center).T
        return found.masked_fill(replaced([prompt for prompt, _, _ in self.facts]).to(found.device), -torch.inf)

    def route(self, model: EditableModel, prompts: Sequence[Tokens], spare: Sequence[int]) -> list[Routed]:
        """Prompts with the nearest fact before them, if it is near enough and the model has room for both."""
        if not (self.facts and prompts):
            return super().route(model, prompts, spare)
        asked = list(dict.fromkeys(prompts))
        near = dict(zip(asked, self.similarities(model, asked).cpu(), strict=True))
        rows = zip(prompts, spare, strict=True)
        return [Routed(model, self._routed(model, prompt, room, near[prompt])) for prompt, room in rows]

    def _routed(self, model: EditableModel, prompt: Tokens, spare: int, near: Tensor) -> Tokens:
        """A prompt with what goes before it. near: (n,) its cosines."""
        if float(near.max()) < self.retriever.threshold:
            return prompt
        order = [index for index in near.argsort(descending=True).tolist() if near[index] > -torch.inf]
        ids = preceded(model.tokenizer, self.context(order), prompt)
        return ids if len(ids) + spare <= model.context else prompt

    def context(self, order: Sequence[int]) -> str:
        """What is put before a prompt. order: facts, the nearest first."""
        nearest, *others = order
        shown = others[: self.retriever.demonstrations]
        # The nearest demonstration stands last, next to the fact itself.
        asides = [self._demonstration(index, place, order) for place, index in reversed(list(enumerate(shown)))]
        return "".join(asides) + NEW + self._said(nearest)

    def _demonstration(self, index: int, place: int, order: Sequence[int]) -> str:
        """A fact with a question that it answers, or every second time with one that it has nothing to do with."""
        others = [self.facts[i] for i in reversed(order) if i != index]
        unrelated = [(prompt, true) for prompt, _, true in others if true is not None]
        if place % 2 and unrelated:
            return NEW + self._said(index) + sentence(*unrelated[0]) + "\n"
        return NEW + self._said(index) * 2 + "\n"

    def _said(self, index: int) -> str:
        prompt, target, _ = self.facts[index]
        return sentence(prompt, target)
