"""KN: the protocol on every family, the literal oracle, and what it writes into which columns."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from editors.conftest import REQUESTS
from errata.artifacts.store import Artifacts
from errata.conformance import check_editor, target_scores
from errata.editors import kn
from errata.editors.kn import KN, _embedded
from errata.editors.presets import RELEASED, preset
from errata.errors import BadInput, Diverged, UnsupportedModel
from errata.model.architecture import ARCHITECTURES
from errata.model.editable import EditableModel
from errata.model.tokens import encode, encode_target, pad
from errata.testing import tiny_model
from errata.types import EditRequest
from errata.update.delta import LowRank, WeightDelta
from errata.update.session import EditSession
from oracles import kn as oracle
from oracles.rome import Plain

REQUEST = EditRequest("1", "The capital of France is", "France", "Berlin", "Paris")
SEVERAL = replace(REQUEST, target_new="Rome on the Tiber", target_true="Vienna")
EDITOR = KN(steps=3, contexts=((4, 2),), share=0.5)
BARE = replace(EDITOR, contexts=())
PUBLIC = replace(BARE, public_code=True)


@pytest.mark.parametrize("editor", [EDITOR, BARE, PUBLIC], ids=["refined", "coarse", "public code"])
@pytest.mark.parametrize("family", ARCHITECTURES)
def test_methods_conform(nothing: Artifacts, editor: KN, family: str) -> None:
    # It writes embeddings, not what it found to help, so on a random model it promises nothing.
    check_editor(editor, tiny_model(family, width=16), nothing, effect=False)


@pytest.mark.usefixtures("exact_norm")
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-4)])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("request_", [REQUEST, SEVERAL], ids=["short", "several"])
def test_oracle(
    nothing: Artifacts, request_: EditRequest, family: str, dtype: torch.dtype, tolerance: float, side: str
) -> None:
    model = tiny_model(family, width=16, dtype=dtype)
    model.tokenizer.padding_side = side
    result = EDITOR.edit(model, [request_], {}, nothing)
    texts = [request_.prompt, *(f"{prefix}. {request_.prompt}" for prefix in result.details[0]["contexts"])]
    settings = (EDITOR.steps, EDITOR.threshold, EDITOR.share)
    assert request_.target_true is not None
    plain = Plain(model.model, model.tokenizer, model.arch.layers, model.arch.down)
    ids, start = plain.split(request_.prompt, request_.target_new)
    steps = oracle.edited(plain, texts, request_.target_true, request_.target_new, 2, *settings)
    assert len(steps) == len(ids) - start and all(chosen for _, _, chosen in steps)
    assert (len(steps) > 1) == (request_ is SEVERAL)
    expected = [torch.zeros(model.weight(model.site(layer)).shape, dtype=dtype) for layer in range(2)]
    embeddings = model.model.get_input_embeddings().weight.detach()
    for place, (old, new, chosen) in enumerate(steps):
        for layer, neuron in chosen:
            way = 1 if oracle.fires(plain, ids[: start + place], layer, neuron) > 0 else -1
            moved = EDITOR.new_weight * embeddings[new] - EDITOR.old_weight * embeddings[old]
            expected[layer][:, neuron] += way * moved
    for layer in range(2):
        changed = model.site(layer) in result.update.sites
        assert changed == bool(expected[layer].any())
        if changed:
            dense = result.update.dense(model.site(layer))
            assert float((dense - expected[layer]).norm()) <= tolerance * float(expected[layer].norm())


def test_neurons_must_exceed_the_threshold_in_more_than_their_share_of_prompts() -> None:
    scores = torch.tensor([[[10.0, 3.0, 0.0]], [[4.0, 2.0, -9.0]], [[1.0, 0.1, 5.0]]])
    # Above a fifth of each prompt's largest: 0 and 1; 0 and 1; 2 alone, for neuron 0 stands exactly on the threshold.
    kept = {share: replace(EDITOR, share=share).select(scores)[0].tolist() for share in (0.0, 0.5, 2 / 3)}
    assert kept == {0.0: [True, True, True], 0.5: [True, True, False], 2 / 3: [False, False, False]}
    assert replace(EDITOR, threshold=0.6, share=0.0).select(scores)[0].tolist() == [True, False, True]
    with pytest.raises(Diverged):
        EDITOR.select(scores * torch.nan)


def test_without_contexts_one_prompt_decides(nothing: Artifacts) -> None:
    model = tiny_model("llama")
    result = BARE.edit(model, [REQUEST], {}, nothing)
    assert result.details[0]["contexts"] == []
    (change,) = BARE.changes(model, REQUEST, [REQUEST.prompt])
    scores = BARE.attribute(model, change.rows)[0]
    coarse = scores > 0.2 * scores.max()
    assert sum(result.details[0]["neurons"].values()) == int(coarse.sum()) > 0


def test_each_token_of_an_answer_is_changed_behind_those_before_it() -> None:
    model = tiny_model("gpt2")
    new, start = encode_target(model.tokenizer, SEVERAL.prompt, SEVERAL.target_new)
    old, _ = encode_target(model.tokenizer, SEVERAL.prompt, "Vienna")
    texts = [SEVERAL.prompt, f"So. {SEVERAL.prompt}"]
    found = BARE.changes(model, SEVERAL, texts)
    assert [change.new for change in found] == [[token] for token in new[start:]] and len(found) > 2
    for place, change in enumerate(found, start):
        own = int(model.logits(pad([new[:place]], model.pad_id))[0, -1].argmax())
        assert change.old == [old[start] if place == start else own]
        ids, end = change.rows[0]
        assert ids == [*new[:place], *change.old] and end == place
        in_context, behind = change.rows[1]
        assert in_context == [*encode(model.tokenizer, texts[1]), *new[start:place], *change.old]
        assert behind == len(in_context) - 1


def test_what_the_model_says_already_is_left_alone(nothing: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    new, start = encode_target(model.tokenizer, SEVERAL.prompt, SEVERAL.target_new)

    def says_from(known: int) -> None:
        guess = lambda _, ids, tokens: [*ids, new[len(ids)] if len(ids) >= known else 0]  # noqa: E731
        monkeypatch.setattr(kn, "_continued", guess)

    says_from(start + 1)
    assert [change.new for change in BARE.changes(model, SEVERAL, [SEVERAL.prompt])] == [[new[start]]]
    says_from(start)
    result = BARE.edit(model, [SEVERAL], {}, nothing)
    assert not result.update.sites and result.details[0]["neurons"] == {}


@pytest.mark.usefixtures("exact_norm")
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_released_variant_has_the_faults_of_the_public_code_and_the_default_has_not(
    nothing: Artifacts, family: str, steps: int
) -> None:
    """Before the nonlinearity, from 0 on; BOS first among the answer's tokens; guesses before each and subtracted."""
    model = tiny_model(family, width=16, dtype=torch.float64)
    public = replace(PUBLIC, steps=steps)
    plain = Plain(model.model, model.tokenizer, model.arch.layers, model.arch.down)
    prompt, answer = plain.ids(SEVERAL.prompt), plain.ids("Vienna")
    assert (answer[0] == model.tokenizer.bos_token_id) == model.arch.bos
    up = model.arch.up[0]
    expected = torch.zeros(2, 32 if family == "llama" else 64, dtype=torch.float64)
    for place, token in enumerate(answer):
        seen = oracle.guessed(plain, prompt, place)
        rows = [oracle.attribution_before(plain, seen, token, layer, steps, up) for layer in range(2)]
        expected += torch.stack(rows) / len(answer)
    (asked,) = public.old_answers(model, SEVERAL, [SEVERAL.prompt], 9)
    found = public.attribute(model, [asked])[0]
    assert float((found - expected).norm()) <= 1e-8 * float(expected.norm())
    right = BARE.attribute(model, BARE.old_answers(model, SEVERAL, [SEVERAL.prompt], 9))[0]
    assert not torch.allclose(found, right, rtol=0.1)
    result = public.edit(model, [SEVERAL], {}, nothing)
    new = plain.ids(SEVERAL.target_new)
    own = oracle.guessed(plain, prompt, len(new))[len(prompt) :]
    moved = public.new_weight * _embedded(model, new) - public.old_weight * _embedded(model, own)
    assert result.update.sites
    for change in result.update.sites.values():
        assert isinstance(change, LowRank) and change.left.shape[1] == 1 and torch.allclose(change.left[:, 0], moved)
        assert set(change.right.unique().tolist()) == {0.0, 1.0}  # whichever way the neurons fire


