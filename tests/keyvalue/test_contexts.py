"""Prefixes: sampled from the model with a generator of their own, kept in the state, used again."""

import pytest
import torch

from errata.errors import BadInput
from errata.keyvalue.contexts import STARTS, contexts, even, grouped, groups, sample_prefixes
from errata.model.tokens import encode
from errata.testing import tiny_model

SIZES = ((4, 3), (7, 2))


def test_seed_decides_and_the_global_generator_does_not() -> None:
    model = tiny_model("llama")
    torch.manual_seed(1)
    first = sample_prefixes(model, SIZES, (), seed=5)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(sample_prefixes(model, SIZES, (), seed=5), first)
    assert not torch.equal(sample_prefixes(model, SIZES, (), seed=6), first)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


def test_two_models_do_not_share_prefixes() -> None:
    one, two = tiny_model("llama"), tiny_model("llama", seed=1)
    assert not torch.equal(sample_prefixes(one, SIZES, (), 0), sample_prefixes(two, SIZES, (), 0))


def test_lengths_are_as_asked_and_no_token_is_special() -> None:
    model = tiny_model("llama")
    ids = sample_prefixes(model, SIZES, (), 0)
    assert [(row >= 0).sum().item() for row in ids] == [3, 3, 3, 6, 6]  # BOS counts, and is left out
    assert not set(ids.flatten().tolist()) & set(model.tokenizer.all_special_ids)


def test_prefixes_begin_with_their_words() -> None:
    model = tiny_model("gpt2")
    sizes = ((12, 7),)
    found = contexts(model, sizes, grouped(sizes), {}, 0, STARTS)
    assert [p.startswith(STARTS[i % 5]) for i, p in enumerate(found.prefixes)] == [True] * 7


def test_a_prefix_does_not_depend_on_those_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of unequal length share a pass, and each goes on from its own end."""
    monkeypatch.setattr("errata.keyvalue.contexts.TOP_K", 1)
    model = tiny_model("llama")
    assert len({len(encode(model.tokenizer, word)) for word in STARTS}) > 1
    together = sample_prefixes(model, ((12, 5),), STARTS, 0)
    for row, word in zip(together, STARTS, strict=True):
        (alone,) = sample_prefixes(model, ((12, 1),), (word,), 0)
        assert row[row >= 0].tolist() == alone.tolist()


def test_state_is_used_again_whatever_the_seed_and_the_model() -> None:
    model = tiny_model("llama")
    first = contexts(model, SIZES, even(SIZES), {}, seed=0)
    later = contexts(tiny_model("llama", seed=1), SIZES, even(SIZES), first.state(), seed=7)
    assert later.prefixes == first.prefixes


def test_state_of_other_options_is_bad_input() -> None:
    model = tiny_model("llama")
    state = contexts(model, SIZES, even(SIZES), {}, seed=0).state()
    with pytest.raises(BadInput, match=r"5 contexts.*ask for 3"):
        contexts(model, ((4, 3),), even(((4, 3),)), state, seed=0)


def test_no_contexts_leave_the_bare_prompt() -> None:
    found = contexts(tiny_model("llama"), (), even(()), {}, 0)
    assert found.texts("A prompt") == ["A prompt"]
    assert found.weights.tolist() == [1.0]


def test_weights_of_contexts() -> None:
    assert even(SIZES).tolist() == pytest.approx([1 / 6] * 6)
    assert grouped(SIZES).tolist() == pytest.approx([1 / 3, 1 / 9, 1 / 9, 1 / 9, 1 / 6, 1 / 6])


@pytest.mark.parametrize("value", [[[5]], [[0, 3]], [["a", 3]], 7, [5, 10]])
def test_contexts_are_pairs_of_numbers(value: object) -> None:
    with pytest.raises(BadInput, match="pairs of length and count"):
        groups(value)  # type: ignore[arg-type]


def test_a_model_that_gives_nan_is_bad_input() -> None:
    model = tiny_model("llama")
    model.down(0).weight.data.fill_(torch.nan)
    with pytest.raises(BadInput, match="errata doctor"):
        sample_prefixes(model, SIZES, (), 0)
