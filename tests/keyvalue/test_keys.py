"""Where requests are read: the right token of every row, whatever is around it."""

import pytest
import torch
from torch import Tensor

from errata.errors import BadInput
from errata.keyvalue.contexts import Contexts, even
from errata.keyvalue.keys import batched, hidden_at, in_bare_prompts, in_contexts, keys_at, lay_out, values_at
from errata.model.architecture import ARCHITECTURES
from errata.model.editable import EditableModel
from errata.model.tokens import TokenBatch, encode, pad
from errata.testing import tiny_model
from errata.types import EditRequest
from errata.update.delta import WeightDelta

FAMILIES = ("gpt2", "llama", "opt")
REQUESTS = (
    EditRequest("1", "The capital of France is", "France", "Berlin"),
    EditRequest("2", "Åse Ødegård's mother, Åse Ødegård, lives with Marie Curie and", "Marie Curie", "sings"),
    EditRequest("3", "Gold", "Gold", "Au"),
)


def with_prefixes(*prefixes: str) -> Contexts:
    sizes = ((5, len(prefixes)),) if prefixes else ()
    return Contexts(torch.zeros(len(prefixes), 0, dtype=torch.long), prefixes, even(sizes))


def alone(model: EditableModel, text: str) -> TokenBatch:
    return pad([encode(model.tokenizer, text)], model.pad_id)


@pytest.mark.parametrize("family", FAMILIES)
def test_lookup_is_the_subject_in_every_context_and_target_ids_hold_no_bos(family: str) -> None:
    model = tiny_model(family)
    for request in REQUESTS:
        layout = lay_out(model, request, with_prefixes("It is said", "Because France"))
        for row in layout.rows:
            head = model.tokenizer.decode(list(row.ids[: row.lookup + 1]), skip_special_tokens=True)
            assert head.endswith(request.subject[-1])
            assert request.subject in head
            assert model.tokenizer.decode(list(row.target)) == f" {request.target_new}"
            assert model.tokenizer.bos_token_id not in row.target
        head = model.tokenizer.decode(list(layout.essence.ids), skip_special_tokens=True)
        assert head.strip() == request.subject and not layout.essence.target


@pytest.mark.parametrize("family", FAMILIES)
def test_targets_are_tokenised_by_themselves_only_when_that_fault_is_asked_for(family: str) -> None:
    model = tiny_model(family)
    right, faulty = (lay_out(model, REQUESTS[0], with_prefixes("It is said"), fault) for fault in (False, True))
    for row, other in zip(right.rows, faulty.rows, strict=True):
        assert list(other.target) == encode(model.tokenizer, "Berlin") != list(row.target)
        assert (other.target[0] == model.tokenizer.bos_token_id) == model.arch.bos
        assert other.ids[: row.start] == row.ids[: row.start]
    assert faulty.essence == right.essence


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_on_the_left_misplaces_all_but_the_longest_row(family: str) -> None:
    """Places are counted as if on the right, so that a shorter row is read that many tokens too early."""
    model = tiny_model(family)
    layout = lay_out(model, REQUESTS[0], with_prefixes("It is said", "Yes"), left_padding=True)
    lengths = [len(row.ids) - 1 for row in layout.rows]
    assert [row.left for row in layout.rows] == [max(lengths) - length for length in lengths]
    assert min(row.left for row in layout.rows) == 0 < layout.rows[0].left
    batch = batched(model, layout.rows, lengths)
    for index, row in enumerate(layout.rows):
        real = [token for token, shown in zip(batch.ids[index].tolist(), batch.mask[index].tolist()) if shown]
        assert real == list(row.ids[: len(real)]) and len(real) == max(0, lengths[index] - row.left)
        seen = int(batch.ids[index, row.lookup]) if batch.mask[index, row.lookup] else None
        assert (seen == row.ids[row.lookup]) == (row.left == 0)
    right = lay_out(model, REQUESTS[0], with_prefixes("It is said", "Yes"))
    assert not any(row.left for row in (*right.rows, right.essence))
    found, expected = (hidden_at(in_bare_prompts(model, [laid]), 1) for laid in (layout, right))
    assert torch.equal(found, expected), "the bare prompt is read by itself"


def test_subject_in_the_prefix_or_the_target_is_not_the_one_edited() -> None:
    model = tiny_model("gpt2")
    request = EditRequest("1", "The capital of France is", "France", "in France")
    layout = lay_out(model, request, with_prefixes("France is France"))
    for text, row in zip(with_prefixes("France is France").texts(request.prompt), layout.rows, strict=True):
        assert model.tokenizer.decode(list(row.ids[: row.lookup + 1])) == text.removesuffix(" is")


def test_braces_in_texts_are_text() -> None:
    model = tiny_model("gpt2")
    request = EditRequest("1", "The set {} of {x} is", "{x}", "empty")
    layout = lay_out(model, request, with_prefixes("A {brace}"))
    assert model.tokenizer.decode(list(layout.essence.ids)).startswith("{x}")


def test_a_subject_that_is_not_there_is_bad_input() -> None:
    with pytest.raises(BadInput, match="subject"):
        EditRequest("1", "The capital of France is", "Germany", "Berlin")


@pytest.mark.parametrize("family", FAMILIES)
def test_batched_reading_equals_one_text_at_a_time(family: str) -> None:
    model = tiny_model(family, dtype=torch.float64)
    contexts = with_prefixes("It is said", "Because of a much longer beginning than that")
    layouts = [lay_out(model, request, contexts) for request in REQUESTS]
    keys = keys_at(in_contexts(model, layouts), contexts.weights, 1)
    bare = in_bare_prompts(model, layouts)
    hidden, values = hidden_at(bare, 1), values_at(bare, 1)
    for index, (request, layout) in enumerate(zip(REQUESTS, layouts, strict=True)):
        found = []
        for text, row in zip(contexts.texts(request.prompt), layout.rows, strict=True):
            place = torch.tensor([row.lookup])
            found.append(model.inputs_at(alone(model, text), [model.site(1)], place)[model.site(1)][0])
        assert torch.allclose(keys[index], torch.stack(found).mean(0))
        place = torch.tensor([layout.lookup])
        assert torch.allclose(hidden[index], model.hidden_at(alone(model, request.prompt), 1, place)[0])
        assert torch.allclose(values[index], model.mlp_out_at(alone(model, request.prompt), 1, place)[0])


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_settled_layers_are_not_run_again_and_change_nothing(family: str) -> None:
    """Layer after layer is written and read above; with no room for streams everything runs each time."""
    model = tiny_model(family, layers=4)
    laid = [lay_out(model, request, with_prefixes("It is said")) for request in REQUESTS]
    kept, whole = in_contexts(model, laid), in_contexts(model, laid, room=0)
    ran: list[int] = []
    for index in range(4):
        model.attention(index).register_forward_hook(lambda *_, index=index: ran.append(index))
    sites: dict[str, Tensor] = {}
    for layer in (1, 2, 3):
        with model.overlay(WeightDelta(sites)):
            found = kept.read(model.site(layer), inputs=True, settled=layer)
            seen = (min(ran), max(ran))
            ran.clear()
            expected = whole.read(model.site(layer), inputs=True, settled=layer)
            assert set(ran) == set(range(layer + 1))
            ran.clear()
        assert torch.allclose(found, expected, atol=1e-5, rtol=1e-4)
        assert seen == (max(0, layer - 1), layer)
        sites[model.site(layer)] = torch.full(model.weight(model.site(layer)).shape, 0.01)
    assert not any("forward" in module.__dict__ for module in model.model.modules())
