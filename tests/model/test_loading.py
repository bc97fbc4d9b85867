"""Models by name: what is found, and what is said when nothing is."""

import json
from pathlib import Path

import pytest
import torch

from errata.errors import BadInput, UnsupportedModel
from errata.model.editable import EditableModel
from errata.model.loading import load, resolve
from errata.testing import tiny_model


def saved(model: EditableModel, folder: Path) -> Path:
    model.model.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma"])
def test_a_folder_gives_the_same_weights_tokens_and_dtype(family: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = tiny_model(family, dtype=dtype)
    loaded = load(str(saved(model, tmp_path)))
    assert loaded.fingerprint() == model.fingerprint()
    assert loaded.dtype == dtype and loaded.name == str(tmp_path)
    for text in ("The capital of Å", "one two 3"):
        assert loaded.tokenizer(text).input_ids == model.tokenizer(text).input_ids
    assert loaded.generate(["The capital"], 6) == model.generate(["The capital"], 6)


def test_dtype_and_device_can_be_chosen(tmp_path: Path) -> None:
    folder = str(saved(tiny_model("llama"), tmp_path))
    assert load(folder, dtype="bfloat16", device="cpu").dtype == torch.bfloat16
    with pytest.raises(BadInput, match="no dtype 'int3'; choose from float32"):
        load(folder, dtype="int3")
    with pytest.raises(BadInput, match="no device 'tpu9'"):
        load(folder, device="tpu9")


@pytest.mark.parametrize("name", ["someone/nothing-at-all", "no-such-model"])
def test_unknown_names_are_not_fetched(name: str) -> None:
    with pytest.raises(BadInput, match=f"no model '{name}'.*ERRATA_DOWNLOAD=1"):
        load(name)


def test_folder_without_config(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"without config\.json"):
        resolve(str(tmp_path))


def test_unknown_family_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "never_seen"}))
    with pytest.raises(UnsupportedModel, match=r"'never_seen'.*Supported: falcon"):
        load(str(tmp_path))


def test_missing_weights_are_named(tmp_path: Path) -> None:
    folder = saved(tiny_model("llama"), tmp_path)
    (folder / "model.safetensors").unlink()
    with pytest.raises(BadInput, match="safetensors"):
        load(str(folder))


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    folder = saved(tiny_model("llama"), tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(BadInput):
        load(str(folder))


def test_a_model_that_gives_nan_before_any_edit(tmp_path: Path) -> None:
    model = tiny_model("llama")
    model.write(model.site(0), torch.full_like(model.weight(model.site(0)), torch.nan))
    with pytest.raises(BadInput, match="NaN or infinite logits before any edit"):
        load(str(saved(model, tmp_path)))
