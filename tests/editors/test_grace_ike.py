"""GRACE's value against a plain optimisation through the whole model, its options, and what IKE hands over."""

from dataclasses import replace
from itertools import combinations
from statistics import median
from typing import Any

import pytest
import torch
from torch import Tensor

from errata.editors.base import EditResult
from errata.editors.grace import Grace
from errata.editors.ike import Ike
from errata.errors import BadInput
from errata.model.editable import EditableModel
from errata.model.hooks import hooked
from errata.model.scoring import score_targets
from errata.model.tokens import encode, encode_target, pad
from errata.testing import tiny_model
from errata.types import EditRequest
from errata.update.codebook import Codebook
from errata.update.notes import Notes
from errata.update.session import EditSession

FRANCE = EditRequest("1", "The capital of France is", "France", "Rome", "Paris")
CURIE = EditRequest("2", "Marie Curie was born in", "Marie Curie", "Ulm", "Warsaw")
GRACE = Grace(1, steps=12, lr=0.3, contexts=((4, 6),))


def edit(editor: Any, model: EditableModel, request: EditRequest, state: Any = None) -> EditResult:
    result: EditResult = editor.edit(model, [request], state or {}, None)
    return result


def entry(result: EditResult) -> Codebook:
    assert isinstance(result.update, Codebook)
    return result.update


def searched(
    model: EditableModel, request: EditRequest, layer: int, start: Tensor | None, steps: int, lr: float
) -> tuple[Tensor, Tensor]:
    """The value that torch's own Adam finds when it is put into the whole model at the prompt's last token."""
    ids, begin = encode_target(model.tokenizer, request.prompt, request.target_new)
    batch, module = pad([ids], model.pad_id), model.down(layer)
    seen: list[Tensor] = []
    with hooked([module.register_forward_hook(lambda _, args, output: seen.extend((args[0], output)))]):
        model.forward(batch)
    key = seen[0].reshape(-1, seen[0].shape[-1])[begin - 1]
    own = seen[1].reshape(-1, seen[1].shape[-1])[begin - 1]
    value = (own if start is None else start).detach().clone().requires_grad_()
    optimiser = torch.optim.Adam([value], lr)

    def put(_: Any, args: Any, output: Tensor) -> Tensor:
        flat = output.reshape(-1, output.shape[-1])
        return torch.cat([flat[: begin - 1], value[None], flat[begin:]]).reshape(output.shape)

    for _ in range(steps - 1):  # as everywhere in Errata, the last step is only looked at
        with hooked([module.register_forward_hook(put)]):
            logp = model.forward(batch)[0].log_softmax(-1)
        loss = -torch.stack([logp[place - 1, ids[place]] for place in range(begin, len(ids))]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return key.detach(), value.detach()


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "opt"])
def test_the_value_is_what_adam_finds_in_the_whole_model(family: str) -> None:
    model = tiny_model(family, layers=3, dtype=torch.float64)
    if model.arch.mlp_norm is not None:  # behind a norm the value is not what is added to the stream
        model.model.get_submodule(f"{model.arch.layers}.1.{model.arch.mlp_norm}").weight.add_(0.5)
    found = entry(edit(replace(GRACE, loss_stop=0.0), model, FRANCE))
    key, value = searched(model, FRANCE, 1, None, GRACE.steps, GRACE.lr)
    torch.testing.assert_close(found.keys[0], key, rtol=0, atol=1e-8)
    torch.testing.assert_close(found.values[0], value, rtol=0, atol=1e-8)
    assert found.site == model.site(1) and found.labels == ("Rome",)


def test_a_cold_start_is_drawn_from_the_seed() -> None:
    model = tiny_model("llama", dtype=torch.float64)
    cold = replace(GRACE, cold=True, loss_stop=0.0)
    drawn = torch.rand(32, generator=torch.Generator().manual_seed(7)).double()
    _, value = searched(model, FRANCE, 1, drawn, GRACE.steps, GRACE.lr)
    torch.testing.assert_close(entry(edit(replace(cold, seed=7), model, FRANCE)).values[0], value, rtol=0, atol=1e-8)
    assert not torch.equal(
        entry(edit(cold, model, FRANCE)).values, entry(edit(replace(cold, seed=7), model, FRANCE)).values
    )


def test_the_same_answer_nearby_goes_on_from_its_value() -> None:
    model = tiny_model("llama", dtype=torch.float64)
    session = EditSession(model)
    wide = replace(GRACE, eps=50.0, loss_stop=0.0)
    first = edit(wide, model, FRANCE)
    session.apply(first.update)
    again = replace(CURIE, target_new="Rome")
    second = entry(edit(wide, model, again, first.state))
    key, value = searched(
        tiny_model("llama", dtype=torch.float64), again, 1, entry(first).values[0], wide.steps, wide.lr
    )
    torch.testing.assert_close(second.keys[0], key, rtol=0, atol=1e-8)
    torch.testing.assert_close(second.values[0], value, rtol=0, atol=1e-6)
    assert len(second) == 1, "an update holds the entries of its own requests alone"
    session.apply(second)
    (book,) = model.patches
    assert isinstance(book, Codebook) and (len(book), len(book.regions.labels)) == (2, 1)
    session.apply(edit(wide, model, CURIE, first.state).update)
    assert isinstance(model.patches[0], Codebook) and model.patches[0].regions.labels == ("Rome", "Ulm")


