"""Cheap signs of damage: perplexity on fixed text, growth of the edited matrices, degenerate and non-finite output."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from itertools import islice
from typing import Any

import torch

from errata.errors import BadInput
from errata.model.editable import EditableModel
from errata.model.scoring import Row, tail_log_probs, target_log_prob
from errata.model.tokens import encode
from errata.stats.texts import is_looping
from errata.update.session import EditSession

NEW_TOKENS = 32
OPENING = 4
MOVED = (0.077, 0.171)
"""Bounds of a relative change: what 20 % and 10 % of the weights exceeded after one edit, in paper 2."""


@dataclass(frozen=True)
class Text:
    """Shares of continuations that are `empty`, `looping` or `nonfinite`; `degenerate` is any of the three."""

    empty: float
    looping: float
    nonfinite: float
    degenerate: float


def health(
    session: EditSession, texts: Sequence[str] | None = None, prompts: Sequence[str] | None = None
) -> dict[str, Any]:
    """All signs as JSON-able values, a number that is not finite as None.

    texts: natural text for perplexity, by default `fixed_texts`. prompts: for free continuation, by default
    the first words of 16 of the texts.
    """
    texts = fixed_texts(session.origin) if texts is None else texts
    prompts = [" ".join(text.split()[:OPENING]) for text in texts[:16]] if prompts is None else prompts
    values = {
        "perplexity": perplexity(session.model, texts),
        "nonfinite_weights": nonfinite_weights(session.model),
        **asdict(text_health(session.model, prompts)),
    }
    drift = {site: _number(value) for site, value in norm_drift(session).items()}
    values |= weight_change(session)
    return {name: _number(value) for name, value in values.items()} | {"norm_drift": drift}


def fixed_texts(model: str) -> list[str]:
    """Fifty plain English sentences; for an embedded model, documents of its world that it was not trained on."""
    if model == "atlas" or model.startswith("atlas-"):
        from errata.atlas.corpus import corpus_texts

        return list(islice(corpus_texts(seed=0), 32))
    return files("errata.probes").joinpath("sentences.txt").read_text("utf-8").splitlines()


def perplexity(model: EditableModel, texts: Sequence[str]) -> float:
    """exp of the mean negative log-probability of a token, over all texts; NaN if a logit was not finite.

    A text counts up to the model's context; its first token is the condition, not predicted.
    """
    encoded = [encode(model.tokenizer, text)[: model.context] for text in texts]
    encoded = [ids for ids in encoded if len(ids) > 1]
    if not encoded:
        raise BadInput("perplexity needs a text of at least two tokens; give some sentences of natural text")
    rows = [Row(tuple(ids[:-1]), len(ids) - 1) for ids in encoded]
    totals = {i: target_log_prob(log_probs, encoded[i][1:])[0] for i, log_probs in tail_log_probs(model, rows)}
    mean = math.fsum(totals[i] for i in range(len(rows))) / sum(row.scored for row in rows)
    return math.exp(-mean) if -mean < 700 else math.nan if math.isnan(mean) else math.inf


def norm_drift(session: EditSession) -> dict[str, float]:
    """Frobenius norm of each edited matrix over that of the unedited one; 1 is no growth."""
    return {
        site: float(torch.linalg.norm(session.model.weight(site).double()) / torch.linalg.norm(base.double()))
        for site, base in session.base.items()
    }


def weight_change(session: EditSession) -> dict[str, float]:
    """How far the edited matrices are from the unedited ones; {} where none is edited (arXiv 2401.04700, section 5).

    manhattan: sum of |dW|. moved_077, moved_171: shares of all their weights with |dW / W| above 0.077 and 0.171; where
    W is 0 any change is above.
    """
    if not session.base:
        return {}
    distance, size, above = 0.0, 0, Counter[float]()
    for site, base in session.base.items():
        moved = (session.model.weight(site) - base).abs()
        distance += float(moved.sum(dtype=torch.float64))
        size += moved.numel()
        above.update({bound: int((moved > bound * base.abs()).sum()) for bound in MOVED})
    return {"manhattan": distance, **{f"moved_{round(1000 * bound):03d}": above[bound] / size for bound in MOVED}}


def nonfinite_weights(model: EditableModel) -> int:
    """How many weights are NaN or infinite."""
    return sum(int((~weight.isfinite()).sum()) for weight in model.model.parameters())


def text_health(model: EditableModel, prompts: Sequence[str]) -> Text:
    """Continue each prompt freely for 32 tokens and count what is no text (REVIVE, "muting effect" of P1)."""
    if not prompts:
        raise BadInput("the health of text needs prompts to continue; give at least one")
    rows = model.generate_full(prompts, NEW_TOKENS, stop=())
    faults = [(not row.text.strip(), is_looping(row.text), not row.finite) for row in rows]
    empty, looping, nonfinite = (sum(column) / len(rows) for column in zip(*faults, strict=True))
    return Text(empty, looping, nonfinite, sum(map(any, faults)) / len(rows))


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
