"""What EMMET, PMET and AlphaEdit do that neither the oracles nor the conformance check look at."""

import ast
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from editors.conftest import REQUESTS, Prepared, random_texts
from errata import registry
from errata.artifacts.build import build_second_moments
from errata.artifacts.store import Artifacts
from errata.conformance import target_scores
from errata.editors.alphaedit import AlphaEdit
from errata.editors.emmet import Emmet
from errata.editors.memit import Memit
from errata.editors.pmet import Pmet
from errata.editors.r_rome import RRome
from errata.errors import BadInput
from errata.keyvalue.contexts import Contexts, contexts, grouped, groups
from errata.keyvalue.keys import (
    contribution,
    contribution_at,
    in_bare_prompts,
    in_contexts,
    keys_at,
    lay_out,
    values_at,
)
from errata.model.architecture import ARCHITECTURES
from errata.model.editable import EditableModel
from errata.testing import tiny_model
from errata.types import EditRequest
from errata.update.delta import LowRank, WeightDelta
from errata.update.session import EditSession

SHORT: dict[str, Any] = {"steps": 4, "contexts": ((4, 2),)}
EMMET, PMET = Emmet((0, 1), **SHORT), Pmet((0, 1), **SHORT)
ALPHAEDIT = AlphaEdit((0, 1), **SHORT, trace_share=0.3, l2=0.5)


def texts_of(model: EditableModel, state: Any) -> Contexts:
    return contexts(model, groups(SHORT["contexts"]), grouped(groups(SHORT["contexts"])), state, 0)


def test_emmet_moves_every_key_by_its_share_exactly_and_memit_does_not(prepared: Prepared) -> None:
    model, artifacts = prepared("llama", torch.float64)
    site = model.site(1)
    for editor, exact in ((EMMET, True), (Memit((0, 1), **SHORT, moment_weight=1.0), False)):
        result = editor.edit(model, REQUESTS, {}, artifacts)
        change = result.update.sites[site]
        texts = texts_of(model, result.state)
        layouts = [lay_out(model, request, texts) for request in REQUESTS]
        with model.overlay(WeightDelta({model.site(0): result.update.sites[model.site(0)]})):
            K = keys_at(in_contexts(model, layouts), texts.weights, 1)
        assert isinstance(change, LowRank)  # its left factor holds the residuals
        assert torch.allclose(change.dense() @ K.T, change.left, rtol=1e-6, atol=1e-9) == exact


def test_emmet_of_one_edit_in_one_layer_is_rome_with_one_key(prepared: Prepared) -> None:
    """Both searches start from the same layer; without contexts the offset of the stream is that of the MLP."""
    model, artifacts = prepared("llama", torch.float64)
    one: dict[str, Any] = {"steps": 4, "contexts": (), "weight_decay": 0.0, "clamp": 1e6}
    emmet = Emmet((1,), **one).edit(model, REQUESTS[:1], {}, artifacts).update
    rome = RRome(1, **one).edit(model, REQUESTS[:1], {}, artifacts).update
    assert torch.allclose(emmet.dense(model.site(1)), rome.dense(model.site(1)), rtol=1e-6, atol=1e-9)


def test_emmet_refuses_two_values_for_one_key(prepared: Prepared) -> None:
    model, artifacts = prepared("gpt2", torch.float64)
    same = (EditRequest("1", "The France", "France", "Ulm"), EditRequest("2", "The France is", "France", "Berlin"))
    bare = replace(EMMET, contexts=())
    with pytest.raises(BadInput, match="same key"):
        bare.edit(model, same, {}, artifacts)
    assert replace(bare, gram_ridge=0.1).edit(model, same, {}, artifacts).update.sites


