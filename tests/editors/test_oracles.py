"""The fast methods against the slow literal ones: cached, padded and batched must change nothing."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from editors.conftest import REQUESTS, Prepared
from errata.artifacts.store import Artifacts
from errata.editors.alphaedit import AlphaEdit
from errata.editors.base import EditResult
from errata.editors.emmet import Emmet
from errata.editors.memit import Memit
from errata.editors.pmet import Pmet
from errata.editors.r_rome import RRome
from errata.editors.rome import Rome
from errata.model.editable import EditableModel
from errata.types import EditRequest
from oracles.memit import Solve, equality, least_squares, memit, null_space
from oracles.pmet import pmet
from oracles.rome import Fact, Plain, Settings, rome

pytestmark = pytest.mark.usefixtures("exact_norm")
FAMILIES = ("gpt2", "llama", "gptj")
pytestmark = pytest.mark.usefixtures("exact_norm")
PRECISIONS = ((torch.float64, 1e-8), (torch.float32, 1e-4))
SEARCH: dict[str, Any] = {"steps": 6, "clamp": 2.0, "weight_decay": 0.02, "contexts": ((6, 2),)}
SETTINGS = Settings(6, 0.5, 0.02, 2.0, 0.0625, 0.05)
FACTS = tuple(Fact(r.prompt, r.subject, r.target_new) for r in REQUESTS)


def plain(model: EditableModel) -> Plain:
    return Plain(model.model, model.tokenizer, model.arch.layers, model.arch.down)


def close(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    return float((found.double() - expected.double()).norm()) <= tolerance * float(expected.double().norm())


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", [Rome, RRome])
def test_rome(prepared: Prepared, kind: type[Rome | RRome], family: str, dtype: torch.dtype, tolerance: float) -> None:
    agree(prepared, kind, family, dtype, tolerance, covariance=True)


def test_rome_without_covariance(prepared: Prepared) -> None:
    agree(prepared, Rome, "gpt2", torch.float64, 1e-8, covariance=False)


@pytest.mark.parametrize("kind", [Rome, RRome])
def test_rome_through_the_norm_that_gemma_puts_behind_the_mlp(prepared: Prepared, kind: type[Rome | RRome]) -> None:
    # Gemma computes softmax and norms in float32, whatever the weights are.
    agree(prepared, kind, "gemma2", torch.float64, 1e-5, covariance=True)


def agree(
    prepared: Prepared,
    kind: type[Rome | RRome],
    family: str,
    dtype: torch.dtype,
    tolerance: float,
    *,
    covariance: bool,
) -> None:
    """Three requests of unequal length, against the oracle."""
    model, artifacts = prepared(family, dtype)
    editor = kind(1, steps=6, clamp=20.0, weight_decay=0.02, contexts=((3, 2), (6, 1)), covariance=covariance)
    C = artifacts.second_moment(model, 1).C if covariance else None
    for request, fact in zip(REQUESTS, FACTS, strict=True):
        result = editor.edit(model, [request], {}, artifacts)
        found = result.details[0]
        contexts = [request.prompt, *(f"{prefix}. {request.prompt}" for prefix in found["contexts"])]
        expected, loss, steps = rome(
            plain(model), 1, fact, contexts, C, Settings(6, 0.5, 0.02, 20.0, 0.0625, 0.05), one_key=kind is RRome
        )
        assert found["steps"] == steps
        assert found["loss"] == pytest.approx(loss, rel=tolerance)
        assert close(result.update.dense(model.site(1)), expected, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("family", ["gpt2", "llama", "gptj", "opt"])
@pytest.mark.parametrize("method", ["memit", "emmet", "emmet with a ridge", "alphaedit"])
def test_joint_edits(prepared: Prepared, method: str, family: str, dtype: torch.dtype, tolerance: float) -> None:
    model, artifacts = prepared(family, dtype)
    moments = {layer: artifacts.second_moment(model, layer).C for layer in (0, 1)}
    # Between two eigenvalues that lie well apart, so that rounding decides nothing.
    values = torch.linalg.eigvalsh(moments[1].double())
    threshold = float(values[15] + values[16]) / 2
    editor, solve = {
        "memit": (Memit((0, 1), **SEARCH, moment_weight=3.0), least_squares(moments, 3.0)),
        "emmet": (Emmet((0, 1), **SEARCH), equality(moments, 1.0, 0.0)),
        "emmet with a ridge": (
            Emmet((0, 1), **SEARCH, moment_weight=3.0, gram_ridge=0.1),
            equality(moments, 3.0, 0.1),
        ),
        "alphaedit": (AlphaEdit((0, 1), **SEARCH, l2=2.0, threshold=threshold), null_space(moments, threshold, 2.0)),
    }[method]
    result = editor.edit(model, REQUESTS, {}, artifacts)
    prefixes = result.details[0]["contexts"]
    expected, _ = memit(plain(model), (0, 1), FACTS, prefixes, SETTINGS, model.arch.transposed, solve)
    for layer in (0, 1):
        assert close(result.update.dense(model.site(layer)), expected[layer], tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("family", ["gpt2", "llama", "gptj", "opt"])
@pytest.mark.parametrize("layers", [(0, 1), (0,)], ids=["two layers", "the lowest layer"])
def test_pmet(prepared: Prepared, layers: tuple[int, ...], family: str, dtype: torch.dtype, tolerance: float) -> None:
    # GPT-J computes attention scores in float32, whatever the weights are.
    within = max(tolerance, 1e-6) if family == "gptj" else tolerance
    agree_on_pmet(*prepared(family, dtype), Pmet(layers, **SEARCH, moment_weight=3.0), REQUESTS, within)


@pytest.mark.parametrize(("drift", "ends"), [(0.05, True), (-1.0, False)])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_pmet_where_the_target_is_met(prepared: Prepared, family: str, drift: float, ends: bool) -> None:
    """The likelihood then counts a tenth, and the search ends if the essence has not drifted."""
    editor = Pmet((0, 1), steps=12, lr=1.0, clamp=100.0, weight_decay=0.02, contexts=(), settled_drift=drift)
    model, artifacts = prepared(family, torch.float64)
    requests = (EditRequest("1", "The symbol of gold", "gold", "A"), EditRequest("2", "The France", "France", "Berlin"))
    found = agree_on_pmet(model, artifacts, editor, requests, 1e-8)
    assert any(detail["steps"] < 11 for detail in found.details) == ends
    never = replace(editor, settled_weight=1.0).edit(model, requests, {}, artifacts)
    assert close(never.update.dense(model.site(1)), found.update.dense(model.site(1)), 1e-3) == ends


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("fault", ["target_apart", "left_padding"])
def test_pmet_with_the_faults_of_released_code(prepared: Prepared, fault: str, family: str) -> None:
    """Each moves the update far from the right one, and exactly where the literal faulty code moves it."""
    model, artifacts = prepared(family, torch.float64)
    right = Pmet((0, 1), **SEARCH, moment_weight=3.0)
    found, expected = (
        agree_on_pmet(model, artifacts, replace(right, **{fault: on}), REQUESTS[:1], 1e-8).update
        for on in (True, False)
    )
    assert not close(found.dense(model.site(1)), expected.dense(model.site(1)), 0.1)


def agree_on_pmet(
    model: EditableModel, artifacts: Artifacts, editor: Pmet, requests: Sequence[EditRequest], tolerance: float
) -> EditResult:
    moments = {layer: artifacts.second_moment(model, layer).C for layer in editor.layers}
    result = editor.edit(model, requests, {}, artifacts)
    expected, steps = pmet(
        plain(model),
        model.arch.attention,
        editor.layers,
        tuple(Fact(r.prompt, r.subject, r.target_new) for r in requests),
        result.details[0]["contexts"],
        Settings(editor.steps, editor.lr, editor.weight_decay, editor.clamp, editor.kl, editor.loss_stop),
        (editor.settled_weight, editor.settled_drift),
        model.arch.transposed,
        least_squares(moments, editor.moment_weight),
        editor.target_apart,
        editor.left_padding,
    )
    assert [detail["steps"] for detail in result.details] == steps
    for layer in editor.layers:
        assert close(result.update.dense(model.site(layer)), expected[layer], tolerance)
    return result


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_tokenizers_padding_side_changes_no_bit(prepared: Prepared, family: str, side: str) -> None:
    model, artifacts = prepared(family)
    editors = (
        Rome(1, steps=3, contexts=((3, 2),)),
        RRome(1, steps=3, contexts=((3, 2),)),
        *(kind((0, 1), **{**SEARCH, "steps": 3}) for kind in (Memit, Emmet, Pmet)),
        AlphaEdit((0, 1), **{**SEARCH, "steps": 3}, trace_share=0.5),
    )
    for editor in editors:
        requests = REQUESTS if editor.batch else REQUESTS[2:]
        as_it_was = editor.edit(model, requests, {}, artifacts).update
        model.tokenizer.padding_side = side
        update = editor.edit(model, requests, {}, artifacts).update
        for site in update.sites:
            assert torch.equal(update.dense(site), as_it_was.dense(site)), editor.name


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("method", ["memit", "alphaedit"])
def test_history_spares_the_keys_of_earlier_batches(prepared: Prepared, method: str, family: str) -> None:
    model, artifacts = prepared(family, torch.float64)
    moments = {layer: artifacts.second_moment(model, layer).C for layer in (0, 1)}
    few: dict[str, Any] = {"steps": 4, "contexts": ((6, 2),), "history": True}
    editor = {
        "memit": Memit((0, 1), moment_weight=1.0, **few),
        "alphaedit": AlphaEdit((0, 1), l2=0.5, threshold=1e9, **few),
    }[method]

    def solve(history: dict[int, Tensor] | None) -> Solve:
        if method == "memit":
            return least_squares(moments, 1.0, history)
        return null_space(moments, 1e9, 0.5, history)

    first = editor.edit(model, REQUESTS[:1], {}, artifacts)
    with model.overlay(first.update):
        second = editor.edit(model, REQUESTS[1:], first.state, artifacts)
    settings, prefixes = Settings(4, 0.5, 0.5, 0.75, 0.0625, 0.05), first.details[0]["contexts"]
    transposed = model.arch.transposed
    one, keys = memit(plain(model), (0, 1), FACTS[:1], prefixes, settings, transposed, solve(None))
    # Trap 12: the history holds the keys that were solved for, read before the layer's own write. They differ from
    # those of the edited model at layer 1, whose input the write at layer 0 has moved.
    for layer, K in keys.items():
        assert close(first.state[f"recent.{layer}"], K, 1e-6)
    with torch.no_grad():
        for layer, change in one.items():
            model.down(layer).weight.add_(change.T if transposed else change)
    history = {layer: K.T @ K for layer, K in keys.items()}
    two, _ = memit(plain(model), (0, 1), FACTS[1:], prefixes, settings, transposed, solve(history))
    without, _ = memit(plain(model), (0, 1), FACTS[1:], prefixes, settings, transposed, solve(None))
    for layer in (0, 1):
        assert close(second.update.dense(model.site(layer)), two[layer], 1e-6)
        assert not close(two[layer], without[layer], 1e-2)
