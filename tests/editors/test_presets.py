"""Published hyperparameters: chosen by the model's config, complete, each with its source."""

from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from errata.editors import presets
from errata.editors.presets import RELEASED, _table, preset, published, sources
from errata.errors import BadInput
from errata.registry import load_editor
from errata.testing import tiny_model

METHODS = sorted(file.stem for file in Path(presets.__file__).parent.glob("*.yaml"))


LEFT_OPEN = {"serac": {"counterfactual": "a small model"}}
"""What a preset may leave to the user."""


def like(**config: Any) -> Any:
    """What `preset` looks at of a model: its config, depth and the width of an edited matrix."""
    wide = SimpleNamespace(shape=(1, config.get("intermediate_size", 100)))
    return SimpleNamespace(
        model=SimpleNamespace(config=SimpleNamespace(**config)),
        n_layers=config.get("num_hidden_layers", 6),
        site=lambda layer: str(layer),
        weight=lambda site: wide,
    )


GPT2_XL = like(model_type="gpt2", hidden_size=1600, num_hidden_layers=48)
LLAMA_2 = like(model_type="llama", hidden_size=4096, num_hidden_layers=32, intermediate_size=11008)
LLAMA_3 = like(model_type="llama", hidden_size=4096, num_hidden_layers=32, intermediate_size=14336)
PYTHIA_1B = like(model_type="gpt_neox", hidden_size=2048, num_hidden_layers=16)
ATLAS = like(model_type="llama", hidden_size=256, num_hidden_layers=6, vocab_size=2048)


def test_published_values() -> None:
    assert preset("rome", GPT2_XL)["layer"] == 17
    assert preset("rome", LLAMA_2) == preset("rome", LLAMA_3)
    assert preset("rome", PYTHIA_1B)["layer"] == 7
    assert preset("memit", GPT2_XL) == {
        "layers": [13, 14, 15, 16, 17],
        "steps": 20,
        "lr": 0.5,
        "weight_decay": 0.5,
        "clamp": 0.75,
        "kl": 0.0625,
        "moment_weight": 20000,
        "contexts": [[10, 5]],
    }
    assert preset("memit", LLAMA_3)["lr"] == 0.1


def test_fine_tuning_has_the_authors_layers_and_bounds() -> None:
    assert (preset("ft", GPT2_XL)["layer"], preset("ft", LLAMA_2)["layer"]) == (1, 21)
    bound = preset("ft_l", GPT2_XL)
    assert (bound["layer"], bound["limit"], bound["lr"], bound["steps"]) == (0, 5e-4, 5e-4, 25)
    assert preset("ft_m", LLAMA_2) == preset("ft", LLAMA_2)
    assert preset("lora", LLAMA_2)["steps"] == 70 and preset("lora", GPT2_XL)["steps"] == 30
    for depth in (12, 24, 16, 32, 36):
        assert 0 < preset("ft_m", like(model_type="gpt_neox", num_hidden_layers=depth))["layer"] < depth


def test_kn_as_the_papers_ran_it_refines_nothing_and_takes_one_step_on_llama() -> None:
    for model, steps in ((GPT2_XL, 20), (LLAMA_2, 1), (PYTHIA_1B, 20)):
        assert preset("kn", model)["steps"] == 20 and preset("kn", model)["contexts"]
        released = preset("kn", model, RELEASED)
        assert released["steps"] == steps and released["contexts"] == [] and released["threshold"] == 0.2


def test_covariance_is_on_and_the_papers_way_has_a_name() -> None:
    for model in (GPT2_XL, LLAMA_2, PYTHIA_1B, ATLAS):
        assert preset("rome", model)["covariance"] is True
        assert preset("rome", model, RELEASED)["covariance"] is False
    assert preset("memit", LLAMA_2, RELEASED)["clamp"] == 4
    with pytest.raises(BadInput, match="variant 'relesed'"):
        preset("rome", GPT2_XL, "relesed")


def test_the_newer_methods_have_what_was_published() -> None:
    assert preset("emmet", GPT2_XL)["gram_ridge"] == 0 and preset("emmet", GPT2_XL, RELEASED)["gram_ridge"] == 0.1
    assert preset("emmet", GPT2_XL)["layers"] == [17]
    assert preset("pmet", LLAMA_2)["clamp"] == 1 and preset("pmet", LLAMA_2)["moment_weight"] == 15000
    faults = {"target_apart", "left_padding"}
    for model, had in ((LLAMA_2, faults), (GPT2_XL, {"left_padding"}), (PYTHIA_1B, {"target_apart"}), (ATLAS, faults)):
        assert not faults & preset("pmet", model).keys()
        assert {fault for fault in faults if preset("pmet", model, RELEASED).get(fault)} == had
    assert (preset("alphaedit", GPT2_XL)["threshold"], preset("alphaedit", LLAMA_3)["l2"]) == (0.02, 10)
    assert "threshold" not in preset("alphaedit", PYTHIA_1B), "the published one is of other activations"


def test_grace_as_the_papers_ran_it() -> None:
    for model, layer, steps in ((GPT2_XL, 35, 200), (LLAMA_2, 27, 100)):
        released = preset("grace", model, RELEASED)
        assert (released["layer"], released["steps"]) == (layer, steps)
        assert (released["eps"], released["contexts"], released["cold"], released["chunk"]) == (1.0, [], True, 128)
        assert released["last_only"] and "last_only" not in preset("grace", model)
        assert "chunk" not in preset("grace", model)


def test_serac_names_a_counterfactual_model_where_one_is_known() -> None:
    found = [preset("serac", model).get("counterfactual") for model in (GPT2_XL, LLAMA_2, ATLAS, LLAMA_3)]
    assert found == ["gpt2", "JackFram/llama-160m", "atlas-small", None]
    with pytest.raises(BadInput, match="counterfactual"):
        load_editor("serac", **preset("serac", LLAMA_3))


def test_r_rome_takes_what_rome_takes() -> None:
    assert preset("r_rome", GPT2_XL) == preset("rome", GPT2_XL)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("model", [GPT2_XL, LLAMA_2, LLAMA_3, PYTHIA_1B, ATLAS, tiny_model("opt")])
def test_presets_make_an_editor_and_have_sources(method: str, model: Any) -> None:
    for variant in (None, RELEASED):
        editor = load_editor(method, **{**LEFT_OPEN.get(method, {}), **preset(method, model, variant)})
        assert editor.name == method
        told = sources(method, model, variant)
        assert told.keys() == preset(method, model, variant).keys() <= {f.name for f in fields(editor)}  # type: ignore[arg-type]
        assert all(told.values())


@pytest.mark.parametrize("method", METHODS)
def test_every_entry_is_well_formed(method: str) -> None:
    table = _table(method)
    for name in (*published(method), "guess"):
        for value, key in [*table[name]["values"].values(), *table[name].get(RELEASED, {}).values()]:
            assert value is not None and key in table["sources"]


def test_a_model_nobody_published_for_gets_a_guess_within_it() -> None:
    for depth in (2, 3, 12, 80):
        model = like(model_type="phi", num_hidden_layers=depth, intermediate_size=200)
        assert 0 <= preset("rome", model)["layer"] < depth
        assert all(0 <= layer < depth for layer in preset("memit", model)["layers"])
        assert preset("memit", model)["moment_weight"] == 280
        assert len(preset("emmet", model)["layers"]) == 1 and 0 <= preset("emmet", model)["layers"][0] < depth
        assert "errata locate" in sources("memit", model)["layers"]


def test_a_method_without_presets_has_none() -> None:
    assert preset("no_such_method", GPT2_XL) == {}