def test_pmet_sets_what_the_mlp_adds_and_not_the_stream(prepared: Prepared) -> None:
    """With one layer, no weight on other keys and one context the MLP gives what was searched for."""
    model, artifacts = prepared("llama", torch.float64)
    editor = Pmet((1,), steps=4, contexts=(), moment_weight=1e-12)
    result = editor.edit(model, REQUESTS, {}, artifacts)
    layouts = [lay_out(model, request, Contexts(torch.zeros(0, 0), (), torch.ones(1))) for request in REQUESTS]
    targets = editor.search(model, layouts)
    with model.overlay(result.update):
        found = contribution_at(in_bare_prompts(model, layouts), 1)
    assert torch.allclose(found, torch.stack([(t.origin + t.offset)[1] for t in targets]), atol=1e-6)
    assert all(t.offset[0].any() for t in targets), "the attention's offset takes its part, and is not written"


@pytest.mark.parametrize("family", [name for name, row in ARCHITECTURES.items() if row.mlp_norm])
def test_what_memit_wants_of_the_stream_comes_through_the_norm_behind_the_mlp(family: str, tmp_path: Path) -> None:
    """The norm's output has a length of its own, so it is met in direction; taken as the map's residual it is not."""
    model, artifacts = tiny_model(family, layers=3, width=16, dtype=torch.float64), Artifacts(tmp_path)
    norm = model.layer(1).get_submodule(str(model.arch.mlp_norm))
    norm.weight.data += torch.linspace(0, 1, 16)  # type: ignore[operator, union-attr]
    build_second_moments(model, [1], random_texts(), 2000, artifacts)
    editor = Memit((1,), steps=4, clamp=4.0, contexts=(), moment_weight=1e-12)
    update = editor.edit(model, REQUESTS, {}, artifacts).update
    layouts = [lay_out(model, request, Contexts(torch.zeros(0, 0), (), torch.ones(1))) for request in REQUESTS]
    targets, y = editor.search(model, layouts), values_at(in_bare_prompts(model, layouts), 1)
    moved = torch.stack([editor.wanted(model, target) for target in targets]) - editor.read(
        in_bare_prompts(model, layouts), 1
    )
    wanted = contribution(model, 1, y) + moved
    with model.overlay(update):
        found = contribution_at(in_bare_prompts(model, layouts), 1)
    taken_as_is = contribution(model, 1, y + moved)
    assert (torch.cosine_similarity(found, wanted) > 1 - 1e-5).all()
    assert (torch.cosine_similarity(taken_as_is, wanted) < 1 - 1e-3).all()


