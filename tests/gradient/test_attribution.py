"""Integrated gradients: complete, local, and as the literal loop has them."""

import pytest
import torch

from errata.gradient import attribution
from errata.gradient.attribution import attributions, attributions_before
from errata.model import hooks
from errata.model.architecture import ARCHITECTURES
from errata.model.editable import EditableModel
from errata.model.tokens import encode, pad
from errata.testing import tiny_model
from oracles import kn
from oracles.rome import Plain

TEXTS = ("The capital of France is", "Gold", "Question: where was the very old Albert Einstein born? Answer:")


def laid(model: EditableModel) -> tuple[list[list[int]], torch.Tensor]:
    return [encode(model.tokenizer, text) for text in TEXTS], torch.tensor([70, 71, 72])


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("family", ARCHITECTURES)
def test_attributions_are_those_of_the_literal_loop(family: str, layer: int) -> None:
    model = tiny_model(family)
    texts, answers = laid(model)
    plain = Plain(model.model, model.tokenizer, model.arch.layers, model.arch.down)
    found = attributions(model, texts, answers, layer, 3)
    for row, ids, answer in zip(found, texts, answers.tolist(), strict=True):
        expected = kn.attribution(plain, ids, answer, layer, 3)
        assert float((row - expected).norm()) < 2e-4 * float(expected.norm())


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("family", ARCHITECTURES)
def test_those_before_the_nonlinearity_are_those_of_the_literal_loop(family: str, steps: int) -> None:
    model = tiny_model(family)
    texts, answers = laid(model)
    plain = Plain(model.model, model.tokenizer, model.arch.layers, model.arch.down)
    found = attributions_before(model, texts, answers, 1, steps)
    for row, ids, answer in zip(found, texts, answers.tolist(), strict=True):
        if family == "phi3":  # gate and up projection are one matrix, and only the gate is scaled
            assert row.shape == (64,) and bool(row.isfinite().all())
            continue
        expected = kn.attribution_before(plain, ids, answer, 1, steps, model.arch.up[0])
        assert float((row - expected).norm()) <= 2e-4 * float(expected.norm())


def test_with_many_steps_they_add_up_to_what_the_layer_does_for_the_probability() -> None:
    model = tiny_model("gpt2")
    model.down(1).bias.data.zero_()  # type: ignore[operator, union-attr]
    texts, answers = laid(model)
    total = attributions(model, texts, answers, 1, 400).sum(1)
    for index, ids in enumerate(texts):
        batch = pad([ids], model.pad_id)
        zero = -model.mlp_out_at(batch, 1, batch.lengths - 1)
        with model.shifted(model.mlp(1), batch.lengths - 1, zero):
            without = model.logits(batch)[0, -1].softmax(-1)[answers[index]]
        change = model.logits(batch)[0, -1].softmax(-1)[answers[index]] - without
        assert float(total[index]) == pytest.approx(float(change), rel=0.02, abs=1e-6)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    texts, answers = laid(model)
    whole = attributions(model, texts, answers, 0, 5)
    monkeypatch.setattr(attribution, "ROWS_AT_ONCE", 4)
    assert torch.allclose(attributions(model, texts, answers, 0, 5), whole, rtol=1e-3, atol=1e-8)


def test_nothing_is_left_behind() -> None:
    model = tiny_model("llama")
    before = model.fingerprint()
    attributions(model, *laid(model), 0, 2)
    assert model.fingerprint() == before
    assert not any("forward" in module.__dict__ or module._forward_hooks for module in model.model.modules())


def test_half_precision_activations_are_attributed_in_float32() -> None:
    model = tiny_model("llama", dtype=torch.bfloat16)
    found = attributions(model, *laid(model), 0, 4)
    assert found.dtype == torch.float32 and bool(torch.isfinite(found).all()) and bool(found.any())
    assert hooks.widened(model.weight(model.site(0))).shape[1] == found.shape[1]