def test_the_radius_is_a_share_of_the_distance_between_unrelated_texts() -> None:
    model = tiny_model("llama", dtype=torch.float64)
    result = edit(GRACE, model, FRANCE)
    keys = []
    for text in result.details[0]["contexts"]:
        ids = encode(model.tokenizer, text)
        keys.append(model.inputs_at(pad([ids], 0), [model.site(1)], torch.tensor([len(ids) - 1]))[model.site(1)][0])
    assert len(keys) == 6
    distances = [float((a - b).norm()) for a, b in combinations(keys, 2)]
    assert float(entry(result).radii[0]) == pytest.approx(0.3 * median(distances), rel=1e-9)
    fixed = edit(replace(GRACE, contexts=(), eps=1.5), model, FRANCE)
    assert entry(fixed).radii.tolist() == [1.5]
    assert torch.equal(edit(GRACE, model, CURIE, result.state).state["scale"], result.state["scale"])


def test_the_papers_write_one_request_in_a_chunk() -> None:
    model, state, sizes = tiny_model("llama"), {}, []
    for _ in range(5):
        result = edit(replace(GRACE, chunk=3), model, FRANCE, state)
        state = result.state
        sizes.append(len(entry(result)))
    assert sizes == [1, 0, 0, 1, 0]
    assert result.details[0]["loss"] is None
    session = EditSession(model)
    session.apply(result.update)
    assert model.generate(["Norway"], 4) == tiny_model("llama").generate(["Norway"], 4)


def test_the_released_code_looks_the_last_token_of_a_prompt_up_and_no_other() -> None:
    """Behind the edited prompt the model goes on as if nothing had been said; by default it was said there too."""
    grace = replace(GRACE, layer=0, last_only=True)  # below an attention that can look back at the edited prompt
    update = entry(edit(grace, tiny_model("llama", dtype=torch.float64), FRANCE))
    asked = [(FRANCE.prompt, "Rome"), (f"{FRANCE.prompt} so much warmer than Norway", "Rome")]
    scores = []
    for patches in ((), (update,), (replace(update, last_only=False),)):
        model = tiny_model("llama", dtype=torch.float64)
        model.attach(patches)
        scores.append([score.mean for score in score_targets(model, asked)])
    plain, last, every = scores
    assert last[1] == pytest.approx(plain[1], abs=1e-12) and abs(every[1] - plain[1]) > 1e-4
    assert last[0] == pytest.approx(every[0], abs=1e-9) and abs(last[0] - plain[0]) > 1e-2


def test_a_pass_in_which_no_prompt_ends_is_not_looked_up_by_the_released_code() -> None:
    model = tiny_model("llama")
    update = entry(edit(replace(GRACE, last_only=True), model, FRANCE))
    batch = pad([encode(model.tokenizer, FRANCE.prompt)] * 2, model.pad_id)
    plain = model.forward(batch)
    model.attach([update])
    assert torch.equal(model.forward(batch), plain)
    ends = batch.lengths - 1
    with model.asked_at(ends - torch.tensor([0, 1])):
        changed = model.forward(batch)
    assert not torch.allclose(changed[0, -1], plain[0, -1], atol=1e-3)
    assert torch.equal(changed[1], plain[1]) and torch.equal(changed[0, :-1], plain[0, :-1])


def test_an_edit_is_learnt_and_stays_where_it_is() -> None:
    model = tiny_model("llama")
    session = EditSession(model)
    request = replace(FRANCE, target_new="Berlin")
    asked = [(FRANCE.prompt, "Berlin"), ("Albert Einstein was born in", "Ulm")]
    before = score_targets(model, asked)
    session.apply(edit(replace(GRACE, steps=60, eps=0.05), model, request).update)
    after = score_targets(model, asked)
    assert after[0].matched == 1 > before[0].matched and after[0].mean > before[0].mean + 1
    assert after[1] == before[1]


@pytest.mark.parametrize(
    "options", [{"eps": 0.0}, {"chunk": 0}, {"contexts": ((4, 1),)}, {"steps": 0}, {"lr": -1.0}], ids=str
)
def test_grace_refuses_what_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        replace(GRACE, **options)


@pytest.mark.parametrize("options", [{"threshold": 1.5}, {"demonstrations": -1}], ids=str)
def test_ike_refuses_what_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        Ike(1, **options)


def test_ike_writes_many_at_once_as_one_by_one() -> None:
    model = tiny_model("llama", dtype=torch.float64)
    ike = Ike(1, contexts=((4, 6),))
    both = ike.edit(model, [FRANCE, CURIE], {}, None)  # type: ignore[arg-type]
    first = edit(ike, model, FRANCE)
    apart = [first.update, edit(ike, model, CURIE, first.state).update]
    assert isinstance(both.update, Notes) and isinstance(apart[0], Notes) and isinstance(apart[1], Notes)
    joined = apart[0].joined(apart[1])
    assert joined.facts == both.update.facts and len(joined) == 2
    torch.testing.assert_close(joined.embeddings, both.update.embeddings, rtol=0, atol=1e-8)
    assert torch.equal(joined.center, both.update.center)
