"""The table: what it holds and what it refuses."""

import pytest
from transformers import AutoConfig

from errata.errors import UnsupportedModel
from errata.model.architecture import ARCHITECTURES, architecture, check_config

PROMISED = "gpt2 gpt_neox llama mistral qwen2 qwen3 gptj opt gemma gemma2 gemma3_text phi".split()


def test_promised_families_have_rows() -> None:
    assert set(PROMISED) <= set(ARCHITECTURES)
    assert all(row.model_type == name for name, row in ARCHITECTURES.items())


def test_unknown_family_names_the_nearest_and_the_next_command() -> None:
    with pytest.raises(UnsupportedModel, match=r"'lama'.*Did you mean llama\?.*gpt2.*errata doctor"):
        architecture("lama")


@pytest.mark.parametrize(("family", "options"), [("opt", {"do_layer_norm_before": False}), ("falcon", {"alibi": True})])
def test_members_laid_out_differently_are_refused(family: str, options: dict[str, bool]) -> None:
    with pytest.raises(UnsupportedModel, match=next(iter(options))):
        check_config(architecture(family), AutoConfig.for_model(family, **options), "odd")
    check_config(architecture(family), AutoConfig.for_model(family), "usual")
