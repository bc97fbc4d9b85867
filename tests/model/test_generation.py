"""Greedy generation: equal to the literal loop, whatever shares the batch."""

from typing import Any

import pytest
import torch

from errata.errors import BadInput
from errata.model import generation, prefixes
from errata.model.architecture import ARCHITECTURES
from errata.model.editable import EditableModel
from errata.model.tokens import encode, pad
from errata.testing import tiny_model

PROMPTS = (
    "The capital of France is",
    "Marie Curie was born in Warsaw and worked in",
    "Gold",
    "Åström",
    "Question: what",
)
SLIDING = ("mistral", "gemma2", "gemma3_text")
TEXT = "The Eiffel Tower is in the city of Paris. Because the name means shining dawn. "


def literal(model: EditableModel, prompt: str, n: int) -> list[int]:
    """One row, one full forward pass for each token, nothing cached."""
    ids = encode(model.tokenizer, prompt)
    made: list[int] = []
    ends = {model.tokenizer.eos_token_id}
    while len(made) < n:
        token = int(model.logits(pad([[*ids, *made]], model.pad_id))[0, -1].argmax())
        if token in ends:
            break
        made.append(token)
    return made


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_batched_equals_literal(family: str) -> None:
    model = tiny_model(family)
    rows = model.generate_full(PROMPTS, 10, stop=())
    assert [list(row.ids) for row in rows] == [literal(model, prompt, 10) for prompt in PROMPTS]


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma3_text"])
def test_a_row_does_not_depend_on_its_batch(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(family)
    together = model.generate(PROMPTS, 12)
    assert together == model.generate(PROMPTS, 12), "not deterministic"
    assert together == [model.generate([prompt], 12)[0] for prompt in PROMPTS]
    assert together[::-1] == model.generate(PROMPTS[::-1], 12)
    monkeypatch.setattr(generation, "TOKENS_AT_ONCE", 60)
    assert together == model.generate(PROMPTS, 12)


def test_one_prefill_and_finished_rows_leave_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    shapes: list[tuple[int, int]] = []
    step = generation._last_logits

    def scripted(of: EditableModel, ids: torch.Tensor, *rest: Any) -> torch.Tensor:
        """Row r of three ends after r + 1 tokens."""
        shapes.append(tuple(ids.shape))  # type: ignore[arg-type]
        logits = step(of, ids, *rest)
        logits[:, :3] = -torch.inf
        logits = logits.nan_to_num(neginf=-1e9)
        logits[0, model.tokenizer.eos_token_id] = 1e9
        return logits

    monkeypatch.setattr(generation, "_last_logits", scripted)
    rows = model.generate_full(PROMPTS[:3], 32, stop=())
    widest = max(len(encode(model.tokenizer, prompt)) for prompt in PROMPTS[:3])
    assert shapes == [(3, widest), (2, 1), (1, 1)]
    assert sorted(len(row.ids) for row in rows) == [0, 1, 2]
    assert all(row.clean_stop for row in rows)


def test_text_ends_before_the_first_stop_string() -> None:
    model = tiny_model("llama")
    free = model.generate([PROMPTS[1]], 24, stop=())[0]
    middle = free[len(free) // 2 : len(free) // 2 + 3]
    (row,) = model.generate_full([PROMPTS[1]], 24, stop=("never found", middle))
    assert row.text == free[: free.index(middle)]
    assert row.clean_stop
    assert len(row.ids) < 24


def test_a_stop_string_in_letters_of_several_tokens_is_found() -> None:
    model = tiny_model("gpt2")
    row = generation._Row(generation._Ends(model, ("Ö東",), frozenset()), 99)
    went_on = [row.take(token, True) for token in encode(model.tokenizer, "abc Ö東")]
    assert not went_on[-1] and all(went_on[:-1])
    assert row.done().text == "abc "


def test_length_limit_is_no_clean_stop() -> None:
    model = tiny_model("llama")
    (row,) = model.generate_full([PROMPTS[0]], 5, stop=())
    assert len(row.ids) == 5 and not row.clean_stop and row.finite


def test_the_context_bounds_a_continuation() -> None:
    model = tiny_model("gpt2")
    prompt = "a" * (model.context - 3)
    assert len(encode(model.tokenizer, prompt)) == model.context - 3
    long, short = model.generate_full([prompt, "a"], 9, stop=())
    assert len(long.ids) == 3 and len(short.ids) == 9
    with pytest.raises(BadInput, match=f"{model.context} tokens cannot be continued by tiny-gpt2"):
        model.generate(["a" * model.context])


def test_rows_that_are_not_finite_end_and_say_so() -> None:
    model = tiny_model("llama")
    poisoned = encode(model.tokenizer, "Gold")[-1]
    model.model.get_submodule(model.arch.embedding).weight[poisoned] = torch.nan
    bad, good = model.generate_full(["Gold", "Paris"], 4, stop=())
    assert not bad.finite and not bad.clean_stop and bad.text == ""
    assert good.finite and len(good.ids) == 4


def test_no_prompts_no_answers() -> None:
    assert tiny_model("llama").generate([]) == []


def test_end_tokens_of_the_generation_config_count_too() -> None:
    model = tiny_model("llama")
    first = model.generate_full([PROMPTS[0]], 1, stop=())[0].ids[0]
    model.model.generation_config.eos_token_id = [first, 2]
    (row,) = model.generate_full([PROMPTS[0]], 8, stop=())
    assert row.clean_stop and row.ids == () and row.text == ""


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_a_shared_prefix_is_computed_once_and_changes_nothing(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(family)
    head = "Question: what is the chemical symbol of gold? Answer: Au. " * 3
    prompts = [head + PROMPTS[1], head + "x", PROMPTS[1], head + PROMPTS[0] * 3, head + PROMPTS[0], head]
    plain = model.generate_full(prompts, 8, stop=())
    seen: list[int] = []
    step = generation._last_logits

    def counted(of: EditableModel, ids: torch.Tensor, *rest: Any) -> torch.Tensor:
        seen.append(ids.numel())
        return step(of, ids, *rest)

    monkeypatch.setattr(generation, "_last_logits", counted)
    monkeypatch.setattr(prefixes, "WORTH_SHARING", 20)
    assert model.generate_full(prompts, 8, stop=()) == plain
    alone = sum(len(encode(model.tokenizer, prompt)) for prompt in prompts)
    assert (sum(seen) < alone) == (family not in SLIDING), "the prefix was computed for every row"
    assert [row.ids for row in plain] == [tuple(literal(model, prompt, 8)) for prompt in prompts]


def test_models_with_sliding_windows_share_no_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their cache has forgotten the beginning of a long prefix."""
    monkeypatch.setattr(prefixes, "WORTH_SHARING", 20)
    model = tiny_model("mistral")
    model.model.config.sliding_window = 16
    prompts = [TEXT + PROMPTS[0], TEXT + PROMPTS[1]]
    assert [list(row.ids) for row in model.generate_full(prompts, 6, stop=())] == [
        literal(model, p, 6) for p in prompts
    ]


def test_rows_that_leave_make_room_for_the_last_ones() -> None:
    assert generation._closed([0, 2, 3]) == [0, 3, 2]
    assert generation._closed([4, 5]) == [5, 4]
    assert generation._closed([0, 1]) == [0, 1]


def test_progress_counts_every_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "TOKENS_AT_ONCE", 60)
    done: list[int] = []
    generation.generate(tiny_model("llama"), PROMPTS, 4, (), advance=done.append)
    assert sum(done) == len(PROMPTS) and len(done) > 1
