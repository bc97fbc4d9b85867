"""FT, FT-L, FT-M and LoRA: the protocol on every family, the literal oracles, and what tells them apart."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from editors.conftest import REQUESTS
from errata.artifacts.store import Artifacts
from errata.conformance import check_editor, check_result, target_scores
from errata.editors.ft import FT
from errata.editors.ft_l import FTL
from errata.editors.ft_m import FTM
from errata.editors.lora import LoRA
from errata.errors import BadInput
from errata.model.architecture import ARCHITECTURES
from errata.model.editable import EditableModel
from errata.model.tokens import encode, encode_target, pad
from errata.testing import tiny_model
from errata.types import EditRequest
from errata.update.delta import LowRank
from errata.update.session import EditSession
from oracles.ft import fine_tune
from oracles.rome import Fact, Plain

FACTS = tuple(Fact(r.prompt, r.subject, r.target_new) for r in REQUESTS)
EDITORS: dict[str, Any] = {
    "ft": FT(1, lr=0.01),
    "ft_l": FTL(1, lr=0.01, limit=0.02),
    "ft_m": FTM(1, lr=0.01),
    "lora": LoRA(rank=4, lr=0.02, steps=12),
}


@pytest.mark.parametrize("editor", EDITORS.values(), ids=EDITORS)
@pytest.mark.parametrize("family", ARCHITECTURES)
def test_methods_conform(nothing: Artifacts, editor: Any, family: str) -> None:
    check_editor(editor, tiny_model(family, width=16), nothing, rank=getattr(editor, "rank", 1))


@pytest.mark.usefixtures("exact_norm")
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-4)])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("method", ["ft", "ft_l", "ft_m"])
def test_oracle(nothing: Artifacts, method: str, family: str, dtype: torch.dtype, tolerance: float, side: str) -> None:
    model = tiny_model(family, layers=3, width=16, dtype=dtype)
    model.tokenizer.padding_side = side
    editor = replace(EDITORS[method], steps=6, lr=2e-3, loss_stop=0.0, **({"limit": 5e-3} if method == "ft_l" else {}))
    result = editor.edit(model, REQUESTS, {}, nothing)
    plain = Plain(model.model, model.tokenizer, model.arch.layers, model.arch.down)
    limit = getattr(editor, "limit", None)
    expected, losses, steps = fine_tune(plain, 1, FACTS, 6, 2e-3, 0.0, bag=method != "ft_m", limit=limit)
    expected = expected.T if model.arch.transposed else expected
    found = result.update.dense(model.site(1))
    assert float((found - expected).norm()) <= tolerance * float(expected.norm())
    assert [detail["loss"] for detail in result.details] == pytest.approx(losses, rel=tolerance)
    assert {detail["steps"] for detail in result.details} == {steps}


def at_end(model: EditableModel, request: EditRequest) -> float:
    """Mean log probability of the target's tokens at the last prompt position."""
    ids, start = encode_target(model.tokenizer, request.prompt, request.target_new)
    return float(model.logits(pad([ids[:start]], model.pad_id))[0, -1].log_softmax(-1)[ids[start:]].mean())


def test_ft_learns_a_bag_of_tokens_and_ft_m_a_sequence(nothing: Artifacts) -> None:
    model = tiny_model("llama")
    request = replace(REQUESTS[0], target_new="Berlin on the Spree")
    bag = FT(1, lr=0.02).edit(model, [request], {}, nothing)
    sequence = FTM(1, lr=0.02).edit(model, [request], {}, nothing)
    assert len(encode(model.tokenizer, request.target_new)) > 3
    with model.overlay(bag.update):
        assert -at_end(model, request) == pytest.approx(bag.details[0]["loss"], abs=1e-4)
        scores = [target_scores(model, [request])[0]]
    with model.overlay(sequence.update):
        scores += target_scores(model, [request])
        assert -scores[1] == pytest.approx(sequence.details[0]["loss"], abs=1e-4)
    assert scores[1] > scores[0] + 0.5


def test_ft_l_holds_every_weight_and_ft_does_not(nothing: Artifacts) -> None:
    model = tiny_model("gpt2")
    site = model.site(1)
    held = FTL(1, lr=0.01, limit=3e-3).edit(model, REQUESTS, {}, nothing).update.dense(site)
    free = FT(1, lr=0.01).edit(model, REQUESTS, {}, nothing).update.dense(site)
    assert float(held.abs().max()) == pytest.approx(3e-3) and float(free.abs().max()) > 0.02
    with pytest.raises(BadInput, match="limit"):
        FTL(1, limit=0.0)