def test_layers_of_pmet_take_more_than_those_of_memit(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    """One over the root of the layers left: the first of two layers takes 0.71 of what is missing, not half of it."""
    model, artifacts = prepared("llama", torch.float64)
    root = PMET.edit(model, REQUESTS, {}, artifacts).update.sites[model.site(0)]
    monkeypatch.setattr(Pmet, "power", 1.0)
    even = PMET.edit(model, REQUESTS, {}, artifacts).update.sites[model.site(0)]
    assert isinstance(root, LowRank) and isinstance(even, LowRank)  # their left factors hold the residuals
    assert torch.allclose(root.left, even.left * 2**0.5)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_alphaedit_leaves_what_other_keys_have_alone(prepared: Prepared, family: str) -> None:
    model, artifacts = prepared(family, torch.float64)
    result = ALPHAEDIT.edit(model, REQUESTS, {}, artifacts)
    for layer in (0, 1):
        values, vectors = artifacts.spectrum(model, layer)
        kept = result.details[0]["kept"][str(layer)]
        r = round(kept * len(values))
        assert 0 < r < len(values)
        assert values[:r].sum() <= 0.3 * values.sum() < values[: r + 1].sum()
        D = result.update.dense(model.site(layer))
        assert (D @ vectors[:, r:]).norm() < 1e-6 * D.norm()


def test_alphaedit_without_an_empty_direction_says_so(prepared: Prepared) -> None:
    model, artifacts = prepared("llama")
    with pytest.raises(BadInput, match=r"no direction of layer 0.*Raise threshold"):
        AlphaEdit((0, 1), **SHORT, threshold=1e-30).edit(model, REQUESTS, {}, artifacts)


def test_alphaedit_remembers_by_default_and_its_memory_is_state_alone(prepared: Prepared) -> None:
    """Undoing an edit and repeating it gives the same: no sum of keys survives in the editor or the module."""
    model, artifacts = prepared("llama")
    first = ALPHAEDIT.edit(model, REQUESTS, {}, artifacts)
    assert {"recent.0", "recent.1"} <= first.state.keys()
    session = EditSession(model)
    session.apply(first.update)
    ALPHAEDIT.edit(model, REQUESTS, first.state, artifacts)
    session.undo()
    again = ALPHAEDIT.edit(model, REQUESTS, {}, artifacts)
    assert torch.equal(first.state["recent.0"], again.state["recent.0"])
    assert torch.equal(first.update.dense(model.site(1)), again.update.dense(model.site(1)))


def test_the_spectrum_is_that_of_the_unedited_model(prepared: Prepared) -> None:
    model, artifacts = prepared("llama")
    session = EditSession(model)
    result = ALPHAEDIT.edit(model, REQUESTS, {}, artifacts)
    before = artifacts.spectrum(model, 1)[0]
    session.apply(result.update)
    ALPHAEDIT.edit(model, REQUESTS, result.state, artifacts)
    assert artifacts.spectrum(model, 1)[0] is before


@pytest.mark.parametrize("editor", [EMMET, PMET, ALPHAEDIT], ids=lambda editor: editor.name)
def test_half_precision_models_get_float32_updates_that_work(editor: Any, tmp_path: Path) -> None:
    model = tiny_model("llama", layers=3, dtype=torch.bfloat16)
    artifacts = Artifacts(tmp_path)
    build_second_moments(model, range(3), random_texts(), 2000, artifacts)
    request = EditRequest("1", "The capital of France", "France", "Berlin")
    strong = replace(editor, steps=12, clamp=20.0, lr=0.2)
    strong = replace(strong, l2=1e-3) if editor is ALPHAEDIT else replace(strong, moment_weight=1.0, ridge=1e-2)
    update = strong.edit(model, [request], {}, artifacts).update
    assert all(c.left.dtype == torch.float32 for c in update.sites.values() if isinstance(c, LowRank))
    before = target_scores(model, [request])[0]
    with model.overlay(update):
        assert target_scores(model, [request])[0] > before


@pytest.mark.parametrize(
    "wrong", [{"l2": 0.0}, {"threshold": 0.0}, {"trace_share": 0.0}, {"trace_share": 1.5}, {"layers": ()}]
)
def test_options_of_alphaedit_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="alphaedit"):
        replace(ALPHAEDIT, **wrong)


@pytest.mark.parametrize("editor", [replace(EMMET, moment_weight=2.0), PMET])
def test_weights_are_checked(editor: Any) -> None:
    with pytest.raises(BadInput, match=f"{editor.name}: moment_weight -1"):
        replace(editor, moment_weight=-1.0)
    with pytest.raises(BadInput, match="gram_ridge"):
        replace(EMMET, gram_ridge=-0.1)


def test_options_of_bases_are_listed_with_the_methods_own_defaults() -> None:
    pmet = {option.name: option for option in registry.editors()["pmet"].options}
    assert pmet["layers"].default == "required" and pmet["clamp"].default == "1.0" and pmet["steps"].default == "20"
    assert next(option.name for option in registry.editors()["alphaedit"].options) == "layers"
    assert "rank_one" not in registry.editors() and "spreading" not in registry.editors()


def test_a_base_that_is_not_in_the_package_has_no_options_to_show() -> None:
    tree = ast.parse("class Mine(Elsewhere):\n    name: ClassVar[str] = 'mine'\n    rate: float = 1.0\n")
    (node,) = tree.body
    assert isinstance(node, ast.ClassDef)
    assert list(registry._lineage(tree, node)) == [(tree, node)]
