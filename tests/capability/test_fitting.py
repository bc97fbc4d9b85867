"""Whole exemplars leave a prompt that is too long, the oldest first, and the row says how many."""

from pathlib import Path

import pytest

from errata.capability.fitting import Shortened, shorten
from errata.capability.harness import _load, evaluate
from errata.model.tiny import tiny_model

DATA = str(Path(__file__).parent / "data")


def built(context: int, task: str = "p1_mmlu") -> tuple[str, dict[str, Shortened]]:
    """The first prompt where a token is a word, and what was done to it."""
    (loaded,) = _load(task, DATA).values()
    done = shorten(loaded, lambda text: len(text.split()), context)
    return loaded.fewshot_context(loaded.eval_docs[0], num_fewshot=loaded.config.num_fewshot), done


WHOLE, _ = built(10_000)
EXEMPLAR = len(
    "Which river of the fable is the oldest? A. the Aver B. the Brill C. the Corr D. the Dene Answer: B".split()
)
NEW = 4


def test_a_prompt_that_fits_is_as_it_was() -> None:
    length = len(WHOLE.split())
    assert built(length + NEW) == (WHOLE, {})


@pytest.mark.parametrize("dropped", [1, 2, 5])
def test_the_oldest_exemplars_leave_until_it_fits(dropped: int) -> None:
    length = len(WHOLE.split())
    for spare in (0, EXEMPLAR - 1):
        prompt, done = built(length - dropped * EXEMPLAR + NEW + spare)
        head, *blocks = WHOLE.split("\n\n")
        assert prompt == "\n\n".join([head, *blocks[dropped:]])
        assert done == {prompt: Shortened(dropped, False)}


def test_too_long_without_any_is_said() -> None:
    prompt, done = built(20)
    assert done[prompt] == Shortened(5, True)


def test_the_published_evaluation_never_uses_more_than_2048() -> None:
    (loaded,) = _load("p1_mmlu:paper", DATA).values()
    done = shorten(loaded, lambda text: 100 * text.count("Answer:") + 1500, 8192)
    loaded.fewshot_context(loaded.eval_docs[0], num_fewshot=5)
    assert list(done.values()) == [Shortened(1, False)]  # 2100 + 1 tokens do not fit, 2000 + 1 do


def test_choices_need_room_for_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    (loaded,) = _load("atlas_mmlu").values()
    whole = loaded.fewshot_context(loaded.eval_docs[0], num_fewshot=5)
    longest = max(len(f" {choice}") for choice in loaded.doc_to_choice(loaded.eval_docs[0]))
    for context, dropped in ((len(whole) + longest - 1, 0), (len(whole) + longest - 2, 1)):
        (loaded,) = _load("atlas_mmlu").values()
        done = shorten(loaded, len, context)
        loaded.fewshot_context(loaded.eval_docs[0], num_fewshot=5)
        assert [found.dropped for found in done.values()] == [dropped] * (dropped > 0)


def test_a_prompt_without_exemplars_can_only_be_cut() -> None:
    prompt, done = built(10, "p1_truthfulqa")
    assert done == {prompt: Shortened(0, True)}
    prompt, done = built(500, "p1_truthfulqa")
    assert done == {}


def test_the_row_counts_them() -> None:
    model = tiny_model("llama")
    assert model.context < 400  # less than five exemplars
    rows = evaluate(model, ["p1_mmlu", "p1_triviaqa"], data_dir=DATA)
    assert all(1 <= row.extra["dropped_exemplars"] <= 5 for row in rows["p1_mmlu"])
    assert all("dropped_exemplars" not in row.extra for row in rows["p1_triviaqa"])
