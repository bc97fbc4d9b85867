"""Reading, overlaying and shifting a model: what each family's layers look like must not matter."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from errata.errors import BadInput
from errata.model import hooks
from errata.model.architecture import ARCHITECTURES
from errata.model.editable import EditableModel
from errata.model.tokens import TokenBatch, encode, pad
from errata.testing import tiny_model
from errata.update.delta import LowRank, WeightDelta

every_family = pytest.mark.parametrize("family", ARCHITECTURES)
TEXTS = ("The capital of France is", "Marie Curie was born in Warsaw and", "Gold")


def batch_of(model: EditableModel, *texts: str) -> TokenBatch:
    return pad([encode(model.tokenizer, text) for text in texts or TEXTS], model.pad_id)


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@every_family
def test_weight_is_seen_as_out_by_in_and_shares_memory(family: str) -> None:
    model = tiny_model(family)
    site = model.site(1)
    weight = model.weight(site)
    batch = batch_of(model)
    inner = model.inputs_at(batch, [site], None)[site].shape[-1]
    assert weight.shape == (32, inner)
    model.write(site, torch.zeros_like(weight))
    assert not model.down(1).weight.any() and not weight.any()


@every_family
def test_inputs_at_positions_are_those_of_the_rows(family: str) -> None:
    model = tiny_model(family)
    batch = batch_of(model)
    sites, positions = [model.site(1), model.site(0)], torch.tensor([2, 0, 1])
    at, everywhere = model.inputs_at(batch, sites, positions), model.inputs_at(batch, sites, None)
    assert list(at) == sites
    for site in sites:
        assert at[site].dtype == torch.float32
        assert torch.equal(at[site], everywhere[site][torch.arange(3), positions])
    alone = model.inputs_at(batch_of(model, TEXTS[2]), sites, torch.tensor([1]))
    torch.testing.assert_close(alone[sites[0]][0], at[sites[0]][2], atol=1e-5, rtol=1e-4)


@every_family
def test_reading_agrees_with_the_models_own_hidden_states(family: str) -> None:
    model = tiny_model(family)
    batch = batch_of(model)
    states = model.model(
        input_ids=batch.ids, attention_mask=batch.mask, position_ids=batch.positions, output_hidden_states=True
    ).hidden_states
    positions = batch.lengths - 1
    torch.testing.assert_close(model.hidden_at(batch, 0, positions), states[1][torch.arange(3), positions])


@every_family
def test_overlay_computes_as_merged_and_touches_nothing(family: str) -> None:
    model = tiny_model(family)
    batch, before = batch_of(model), model.fingerprint()
    first, second = model.site(0), model.site(1)
    d_out, d_in = model.weight(first).shape
    delta = WeightDelta({first: LowRank(noise(d_out, 2) * 0.1, noise(2, d_in)), second: noise(d_out, d_in) * 0.1})
    plain = model.logits(batch)
    with model.overlay(delta):
        overlaid = model.logits(batch)
    assert model.fingerprint() == before
    assert torch.equal(model.logits(batch), plain)
    for site in delta.sites:
        model.write(site, model.weight(site) + delta.dense(site))
    torch.testing.assert_close(overlaid, model.logits(batch), atol=1e-4, rtol=1e-3)
    assert (overlaid - plain).abs().max() > 0.1


def test_overlay_goes_away_when_the_work_inside_fails() -> None:
    model = tiny_model("llama")
    batch, d_out, d_in = batch_of(model), *model.weight(model.site(0)).shape
    plain = model.logits(batch)
    with pytest.raises(KeyError), model.overlay(WeightDelta({model.site(0): noise(d_out, d_in)})):
        raise KeyError
    assert torch.equal(model.logits(batch), plain)


@every_family
@pytest.mark.parametrize("part", ["layer", "mlp", "attention"])
def test_shift_moves_one_position_of_the_chosen_rows_and_keeps_gradients(family: str, part: str) -> None:
    model = tiny_model(family)
    batch, positions = batch_of(model), torch.tensor([3, -1, 1])
    parts: dict[str, Callable[[int], nn.Module]] = {
        "layer": model.layer,
        "mlp": model.mlp,
        "attention": model.attention,
    }
    module = parts[part](0)
    path = next(name for name, found in model.model.named_modules() if found is module)
    delta = noise(32).requires_grad_()
    before = model.outputs_at(batch, [path], None)[path]
    with model.shifted(module, positions, delta):
        after = model.outputs_at(batch, [path], None)[path].reshape(before.shape)
        loss = model.forward(batch).logsumexp(-1).sum()
    moved = (after - before).abs().amax(-1) > 1e-6
    assert moved.nonzero().tolist() == [[0, 3], [2, 1]]
    (gradient,) = torch.autograd.grad(loss, delta)
    assert gradient.isfinite().all() and gradient.abs().max() > 0


def test_shift_gradient_is_the_numerical_one() -> None:
    model = tiny_model("gpt2")
    model.model.double()
    batch, positions = batch_of(model), torch.tensor([3, 2, 1])

    def loss(delta: Tensor) -> Tensor:
        with model.shifted(model.mlp(0), positions, delta):
            return model.forward(batch)[:, 0].logsumexp(-1).sum() + model.forward(batch)[:, -1].square().sum()

    assert torch.autograd.gradcheck(loss, noise(32).double().requires_grad_())


def test_shift_is_out_of_place() -> None:
    """An in-place add on a hooked output breaks autograd with some kernels."""
    states = noise(2, 3, 4)
    kept = states.clone()
    moved = hooks.shift(states, torch.tensor([1, -1]), torch.ones(4))
    assert torch.equal(states, kept)
    kept[0, 1] += 1
    assert torch.equal(moved, kept)


def test_layers_may_return_tuples_or_bare_tensors() -> None:
    states, other = noise(2, 3, 4), object()
    assert hooks.main(states) is states and hooks.main((states, other)) is states
    assert hooks.with_main((noise(1), other), states) == (states, other)
    assert hooks.with_main(noise(1), states) is states


def test_flattened_rows_are_read_as_rows() -> None:
    states = noise(2, 3, 4)
    positions = torch.tensor([2, 1])
    assert torch.equal(hooks.select(states.flatten(0, 1), 2, positions), hooks.select(states, 2, positions))
    moved = hooks.shift(states.flatten(0, 1), positions, torch.ones(4))
    assert torch.equal(moved, hooks.shift(states, positions, torch.ones(4)).flatten(0, 1))


@every_family
def test_a_norm_after_the_mlp_is_declared(family: str) -> None:
    """With one, the residual stream does not receive what is added to the MLP's output (Gemma 2, OLMo 2)."""
    model = tiny_model(family)
    batch = batch_of(model)
    last, delta = batch.lengths - 1, noise(32)
    before = model.hidden_at(batch, 0, last)
    with model.shifted(model.mlp(0), last, delta):
        moved = model.hidden_at(batch, 0, last) - before
    arrives = bool((moved - delta).abs().max() < 1e-4)
    assert arrives == (model.arch.mlp_norm is None)


