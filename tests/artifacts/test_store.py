"""Artifacts belong to weights, not to names; what is absent is named with the command that builds it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from errata.artifacts.store import SECOND_MOMENT, Artifacts, Learned, Need, SecondMoment, default_cache, layer_keys
from errata.errors import BadInput, MissingArtifact
from errata.model.editable import EditableModel
from errata.testing import tiny_model
from errata.update.delta import LowRank, WeightDelta
from errata.update.session import EditSession

NEEDS = tuple(Need(SECOND_MOMENT, layer) for layer in range(2))


def moment(model: EditableModel, scale: float = 1.0) -> SecondMoment:
    d_in = model.weight(model.site(0)).shape[1]
    return SecondMoment(scale * torch.eye(d_in), 7, {"corpus": "none"})


def edited(model: EditableModel, layer: int = 0) -> EditSession:
    session = EditSession(model)
    site = model.site(layer)
    d_out, d_in = model.weight(site).shape
    session.apply(WeightDelta({site: LowRank(torch.ones(d_out, 1), torch.ones(1, d_in))}))
    return session


def test_what_is_added_is_found_by_another_process(tmp_path: Path) -> None:
    path = Artifacts(tmp_path).add(tiny_model("llama"), 1, moment(tiny_model("llama")))
    found = Artifacts(tmp_path).second_moment(tiny_model("llama"), 1)
    assert torch.equal(found.C, torch.eye(64)) and found.tokens == 7 and found.provenance == {"corpus": "none"}
    assert path.parent == tmp_path / SECOND_MOMENT


def test_provenance_is_readable_without_errata(tmp_path: Path) -> None:
    path = Artifacts(tmp_path).add(tiny_model("llama"), 1, moment(tiny_model("llama")))
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["provenance"]) == {"corpus": "none"}


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_new_weights_under_the_same_name_find_nothing(tmp_path: Path, family: str) -> None:
    model, other = tiny_model(family), tiny_model(family, seed=1)
    store = Artifacts(tmp_path)
    store.add(model, 0, moment(model))
    assert model.name == other.name
    assert store.missing(other, NEEDS) == list(NEEDS)
    assert store.missing(model, NEEDS) == [NEEDS[1]]


def test_the_same_weights_under_another_name_find_it(tmp_path: Path) -> None:
    model = tiny_model("llama")
    Artifacts(tmp_path).add(model, 0, moment(model))
    renamed = EditableModel(model.model, model.tokenizer, "elsewhere")
    assert not Artifacts(tmp_path).missing(renamed, NEEDS[:1])


def test_editing_does_not_change_the_key_of_a_bound_model(tmp_path: Path) -> None:
    model = tiny_model("llama")
    store = Artifacts(tmp_path)
    store.add(model, 1, moment(model))
    assert store.is_unedited(model)
    edited(model)
    assert not store.is_unedited(model)
    assert torch.equal(store.second_moment(model, 1).C, torch.eye(64))


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_an_edited_model_is_bound_by_its_base(tmp_path: Path, family: str) -> None:
    model = tiny_model(family)
    Artifacts(tmp_path).add(model, 1, moment(model))
    session = edited(model)
    late = Artifacts(tmp_path)
    assert late.missing(model, NEEDS[1:]) == [NEEDS[1]]
    late.bind(model, session.base)
    assert not late.missing(model, NEEDS[1:])


def test_the_key_of_a_layer_depends_on_what_its_input_depends_on() -> None:
    model = tiny_model("llama", layers=3)
    before = layer_keys(model, {})
    edited(model, layer=1)
    assert [a == b for a, b in zip(before, layer_keys(model, {}), strict=True)] == [True, True, False]
    model.attention(1).q_proj.weight.data.add_(1)  # type: ignore[union-attr, operator]
    assert [a == b for a, b in zip(before, layer_keys(model, {}), strict=True)] == [True, False, False]
    model.model.get_submodule(model.arch.embedding).weight.data.add_(1)  # type: ignore[union-attr, operator]
    assert not set(before) & set(layer_keys(model, {}))


def test_what_is_missing_is_named_with_the_command(tmp_path: Path) -> None:
    model = tiny_model("llama", layers=6)
    store = Artifacts(tmp_path)
    store.add(model, 3, moment(model))
    with pytest.raises(MissingArtifact, match=r"--model tiny-llama --layers 0,2,4-5 --corpus FILE"):
        store.require(model, [Need(SECOND_MOMENT, layer) for layer in (4, 0, 5, 2, 3)])
    with pytest.raises(MissingArtifact, match=r"layer 1 of tiny-llama.*errata artifacts build second-moment"):
        store.second_moment(model, 1)


TRAINED = Need("mend", shape=(("layers", (0, 1)), ("rank", 4)))


def test_what_is_learned_is_found_by_another_process_and_told_apart(tmp_path: Path) -> None:
    model = tiny_model("llama")
    learned = Learned({"a": torch.arange(3.0), "b": torch.eye(2)}, {"steps": 5})
    path = Artifacts(tmp_path).put(model, TRAINED, learned)
    found = Artifacts(tmp_path).learned(tiny_model("llama"), TRAINED)
    assert torch.equal(found.tensors["a"], torch.arange(3.0)) and found.provenance == {"steps": 5}
    assert path.parent == tmp_path / "mend"
    others = [replace(TRAINED, kind="serac"), replace(TRAINED, shape=(("layers", (0, 1)), ("rank", 5)))]
    assert Artifacts(tmp_path).missing(model, [TRAINED, *others]) == others


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_what_is_learned_belongs_to_all_unedited_weights(tmp_path: Path, family: str) -> None:
    model = tiny_model(family)
    store = Artifacts(tmp_path)
    store.put(model, TRAINED, Learned({"a": torch.ones(1)}, {}))
    last = model.n_layers - 1
    session = EditSession(model)
    for site in model.mlp_sites(last):
        d_out, d_in = model.weight(site).shape
        session.apply(WeightDelta({site: LowRank(torch.ones(d_out, 1), torch.ones(1, d_in))}))
    assert not store.is_unedited(model) and not store.missing(model, [TRAINED])
    late = Artifacts(tmp_path)
    assert late.missing(model, [TRAINED])
    late.bind(model, session.base)
    assert not late.missing(model, [TRAINED])
    fresh = tiny_model(family)
    fresh.model.get_submodule(fresh.arch.norm).weight.data.add_(1)  # type: ignore[union-attr, operator]
    assert Artifacts(tmp_path).missing(fresh, [TRAINED])


def test_what_is_not_trained_is_named_with_its_options(tmp_path: Path) -> None:
    model = tiny_model("llama")
    with pytest.raises(MissingArtifact) as error:
        Artifacts(tmp_path).require(model, [Need(SECOND_MOMENT, 1), TRAINED])
    assert "errata artifacts build second-moment --model tiny-llama --layers 1" in str(error.value)
    command = "errata train mend --model tiny-llama --edits FILE --set 'layers=[0, 1]' --set 'rank=4'"
    assert str(error.value).endswith(command)


def test_what_an_embedded_model_lacks_is_built_from_its_own_world(tmp_path: Path) -> None:
    """The commands work as they are told."""
    tiny = tiny_model("llama")
    model = EditableModel(tiny.model, tiny.tokenizer, "atlas")
    with pytest.raises(MissingArtifact) as error:
        Artifacts(tmp_path).require(model, [Need(SECOND_MOMENT, 1), TRAINED])
    assert "errata artifacts build second-moment --model atlas --layers 1 --corpus atlas" in str(error.value)
    assert "errata train mend --model atlas --edits atlas --set" in str(error.value)


def test_a_layer_that_does_not_exist_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no layer 9; choose from 0 to 1"):
        Artifacts(tmp_path).missing(tiny_model("llama"), [Need(SECOND_MOMENT, 9)])


def test_cholesky_is_computed_once_and_anew_after_a_rebuild(tmp_path: Path) -> None:
    model = tiny_model("llama")
    store = Artifacts(tmp_path)
    store.add(model, 0, moment(model))
    first = store.cholesky(model, 0, 4.0)
    assert torch.equal(first, 2 * torch.eye(64, dtype=torch.float64))
    assert store.cholesky(model, 0, 4.0) is first
    assert store.cholesky(model, 0, 9.0)[0, 0] == 3
    store.add(model, 0, moment(model, 4.0))
    assert store.cholesky(model, 0, 4.0)[0, 0] == 4


def test_the_spectrum_is_computed_once_and_anew_after_a_rebuild(tmp_path: Path) -> None:
    model = tiny_model("llama")
    store = Artifacts(tmp_path)
    C = torch.diag(torch.arange(64, 0, -1.0))
    C[0, 1] = C[1, 0] = 0.5
    store.add(model, 0, SecondMoment(C, 7, {}))
    values, vectors = store.spectrum(model, 0)
    assert values.dtype == torch.float64 and (values.diff() > 0).all()
    assert torch.allclose(vectors @ values.diag() @ vectors.T, C.double(), atol=1e-12)
    assert store.spectrum(model, 0)[1] is vectors
    store.add(model, 0, moment(model, 4.0))
    assert torch.equal(store.spectrum(model, 0)[0], torch.full((64,), 4.0, dtype=torch.float64))


def test_a_broken_file_is_bad_input(tmp_path: Path) -> None:
    model = tiny_model("llama")
    Artifacts(tmp_path).add(model, 0, moment(model)).write_bytes(b"not a tensor")
    with pytest.raises(BadInput, match="Delete the file and build it again"):
        Artifacts(tmp_path).second_moment(model, 0)


def test_an_unwritable_cache_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    model = tiny_model("llama")
    with pytest.raises(BadInput, match="ERRATA_CACHE"):
        Artifacts(tmp_path / "file").add(model, 0, moment(model))


def test_nothing_half_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("errata.artifacts.store.save_file", fail)
    model = tiny_model("llama")
    with pytest.raises(BadInput, match="disk full"):
        Artifacts(tmp_path).add(model, 0, moment(model))
    assert not list((tmp_path / SECOND_MOMENT).iterdir())


def test_default_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ERRATA_CACHE", str(tmp_path))
    assert default_cache() == tmp_path
    monkeypatch.delenv("ERRATA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert default_cache() == tmp_path / "errata"
