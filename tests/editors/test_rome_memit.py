"""What the three methods do that neither the oracles nor the conformance check look at."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from editors.conftest import REQUESTS, Prepared, random_texts
from errata.artifacts.build import build_second_moments
from errata.artifacts.store import Artifacts
from errata.conformance import target_scores
from errata.editors.alphaedit import AlphaEdit
from errata.editors.memit import Memit
from errata.editors.r_rome import RRome
from errata.editors.rome import Rome
from errata.errors import BadInput, Diverged, MissingArtifact
from errata.keyvalue.contexts import contexts, even, groups
from errata.keyvalue.keys import lay_out
from errata.keyvalue.replay import record
from errata.model.editable import EditableModel
from errata.testing import tiny_model
from errata.types import EditRequest
from errata.update.delta import LowRank
from errata.update.session import EditSession

SHORT: dict[str, Any] = {"steps": 4, "contexts": ((4, 2),)}
ROME, R_ROME, MEMIT = Rome(1, **SHORT), RRome(1, **SHORT), Memit((0, 1), **SHORT, moment_weight=1.0)


@pytest.mark.parametrize("editor", [ROME, R_ROME, MEMIT])
def test_missing_moments_are_named_before_any_work(editor: Any, tmp_path: Path) -> None:
    with pytest.raises(MissingArtifact, match="errata artifacts build second-moment"):
        editor.edit(tiny_model("llama", layers=3), REQUESTS[:1], {}, Artifacts(tmp_path))


def test_all_missing_layers_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(MissingArtifact, match="--layers 0-1"):
        MEMIT.edit(tiny_model("llama", layers=3), REQUESTS, {}, Artifacts(tmp_path))


def test_without_covariance_nothing_is_needed(tmp_path: Path) -> None:
    model = tiny_model("llama", layers=3)
    bare = replace(ROME, covariance=False)
    assert bare.needs(model) == ()
    assert bare.edit(model, REQUESTS[:1], {}, Artifacts(tmp_path)).update.sites


@pytest.mark.parametrize("editor", [ROME, R_ROME])
def test_rome_writes_one_edit_at_a_time(editor: Any, prepared: Prepared) -> None:
    with pytest.raises(BadInput, match="one edit at a time, not 3"):
        editor.edit(*_split(prepared("llama"), REQUESTS))


def _split(pair: tuple[EditableModel, Artifacts], requests: Any) -> tuple[Any, ...]:
    model, artifacts = pair
    return model, requests, {}, artifacts


@pytest.mark.parametrize("editor", [replace(ROME, layer=7), replace(MEMIT, layers=(1, 7))])
def test_a_layer_that_does_not_exist_is_bad_input(editor: Any, prepared: Prepared) -> None:
    with pytest.raises(BadInput, match="no layer 7; choose from 0 to 2"):
        editor.edit(*_split(prepared("llama"), REQUESTS[:1]))


@pytest.mark.parametrize(
    "wrong", [{"layers": ()}, {"layers": (1, 1)}, {"moment_weight": 0.0}, {"steps": 0}, {"contexts": (5, 10)}]
)
def test_options_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        replace(MEMIT, **wrong)


def test_r_rome_meets_its_value_on_average_and_rome_on_the_bare_prompt(prepared: Prepared) -> None:
    model, artifacts = prepared("llama", torch.float64)
    rome, r_rome = (editor.edit(model, REQUESTS[2:], {}, artifacts) for editor in (ROME, R_ROME))
    site, sizes = model.site(1), groups(SHORT["contexts"])
    layout = lay_out(model, REQUESTS[2], contexts(model, sizes, even(sizes), rome.state, 0))
    replay = record(model, 1, layout.rows)
    offset = rome.update.dense(site) @ replay.keys[0]  # the same search found the value of both
    wanted = replay.values[0] + offset - replay.values.mean(0)
    assert torch.allclose(r_rome.update.dense(site) @ replay.keys.mean(0), wanted)
    assert not torch.allclose(rome.update.dense(site) @ replay.keys.mean(0), wanted, rtol=1e-2)


def test_keys_that_disagree_blow_rome_up_and_not_r_rome(prepared: Prepared) -> None:
    model, artifacts = prepared("gpt2", torch.float64)
    # A short subject at the first position: what precedes it in other contexts is not there in the bare prompt.
    request = EditRequest("1", "A is", "A", "B")
    rome, r_rome = (replace(e, contexts=((6, 6),)).edit(model, [request], {}, artifacts) for e in (ROME, R_ROME))
    assert rome.details[0]["alignment"] < r_rome.details[0]["alignment"]
    assert sum(rome.update.norms().values()) > sum(r_rome.update.norms().values())


def test_a_heavy_moment_holds_memit_back(prepared: Prepared) -> None:
    model, artifacts = prepared("llama", torch.float64)
    weak, strong = (replace(MEMIT, contexts=(), moment_weight=w, clamp=2.0) for w in (1e-9, 1e6))
    norms = [sum(e.edit(model, REQUESTS, {}, artifacts).update.norms().values()) for e in (weak, strong)]
    assert norms[1] < 1e-3 * norms[0]


def test_memit_in_one_batch_spans_the_edits(prepared: Prepared) -> None:
    model, artifacts = prepared("gpt2")
    update = MEMIT.edit(model, REQUESTS, {}, artifacts).update
    assert {site: change.left.shape[1] for site, change in update.sites.items() if isinstance(change, LowRank)} == {
        model.site(0): 3,
        model.site(1): 3,
    }


def test_many_requests_are_searched_in_chunks_that_change_nothing(prepared: Prepared) -> None:
    model, artifacts = prepared("llama", torch.float64)
    whole = MEMIT.edit(model, REQUESTS, {}, artifacts)
    told: list[tuple[str, int, int]] = []
    chunked = replace(MEMIT, memory=1e-9).edit(model, REQUESTS, {}, artifacts, lambda *args: told.append(args))
    for site in whole.update.sites:
        assert torch.allclose(whole.update.dense(site), chunked.update.dense(site), rtol=1e-6, atol=1e-9)
    assert told == [("targets", 1, 3), ("targets", 2, 3), ("targets", 3, 3)]
    told.clear()
    replace(MEMIT, memory=1.0).edit(model, REQUESTS, {}, artifacts, lambda *args: told.append(args))
    assert told == [("targets", 3, 3)]
    with pytest.raises(BadInput, match="memory -1"):
        replace(MEMIT, memory=-1)


def test_history_is_state_and_published_memit_has_none(prepared: Prepared) -> None:
    model, artifacts = prepared("llama")
    assert MEMIT.edit(model, REQUESTS, {}, artifacts).state.keys() == {"contexts"}
    keeping = replace(MEMIT, history=True)
    first = keeping.edit(model, REQUESTS[:1], {}, artifacts).state
    both = keeping.edit(model, REQUESTS[1:], first, artifacts).state
    assert first.keys() == both.keys() == {"contexts", "recent.0", "recent.1"}
    assert torch.equal(both["recent.0"][:1], first["recent.0"])
    assert [len(state["recent.1"]) for state in (first, both)] == [1, 3]


@pytest.mark.parametrize("editor", [MEMIT, AlphaEdit((0, 1), trace_share=0.5)], ids=lambda editor: editor.name)
def test_it_does_not_matter_which_past_keys_are_summed(prepared: Prepared, editor: Memit | AlphaEdit) -> None:
    model, artifacts = prepared("llama", torch.float64)
    keeping = replace(editor, history=True, steps=3, contexts=())
    state = keeping.edit(model, REQUESTS[:2], {}, artifacts).state
    sums = {f"history.{layer}": (K := state[f"recent.{layer}"].double()).T @ K for layer in (0, 1)}
    summed = {**{name: held for name, held in state.items() if "recent" not in name}, **sums}
    apart, together, without = (
        keeping.edit(model, REQUESTS[2:], past, artifacts).update for past in (state, summed, {})
    )
    for site in apart.sites:
        assert torch.allclose(apart.dense(site), together.dense(site), rtol=1e-7, atol=1e-12)
        assert not torch.allclose(apart.dense(site), without.dense(site), rtol=1e-3)


def test_contexts_are_sampled_once_and_reported(prepared: Prepared) -> None:
    model, artifacts = prepared("llama")
    first = ROME.edit(model, REQUESTS[:1], {}, artifacts)
    session = EditSession(model)
    session.apply(first.update, REQUESTS[:1])
    second = ROME.edit(model, REQUESTS[1:2], first.state, artifacts)
    assert second.details[0]["contexts"] == first.details[0]["contexts"]
    assert torch.equal(second.state["contexts"], first.state["contexts"])


def test_a_seed_of_its_own_gives_other_contexts(prepared: Prepared) -> None:
    model, artifacts = prepared("llama")
    one, two = (replace(ROME, seed=s).edit(model, REQUESTS[:1], {}, artifacts) for s in (0, 1))
    assert one.details[0]["contexts"] != two.details[0]["contexts"]


def test_editing_a_model_that_died_is_divergence(prepared: Prepared) -> None:
    model, artifacts = prepared("llama")
    state = MEMIT.edit(model, REQUESTS, {}, artifacts).state
    model.down(0).weight.data.fill_(torch.inf)  # type: ignore[operator, union-attr]
    for editor in (ROME, R_ROME, MEMIT):
        with pytest.raises(Diverged):
            editor.edit(model, REQUESTS[:1], state, artifacts)


def test_statistics_stay_those_of_the_unedited_model(prepared: Prepared) -> None:
    model, artifacts = prepared("llama")
    before = artifacts.cholesky(model, 1)
    session = EditSession(model)
    result = MEMIT.edit(model, REQUESTS, {}, artifacts)
    session.apply(result.update, REQUESTS)
    MEMIT.edit(model, REQUESTS, result.state, artifacts)
    assert artifacts.cholesky(model, 1) is before


def test_undoing_an_edit_and_repeating_it_gives_the_same(prepared: Prepared) -> None:
    model, artifacts = prepared("llama")
    keeping, session = replace(MEMIT, history=True), EditSession(model)
    first = keeping.edit(model, REQUESTS, {}, artifacts)
    session.apply(first.update, REQUESTS)
    session.undo()
    again = keeping.edit(model, REQUESTS, {}, artifacts)
    for site in first.update.sites:
        assert torch.equal(first.update.dense(site), again.update.dense(site))
    assert torch.equal(first.state["history.0"], again.state["history.0"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("editor", [ROME, MEMIT])
def test_half_precision_models_get_float32_updates_that_work(editor: Any, dtype: torch.dtype, tmp_path: Path) -> None:
    model = tiny_model("llama", layers=3, dtype=dtype)
    artifacts = Artifacts(tmp_path)
    build_second_moments(model, range(3), random_texts(), 2000, artifacts)
    request = EditRequest("1", "The capital of France", "France", "Berlin")
    strong = replace(editor, steps=12, clamp=20.0, lr=0.2)
    update = strong.edit(model, [request], {}, artifacts).update
    assert all(c.left.dtype == torch.float32 for c in update.sites.values() if isinstance(c, LowRank))
    before = target_scores(model, [request])[0]
    with model.overlay(update):
        assert target_scores(model, [request])[0] > before


def test_a_subject_at_the_first_position_is_reported(prepared: Prepared) -> None:
    model, artifacts = prepared("gpt2")
    request = EditRequest("1", "A is", "A", "B")
    assert ROME.edit(model, [request], {}, artifacts).details[0]["lookup"] == 0