def test_every_call_begins_adam_anew(nothing: Artifacts) -> None:
    model = tiny_model("llama")
    alone = FTM(1).edit(model, REQUESTS[1:], {}, nothing).update.dense(model.site(1))
    FTM(1).edit(model, REQUESTS[:1], {}, nothing)
    assert torch.equal(FTM(1).edit(model, REQUESTS[1:], {}, nothing).update.dense(model.site(1)), alone)


@pytest.mark.parametrize("editor", EDITORS.values(), ids=EDITORS)
def test_what_earlier_batches_remembered_is_handed_on(nothing: Artifacts, editor: Any) -> None:
    model, state = tiny_model("gpt2"), {"kept": torch.ones(2)}
    result = editor.edit(model, REQUESTS, state, nothing)
    assert result.state == state and result.state is not state


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_lora_adapts_queries_and_values_of_all_layers(nothing: Artifacts, family: str) -> None:
    model = tiny_model(family)
    update = replace(EDITORS["lora"], steps=2).edit(model, REQUESTS, {}, nothing).update
    layers = [f"{model.arch.layers}.{layer}." for layer in range(model.n_layers)]
    assert list(update.sites) == [layer + path for layer in layers for path in model.arch.query_value]
    for change in update.sites.values():
        assert isinstance(change, LowRank) and change.left.shape[1] == change.right.shape[0] == 4


def test_lora_names_a_layer_that_is_not_there() -> None:
    with pytest.raises(BadInput, match="no layer 7; choose from 0 to 1"):
        LoRA(layers=(0, 7)).sites(tiny_model("llama"))


def test_factors_wider_than_stated_are_noticed(nothing: Artifacts) -> None:
    model = tiny_model("llama")
    result = replace(EDITORS["lora"], steps=1).edit(model, REQUESTS, {}, nothing)
    check_result(result, model, REQUESTS, 4)
    with pytest.raises(AssertionError, match="rank 4"):
        check_result(result, model, REQUESTS, 3)


def test_lora_takes_other_maps_and_layers(nothing: Artifacts) -> None:
    model = tiny_model("gptj", layers=3)
    editor = LoRA(2, steps=5, lr=0.01, modules=["mlp.fc_in", "mlp.fc_out"], layers=[1, 2])
    before = target_scores(model, REQUESTS[:1])[0]
    update = editor.edit(model, REQUESTS[:1], {}, nothing).update
    assert list(update.sites) == [
        f"transformer.h.{layer}.mlp.{path}" for layer in (1, 2) for path in ("fc_in", "fc_out")
    ]
    with model.overlay(update):
        assert target_scores(model, REQUESTS[:1])[0] > before
    with pytest.raises(BadInput, match="no module"):
        replace(editor, modules=("mlp.down_proj",)).edit(model, REQUESTS[:1], {}, nothing)


@pytest.mark.parametrize("family", ["gpt2", "llama", "phi3"])
def test_lora_merges_exactly_and_is_undone(nothing: Artifacts, family: str) -> None:
    model = tiny_model(family)
    batch = pad([encode(model.tokenizer, REQUESTS[0].prompt)], model.pad_id)
    before, untouched = model.fingerprint(), model.logits(batch)
    update = EDITORS["lora"].edit(model, REQUESTS, {}, nothing).update
    with model.overlay(update):
        overlaid = model.logits(batch)
    session = EditSession(model)
    session.apply(update, REQUESTS)
    assert torch.allclose(model.logits(batch), overlaid, atol=1e-4)
    assert not torch.allclose(untouched, overlaid, atol=1e-2)
    session.undo()
    assert model.fingerprint() == before


def test_lora_begins_where_the_model_is_and_scales_by_alpha_over_rank(nothing: Artifacts) -> None:
    model = tiny_model("llama")
    still = replace(EDITORS["lora"], loss_stop=100.0).edit(model, REQUESTS, {}, nothing).update
    assert not any(still.dense(site).any() for site in still.sites)
    B, A = EDITORS["lora"].start(model)[:2]
    assert not B.any() and 0.8 < float(A.abs().max()) * A.shape[1] ** 0.5 <= 1
    assert not torch.equal(A, replace(EDITORS["lora"], seed=1).start(model)[1])
    # One step of Adam moves every entry of B by lr, whatever the gradient's size.
    one = LoRA(4, alpha=8.0, steps=1, lr=1e-3, loss_stop=0.0).edit(model, REQUESTS, {}, nothing).update
    left = one.sites["model.layers.0.self_attn.v_proj"].left  # type: ignore[union-attr]
    assert float(left.abs().max()) == pytest.approx(8 / 4 * 1e-3, rel=1e-3)


@pytest.mark.parametrize(
    ("wrong", "named"), [({"rank": 0}, "rank"), ({"alpha": 0.0}, "alpha"), ({"steps": 0}, "steps")]
)
def test_impossible_options_are_refused(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(BadInput, match=named):
        replace(EDITORS["lora"], **wrong)
