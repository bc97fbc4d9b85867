"""The search for offsets: when it stops, what bounds it, and that requests do not touch each other."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from errata.errors import BadInput
from errata.keyvalue.contexts import Contexts, even
from errata.keyvalue.keys import lay_out
from errata.keyvalue.replay import record, record_parts
from errata.keyvalue.targets import Objective, Target, at_stream, bare, interleave, optimise
from errata.model.editable import EditableModel
from errata.model.tokens import pad
from errata.testing import tiny_model
from errata.types import EditRequest

CONTEXTS = Contexts(torch.zeros(2, 0), ("It is said", "Because of a much longer beginning than that"), even(((5, 2),)))
REQUESTS = (
    EditRequest("1", "The capital of France", "France", "Berlin"),
    EditRequest("2", "Marie Curie", "Marie Curie", "Ulm is a very long answer"),
    EditRequest("3", "The symbol of gold", "gold", "A"),
)
LOOSE = Objective(steps=12, lr=0.5, weight_decay=0.01, clamp=50.0, kl=0.0625, loss_stop=0.05)


def search(model: EditableModel, objective: Objective, *requests: EditRequest) -> list[Target]:
    layouts = [lay_out(model, request, CONTEXTS) for request in requests]
    replay = record(model, 0, interleave(layouts))
    return optimise(replay, layouts, replay.stream[bare(layouts), 0], objective, at_stream)


@pytest.fixture
def model() -> EditableModel:
    return tiny_model("llama", dtype=torch.float64)


def test_requests_of_a_batch_do_not_influence_each_other(model: EditableModel) -> None:
    stopping = replace(LOOSE, steps=30, loss_stop=3.0)
    together = search(model, stopping, *REQUESTS)
    assert len({target.steps for target in together}) > 1, "they should leave the batch at different steps"
    for request, found in zip(REQUESTS, together, strict=True):
        (single,) = search(model, stopping, request)
        assert single.steps == found.steps
        assert torch.allclose(single.offset, found.offset, atol=1e-6)


def test_loss_is_looked_at_before_the_step(model: EditableModel) -> None:
    (found,) = search(model, replace(LOOSE, loss_stop=1e9), REQUESTS[0])
    assert found.steps == 0 and not found.offset.any()


def test_last_step_is_left_out(model: EditableModel) -> None:
    (found,) = search(model, replace(LOOSE, steps=1), REQUESTS[0])
    assert found.steps == 0 and not found.offset.any()


def test_the_head_is_asked_once_a_step_and_only_where_a_token_is_predicted(model: EditableModel) -> None:
    """Public code takes the softmax over the vocabulary at every position, and runs the head twice a step."""
    seen: list[tuple[int, ...]] = []
    head = model.model.get_output_embeddings()
    head.register_forward_hook(lambda _, args, output: seen.append(tuple(output.shape[:2])))
    search(model, replace(LOOSE, steps=3, loss_stop=0.0), REQUESTS[1])
    (layout,) = [lay_out(model, REQUESTS[1], CONTEXTS)]
    predicted = sum(len(row.target) for row in layout.rows)
    assert 1 < predicted < sum(len(row.ids) for row in layout.rows)
    assert seen == [(1, predicted + 1)] * 3


def test_loss_falls_and_is_the_loss_at_the_offset(model: EditableModel) -> None:
    losses = [search(model, replace(LOOSE, steps=steps), REQUESTS[0])[0].loss for steps in (1, 4, 12)]
    assert losses[0] > losses[1] > losses[2]


def test_offset_stays_in_the_ball(model: EditableModel) -> None:
    (found,) = search(model, replace(LOOSE, clamp=0.1), REQUESTS[0])
    assert float(found.offset.norm()) == pytest.approx(0.1 * float(found.origin.norm()))


def test_weight_decay_and_kl_hold_the_offset_back(model: EditableModel) -> None:
    (free,) = search(model, replace(LOOSE, weight_decay=0.0, kl=0.0), REQUESTS[0])
    (decayed,) = search(model, replace(LOOSE, weight_decay=100.0, kl=0.0), REQUESTS[0])
    (held,) = search(model, replace(LOOSE, weight_decay=0.0, kl=100.0), REQUESTS[0])
    assert decayed.offset.norm() < free.offset.norm()
    assert held.offset.norm() < free.offset.norm()


def test_a_dead_model_ends_the_search_at_once(model: EditableModel) -> None:
    model.down(1).weight.data.fill_(torch.nan)
    (found,) = search(model, LOOSE, REQUESTS[0])
    assert found.steps == 0 and found.loss != found.loss


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"lr": 0.0}, {"clamp": -1.0}, {"kl": -0.1}, {"patience": -1}])
def test_objective_is_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="must be positive"):
        replace(LOOSE, **wrong)


def test_a_met_target_lowers_the_weight_of_its_likelihood_and_may_end_the_search(model: EditableModel) -> None:
    far = replace(LOOSE, steps=40, weight_decay=0.0, kl=0.0625, loss_stop=1e-9)
    (free,) = search(model, far, REQUESTS[2])
    (lighter,) = search(model, replace(far, settled=(0.1, -1.0)), REQUESTS[2])
    (ended,) = search(model, replace(far, settled=(0.1, 1e9)), REQUESTS[2])
    assert free.steps == lighter.steps == 39 and ended.steps < 39
    assert lighter.loss < free.loss, "a tenth of the likelihood is left"
    (same,) = search(model, replace(far, settled=(1.0, -1.0)), REQUESTS[2])
    assert torch.equal(same.offset, free.offset)
    assert not torch.equal(lighter.offset, free.offset)


def test_patience_ends_the_search_of_a_request_that_stays_predicted(model: EditableModel) -> None:
    """ENCORE's rule: so many evaluations in a row; an offset that is found is the one the last of them looked at."""
    far = replace(LOOSE, steps=40, weight_decay=0.0, loss_stop=1e-9)
    best = []
    for steps in range(1, 41):
        (found,) = search(model, replace(far, steps=steps), REQUESTS[2])
        best.append(predicts(model, found, REQUESTS[2]))
    in_a_row = [all(best[end - 2 : end + 1]) for end in range(2, 40)]
    assert True in in_a_row, "the target should be met three times in a row"
    (stopped, other) = search(model, replace(far, patience=3), REQUESTS[2], REQUESTS[1])
    assert stopped.steps == in_a_row.index(True) + 2 < 39
    (same,) = search(model, replace(far, steps=stopped.steps + 1), REQUESTS[2])
    assert torch.allclose(stopped.offset, same.offset, atol=1e-6)
    (alone,) = search(model, replace(far, patience=3), REQUESTS[1])
    assert other.steps == alone.steps


def predicts(model: EditableModel, found: Target, request: EditRequest) -> bool:
    """Whether with this offset every target token is the most probable one in every context."""
    for row in lay_out(model, request, CONTEXTS).rows:
        with model.shifted(model.layer(0), torch.tensor([row.lookup]), found.offset):
            best = model.logits(pad([row.ids[:-1]], model.pad_id))[0].argmax(-1)
        if best[row.start - 1 :].tolist() != list(row.target):
            return False
    return True


def test_each_part_has_a_ball_of_its_own(model: EditableModel) -> None:
    layouts = [lay_out(model, request, CONTEXTS) for request in REQUESTS]
    replay = record_parts(model, 1, interleave(layouts))
    origins = torch.stack([replay.attention, replay.values], 1)[bare(layouts)]
    found = optimise(replay, layouts, origins, replace(LOOSE, clamp=0.1), at_stream)
    for target in found:
        assert target.offset.shape == (2, 32)
        assert torch.allclose(target.offset.norm(dim=-1), 0.1 * target.origin.norm(dim=-1))