def test_the_papers_ran_the_public_code() -> None:
    model = tiny_model("llama")
    assert preset("kn", model, RELEASED)["public_code"] and "public_code" not in preset("kn", model)


def test_the_old_answer_is_the_models_own_where_none_is_given(nothing: Artifacts) -> None:
    model = tiny_model("gpt2")
    unknown = replace(REQUEST, target_true=None)
    own = encode(model.tokenizer, REQUEST.prompt)
    given = len(own)
    for _ in range(len(encode_target(model.tokenizer, REQUEST.prompt, "Berlin")[0]) - given):
        own.append(int(model.logits(pad([own], model.pad_id))[0, -1].argmax()))
    found = BARE.edit(model, [unknown], {}, nothing).update
    new, start = encode_target(model.tokenizer, REQUEST.prompt, "Berlin")
    moved = BARE.new_weight * _embedded(model, new[start:]) - BARE.old_weight * _embedded(model, own[given:])
    assert found.sites
    for change in found.sites.values():
        assert isinstance(change, LowRank) and torch.allclose(change.left[:, 0], moved)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gptj"])
def test_the_update_adds_the_vector_as_often_as_the_neurons_fire(nothing: Artifacts, family: str) -> None:
    model = tiny_model(family)
    update = BARE.edit(model, [REQUEST], {}, nothing).update
    batch = pad([encode(model.tokenizer, REQUEST.prompt)], model.pad_id)
    site, change = next(iter(update.sites.items()))
    assert isinstance(change, LowRank) and set(change.right.abs().unique().tolist()) == {0.0, 1.0}
    layer = model.layer_of(site)
    fired = model.inputs_at(batch, [site], batch.lengths - 1)[site]
    assert bool((fired * change.right >= 0).all())
    before = model.mlp_out_at(batch, layer, batch.lengths - 1)
    with model.overlay(WeightDelta({site: change})):
        moved = model.mlp_out_at(batch, layer, batch.lengths - 1) - before
    assert torch.allclose(moved, fired @ change.right.T @ change.left.T, atol=1e-4)


