"""Signs of damage show where there is damage, and only there."""

import json
import math

import pytest
import torch

from errata.errors import BadInput
from errata.model.generation import Generation
from errata.model.tiny import TEXTS, tiny_model
from errata.model.tokens import encode
from errata.probes import health
from errata.types import EditRequest
from errata.update.delta import LowRank, WeightDelta
from errata.update.session import EditSession


def edited(scale: float) -> EditSession:
    session = EditSession(tiny_model("llama"))
    site = session.model.site(1)
    d_out, d_in = session.model.weight(site).shape
    rng = torch.Generator().manual_seed(0)
    change = LowRank(torch.randn(d_out, 1, generator=rng), torch.randn(1, d_in, generator=rng) * scale)
    session.apply(WeightDelta({site: change}), [EditRequest("1", "France is", "France", "Lyon")], "test", {})
    return session


def test_perplexity_is_the_mean_over_all_tokens() -> None:
    model = tiny_model("llama")
    total, count = 0.0, 0
    for text in TEXTS:
        ids = encode(model.tokenizer, text)
        log_probs = model.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        total -= sum(float(log_probs[at - 1, ids[at]]) for at in range(1, len(ids)))
        count += len(ids) - 1
    assert health.perplexity(model, TEXTS) == pytest.approx(math.exp(total / count), rel=1e-5)


def test_perplexity_of_long_texts_and_of_none() -> None:
    model = tiny_model("gpt2")
    assert math.isfinite(health.perplexity(model, [TEXTS[0] * 30]))
    with pytest.raises(BadInput, match="perplexity"):
        health.perplexity(model, [""])


def test_norm_drift_grows_with_the_edit() -> None:
    assert health.norm_drift(EditSession(tiny_model("llama"))) == {}
    small, large = health.norm_drift(edited(0.01)), health.norm_drift(edited(3.0))
    (site,) = small
    assert small[site] == pytest.approx(1, abs=0.05) and large[site] > 5


def test_weight_change_against_every_weight() -> None:
    """One at a time: |dW|, and |dW / W| above each bound; where W is 0 any change is above, no change is not."""
    session = edited(0.05)
    ((site, base),) = session.base.items()
    base.view(-1)[0] = 0.0
    base.view(-1)[1] = session.model.weight(site).reshape(-1)[1] = 0.0
    pairs = list(zip(session.model.weight(site).flatten().tolist(), base.flatten().tolist(), strict=True))
    found = health.weight_change(session)
    assert found["manhattan"] == pytest.approx(math.fsum(abs(now - was) for now, was in pairs), rel=1e-5)
    for name, bound in (("moved_077", 0.077), ("moved_171", 0.171)):
        assert found[name] == sum(abs(now - was) > bound * abs(was) for now, was in pairs) / len(pairs)
    assert 0 < found["moved_171"] < found["moved_077"] < 1
    assert health.weight_change(EditSession(tiny_model("llama"))) == {}


def test_text_health_counts_each_fault_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    rows = [
        Generation("fine text", True, True),
        Generation("", True, False),
        Generation("ha ha ha ha ha ", False, True),
    ]
    monkeypatch.setattr(model, "generate_full", lambda *args, **kw: rows)
    assert health.text_health(model, ["a", "b", "c"]) == health.Text(1 / 3, 1 / 3, 1 / 3, 2 / 3)


def test_a_broken_model_gives_json_without_nan() -> None:
    session = edited(1.0)
    session.model.weight(session.model.site(0))[0, 0] = math.nan
    values = json.loads(json.dumps(health.health(session, TEXTS, ["The capital"]), allow_nan=False))
    assert values["perplexity"] is None and values["nonfinite_weights"] == 1 and values["nonfinite"] == 1.0
    assert values["norm_drift"][session.model.site(1)] > 1


def test_fixed_texts_are_fixed_and_serve_by_default() -> None:
    assert health.fixed_texts("gpt2") == health.fixed_texts("gpt2") and len(health.fixed_texts("gpt2")) == 50
    assert health.fixed_texts("atlas") == health.fixed_texts("atlas") != health.fixed_texts("gpt2")
    values = health.health(edited(0.01))
    assert values["perplexity"] > 1 and values["nonfinite_weights"] == 0
