"""Causal tracing where it is known what must come out."""

import pytest
import torch

from errata.errors import BadInput
from errata.model.editable import EditableModel
from errata.model.locate import LayerEffect, Trace, trace
from errata.model.tokens import encode, pad
from errata.testing import tiny_model
from errata.types import EditCase, EditRequest

AT_END = (("The capital of France", "France"), ("It is said that Marie Curie", "Marie Curie"), ("Pure gold", "gold"))
WITHIN = (("France has its seat of government in", "France"), ("Marie Curie was born in the city of", "Marie Curie"))


def known(model: EditableModel, prompts: tuple[tuple[str, str], ...]) -> list[EditCase]:
    """Cases that the model is made to know: the head prefers the letter "A" by far too little to be certain of it."""
    answer = model.tokenizer.convert_tokens_to_ids("ĠA")
    ids = [encode(model.tokenizer, prompt) for prompt, _ in prompts]
    batch = pad(ids, 0)
    hidden = model.hidden_at(batch, model.n_layers - 1, batch.lengths - 1).mean(0)
    head = model.model.get_submodule(model.arch.head).weight
    assert isinstance(head, torch.Tensor) and isinstance(answer, int)
    head.data[answer] += 3 * hidden / hidden.norm()
    return [EditCase(EditRequest(str(i), p, s, "B", "A")) for i, (p, s) in enumerate(prompts)]


def untied(family: str = "gptj") -> EditableModel:
    return tiny_model(family, layers=3)


def effects(found: Trace, kind: str) -> list[LayerEffect]:
    return [effect for effect in found.effects if effect.kind == kind]


def test_restoring_all_there_is_gives_everything_back() -> None:
    model = untied()
    found = trace(model, known(model, AT_END), samples=4)
    assert found.cases == 3 and found.skipped == 0
    assert found.clean > found.corrupted + 0.01
    assert effects(found, "hidden")[-1].effect == pytest.approx(found.clean - found.corrupted, abs=1e-5)


def test_the_last_layer_within_a_prompt_gives_nothing_back() -> None:
    model = untied()
    found = trace(model, known(model, WITHIN), samples=4)
    first, *_, last = effects(found, "hidden")
    assert last.effect == pytest.approx(0, abs=1e-6)
    assert abs(first.effect) > 1e-5
    assert effects(found, "mlp")[-1].effect == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("family", ["gptj", "llama", "opt"])
def test_only_the_mlp_that_works_has_an_effect(family: str) -> None:
    model = untied(family)
    for layer in (0, 2):
        model.down(layer).weight.data.zero_()  # type: ignore[operator, union-attr]
    found = trace(model, known(model, AT_END), samples=4)
    zero, one, two = (effect.effect for effect in effects(found, "mlp"))
    assert zero == pytest.approx(0, abs=1e-6) and two == pytest.approx(0, abs=1e-6)
    assert abs(one) > 1e-5


def test_a_wide_window_restores_neighbours_too() -> None:
    model = untied()
    cases = known(model, AT_END)
    for layer in (0, 2):
        model.down(layer).weight.data.zero_()  # type: ignore[operator, union-attr]
    single = effects(trace(model, cases, samples=4, window=1), "mlp")
    wide = effects(trace(model, cases, samples=4, window=3), "mlp")
    for effect in wide:
        assert effect.effect == pytest.approx(single[1].effect, abs=1e-6)


def test_noise_is_seeded_and_the_global_generator_is_left_alone() -> None:
    model = untied()
    cases = known(model, AT_END)
    state = torch.get_rng_state()
    first = trace(model, cases, samples=2, seed=1)
    assert trace(model, cases, samples=2, seed=1) == first
    assert trace(model, cases, samples=2, seed=2) != first
    assert torch.equal(torch.get_rng_state(), state)


def test_more_noise_corrupts_more_and_intervals_hold_the_mean() -> None:
    model = untied()
    cases = known(model, AT_END)
    weak, strong = (trace(model, cases, samples=8, noise=noise) for noise in (0.1, 3.0))
    assert weak.clean == strong.clean
    assert weak.corrupted > strong.corrupted
    assert all(e.low <= e.effect <= e.high for e in strong.effects)


def test_unknown_answers_are_left_out_and_all_of_them_are_bad_input() -> None:
    model = untied()
    cases = known(model, AT_END)
    unknown = EditCase(EditRequest("u", "Gold", "Gold", "B", "zzz"))
    without = EditCase(EditRequest("w", "Gold", "Gold", "B"))
    assert trace(model, [*cases, unknown, without], samples=1).skipped == 2
    with pytest.raises(BadInput, match="knows none of the 2 answers"):
        trace(model, [unknown, without])


def test_tracing_leaves_the_model_alone_and_tells_its_progress() -> None:
    model = untied()
    cases = known(model, AT_END)
    before, seen = model.fingerprint(), list[tuple[str, int, int]]()
    peak = trace(model, cases, samples=1, progress=lambda *args: seen.append(args)).peak()
    assert model.fingerprint() == before and 0 <= peak < 3
    assert seen == [("tracing", 1, 3), ("tracing", 2, 3), ("tracing", 3, 3)]
