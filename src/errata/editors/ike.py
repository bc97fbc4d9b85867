"""IKE: facts are put in front of the prompts they bear on; no weight changes.

Papers: Zheng et al., "Can We Edit Factual Knowledge by In-Context Learning?", EMNLP 2023 (arXiv 2305.12740).
Departures, each because the released setting assumes what an edited model cannot know: the fact is looked up by
the user's prompt and not by the edit that is tested; a prompt that is near to no fact is left alone; the
sentences are compared by the model's own hidden states, so that nothing else is needed, unless `encoder` names a
sentence-transformers model. See `errata.update.notes` for the context. A reference line more than a method: what
it costs is a longer prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from errata.artifacts.store import Artifacts, Need
from errata.editors.base import EditResult, Progress, State
from errata.errors import BadInput
from errata.keyvalue.contexts import contexts, even, groups
from errata.model.editable import EditableModel
from errata.model.tokens import encode, own_words
from errata.types import EditRequest
from errata.update.notes import Notes, Retriever


@dataclass(frozen=True)
class Ike:
    """Options of IKE.

    layer: whose stream, averaged over tokens, stands for a text. threshold: cosine of prompt and fact from which
    the fact is used. demonstrations: how many other facts are shown first, as examples. encoder: a
    sentence-transformers model that compares texts in place of the layer. contexts: (length, count) of sampled
    texts, whose mean embedding is the origin. seed: of these.
    """

    name: ClassVar[str] = "ike"
    paper: ClassVar[str] = "Zheng et al. 2023, arXiv 2305.12740"
    batch: ClassVar[bool] = True
    family: ClassVar[str] = "in-context"
    beforehand: ClassVar[str] = ""
    writes: ClassVar[str] = "notes that are put before a prompt"
    mergeable: ClassVar[bool] = False

    layer: int
    threshold: float = 0.8
    demonstrations: int = 0
    encoder: str | None = None
    contexts: Sequence[Sequence[int]] = ((10, 20),)
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "contexts", groups(self.contexts))
        if not -1 <= self.threshold <= 1 or self.demonstrations < 0:
            raise BadInput(
                f"ike: threshold {self.threshold} must be a cosine, -1 to 1, and demonstrations "
                f"{self.demonstrations} at least 0."
            )

    def needs(self, model: EditableModel) -> tuple[Need, ...]:
        """Nothing."""
        return ()

    def edit(
        self,
        model: EditableModel,
        requests: Sequence[EditRequest],
        state: State,
        artifacts: Artifacts,
        progress: Progress | None = None,
    ) -> EditResult:
        """One fact for each request."""
        if not requests:
            raise BadInput("ike got no request; give at least one.")
        sizes = groups(self.contexts)
        texts = contexts(model, sizes, even(sizes), state, self.seed)
        retriever = Retriever(self.layer, self.threshold, self.demonstrations, self.encoder)
        prompts = [tuple(encode(model.tokenizer, request.prompt)) for request in requests]
        unrelated = texts.rows(model)
        embeddings = retriever.embed(model, prompts)
        center = retriever.embed(model, unrelated).mean(0) if unrelated else embeddings.new_zeros(embeddings.shape[1])
        facts = tuple((own_words(request.prompt), request.target_new, request.target_true) for request in requests)
        details = tuple(
            {
                "id": request.id,
                "loss": None,
                "steps": 0,
                "lookup": len(ids) - 1,
                "contexts": list(texts.prefixes),
            }
            for request, ids in zip(requests, prompts, strict=True)
        )
        return EditResult(Notes(retriever, center, embeddings, facts), {**state, **texts.state()}, details)