def test_logits_are_the_models_own_with_soft_caps() -> None:
    model = tiny_model("gemma2")
    assert model.model.config.final_logit_softcapping == 30
    head = model.model.get_submodule(model.arch.head)
    model.model.get_submodule(model.arch.embedding).weight.mul_(40)
    batch = batch_of(model)
    states = model.hidden_at(batch, 1, None)
    uncapped = head(model.model.get_submodule(model.arch.norm)(states))
    assert uncapped.abs().max() > 30 > model.logits(batch).abs().max()


@every_family
def test_padding_on_the_right_leaves_rows_as_alone(family: str) -> None:
    model = tiny_model(family)
    padded = model.logits(batch_of(model))
    for row, text in enumerate(TEXTS):
        alone = model.logits(batch_of(model, text))[0]
        torch.testing.assert_close(padded[row, : len(alone)], alone, atol=1e-4, rtol=1e-3)


def test_reading_stops_before_the_layers_it_does_not_need() -> None:
    model = tiny_model("llama", layers=4)
    ran: list[int] = []
    for layer in range(4):
        model.layer(layer).register_forward_pre_hook(lambda *_, layer=layer: ran.append(layer))
    model.inputs_at(batch_of(model), [model.site(1), model.site(0)], None)
    assert ran == [0, 1]


def test_sites_and_layers_name_each_other() -> None:
    model = tiny_model("gpt2", layers=12)
    assert model.n_layers == 12
    assert [model.layer_of(model.site(layer)) for layer in range(12)] == list(range(12))
    with pytest.raises(BadInput, match="no layer 12; choose from 0 to 11"):
        model.site(12)
    with pytest.raises(BadInput, match="in no layer"):
        model.layer_of("lm_head")
    with pytest.raises(BadInput, match=r"has no module transformer\.h\.1\.nowhere"):
        model.weight("transformer.h.1.nowhere")
    with pytest.raises(BadInput, match="is not a linear map"):
        model.weight("transformer.h.1.ln_1")


def test_fingerprint_sees_one_bit_and_stops_at_a_layer() -> None:
    model = tiny_model("llama", layers=3)
    whole, below = model.fingerprint(), model.fingerprint(through=1)
    assert model.fingerprint() == whole != below
    weight = model.weight(model.site(2)).clone()
    weight[0, 0] = torch.nextafter(weight[0, 0], torch.tensor(1.0))
    model.write(model.site(2), weight)
    assert model.fingerprint() != whole
    assert model.fingerprint(through=1) == below != model.fingerprint(through=2)


def test_tiny_models_are_seeded_and_leave_the_random_state_alone() -> None:
    state = torch.get_rng_state()
    assert tiny_model("llama", seed=1).fingerprint() == tiny_model("llama", seed=1).fingerprint()
    assert tiny_model("llama", seed=1).fingerprint() != tiny_model("llama", seed=2).fingerprint()
    assert torch.equal(torch.get_rng_state(), state)