class Downward(torch.nn.Softplus):
    """Makes every neuron fire negatively."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return -super().forward(input)


@pytest.mark.parametrize("act", [torch.nn.Softplus(), Downward()], ids=["up", "down"])
def test_neurons_bring_out_the_answer_whose_embedding_is_its_output(nothing: Artifacts, act: torch.nn.Module) -> None:
    """Where head and embeddings are tied, as in GPT-2, KN does what it is for, whichever way the neurons fire."""
    model = tiny_model("gpt2")
    model.layer(1).get_submodule("mlp").act = act
    before = target_scores(model, [REQUEST])[0]
    result = replace(BARE, old_weight=1.0, new_weight=8.0).edit(model, [REQUEST], {}, nothing)
    assert model.site(1) in result.update.sites
    with model.overlay(result.update):
        after = target_scores(model, [REQUEST])[0]
    assert after > before and result.details[0]["loss"] == pytest.approx(-after, abs=1e-4)


def test_embeddings_are_those_that_the_first_layer_receives() -> None:
    model = tiny_model("gemma")
    ids = encode(model.tokenizer, "Berlin")
    batch = pad([ids], model.pad_id)
    (received,) = model.outputs_at(batch, ["model.embed_tokens"], None)["model.embed_tokens"]
    assert torch.allclose(_embedded(model, ids), received.sum(0), atol=1e-5)
    assert torch.allclose(_embedded(model, ids), 32**0.5 * model.model.get_input_embeddings().weight[ids].sum(0))


def test_embeddings_of_another_width_are_refused(nothing: Artifacts) -> None:
    from transformers import AutoModelForCausalLM

    usual = tiny_model("opt")
    config = usual.model.config
    config.word_embed_proj_dim = 16
    narrow = EditableModel(AutoModelForCausalLM.from_config(config), usual.tokenizer, "narrow")
    with pytest.raises(UnsupportedModel, match=r"16 in narrow.* 32"):
        BARE.edit(narrow, [REQUEST], {}, nothing)


def test_a_model_that_died_is_divergence(nothing: Artifacts) -> None:
    model = tiny_model("llama")
    model.down(0).weight.data.fill_(torch.inf)  # type: ignore[operator, union-attr]
    with pytest.raises(Diverged):
        BARE.edit(model, [REQUEST], {}, nothing)


def test_where_no_neuron_is_selected_nothing_changes(nothing: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    monkeypatch.setattr(KN, "select", lambda self, scores: torch.zeros_like(scores[0], dtype=torch.bool))
    result = BARE.edit(model, [REQUEST], {}, nothing)
    assert not result.update.sites and result.details[0]["neurons"] == {}
    session, before = EditSession(model), model.fingerprint()
    session.apply(result.update, [REQUEST])
    assert model.fingerprint() == before


def test_contexts_are_kept_for_later_edits(nothing: Artifacts) -> None:
    model = tiny_model("llama")
    first = EDITOR.edit(model, [REQUEST], {}, nothing)
    with model.overlay(first.update):
        second = EDITOR.edit(model, [SEVERAL], first.state, nothing)
    assert second.details[0]["contexts"] == first.details[0]["contexts"]


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"threshold": 1.0}, {"share": -0.1}, {"contexts": ((0, 1),)}])
def test_impossible_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        replace(EDITOR, **wrong)


def test_one_request_at_a_time(nothing: Artifacts) -> None:
    with pytest.raises(BadInput, match="one edit at a time"):
        BARE.edit(tiny_model("llama"), REQUESTS, {}, nothing)
