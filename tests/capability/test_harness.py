"""The five tasks of atlas: prompts to the letter, and one honest row for each item."""

import json
import logging
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from errata.atlas.benchmarks import data_folder
from errata.capability import harness
from errata.capability.harness import check_tasks, evaluate
from errata.capability.local import ErrataLM
from errata.capability.quiet import offline
from errata.errors import BadInput
from errata.model.editable import EditableModel
from errata.model.generation import Generation
from errata.records import Record
from errata.registry import task_groups, tasks

NAMES = ("atlas_mmlu", "atlas_bbh", "atlas_gsm8k", "atlas_reading", "atlas_toxigen")
Say = Callable[[str], Generation]


def saying(model: EditableModel, monkeypatch: pytest.MonkeyPatch, say: Say) -> list[str]:
    """The model continues each prompt as told; returns the prompts it was asked."""
    asked: list[str] = []

    def generate(
        model: EditableModel, prompts: Sequence[str], new: int, stop: Sequence[str], *_: object
    ) -> list[Generation]:
        asked.extend(prompts)
        assert "\n" in stop
        return [say(prompt) for prompt in prompts]

    monkeypatch.setattr("errata.capability.local.generate", generate)
    return asked


def score(model: EditableModel, name: str) -> dict[str, Record]:
    return {row.item.rpartition("-")[2]: row for row in evaluate(model, [name])[name]}


@pytest.mark.parametrize("name", NAMES)
def test_every_item_once_with_its_id(benchmarks: Path, model: EditableModel, name: str) -> None:
    rows = evaluate(model, [name])[name]
    assert [row.item for row in rows] == [f"{name}-q{n}" for n in range(8)]
    assert all(row.table == name and not row.invalid and row.gold for row in rows)
    assert {row.extra["kind"] for row in rows} == {"river", "hill"} and rows[0].extra["version"] == "1.0"


def test_prompt_of_knowledge(benchmarks: Path, model: EditableModel, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []
    answer = ErrataLM.loglikelihood

    def listen(self: ErrataLM, requests: list, **kw: object) -> list:  # type: ignore[type-arg]
        asked.extend(request.args for request in requests)
        return answer(self, requests)

    monkeypatch.setattr(ErrataLM, "loglikelihood", listen)
    evaluate(model, ["atlas_mmlu"])
    shot = "hill s{}?\nA. w\nB. x\nC. y\nD. z\nAnswer: {}\n\n"
    expected = "The following are multiple choice questions (with answers) about hills.\n\n"
    expected += "".join(shot.format(n, "wxyz"[n % 4]) for n in (1, 3, 5, 7, 9))
    expected += "hill q1?\nA. w\nB. x\nC. y\nD. z\nAnswer:"
    assert asked[4:8] == [(expected, f" {option}") for option in "wxyz"]


def test_prompt_of_reasoning(benchmarks: Path, model: EditableModel, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = saying(model, monkeypatch, lambda prompt: Generation("", True, True))
    evaluate(model, ["atlas_bbh"])
    shot = "Q: river s{0}\nA: 1 + {0} = {1}. So the answer is {1}.\n\n"
    assert "".join(shot.format(n, n + 1) for n in (0, 2, 4)) + "Q: river q0\nA:" in asked


def test_a_chat_model_is_asked_in_turns(
    benchmarks: Path, model: EditableModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = saying(model, monkeypatch, lambda prompt: Generation("", True, True))
    model.tokenizer.chat_template = (
        "<s>{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    evaluate(model, ["atlas_bbh"], chat=True)
    turn = "[user]Q: river s{0}\nA:[assistant] 1 + {0} = {1}. So the answer is {1}."
    (first,) = [prompt for prompt in asked if "q0" in prompt]
    assert first.startswith("<s>[user]") and first.endswith("[user]Q: river q0\nA:[assistant]")
    assert all(turn.format(n, n + 1) in first for n in (0, 2, 4))
    evaluate(model, ["atlas_bbh"])
    assert not asked[-1].startswith("<s>")


def test_prompt_of_arithmetic_has_eight_exemplars_in_order(
    benchmarks: Path, model: EditableModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = saying(model, monkeypatch, lambda prompt: Generation("", True, True))
    evaluate(model, ["atlas_gsm8k"])
    assert all([prompt.count(f" s{n}\n") for n in range(9)] == [1] * 8 + [0] for prompt in asked)
    assert all(prompt.endswith("\nA:") for prompt in asked)


@pytest.mark.parametrize(
    ("name", "text", "verdict", "predicted"),
    [
        ("atlas_bbh", " 1 + 0 = 1. So the answer is 1.", True, "1"),
        ("atlas_bbh", " So the answer is 2. So the answer is 1.", True, "1"),
        ("atlas_bbh", " the answer is 1", True, "1"),
        ("atlas_bbh", " So the answer is 11.", False, "11"),
        ("atlas_bbh", " It is 1.", False, None),
        ("atlas_gsm8k", " 0 + 1 = 1. The answer is 1.", True, "1"),
        ("atlas_gsm8k", " The answer is 1.5", True, "1"),
        ("atlas_gsm8k", " 0 + 1 = 1.", False, None),
        ("atlas_gsm8k", " The answer is -1.", False, "-1"),
        ("atlas_reading", " the lamp.", True, "the lamp."),
        ("atlas_reading", " the Lamp", True, "the Lamp"),
        ("atlas_reading", " a lamp", False, "a lamp"),
        ("atlas_reading", "  ", False, None),
        ("atlas_bbh", "", False, None),
    ],
)
def test_grading(
    benchmarks: Path,
    model: EditableModel,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    text: str,
    verdict: bool,
    predicted: str | None,
) -> None:
    saying(model, monkeypatch, lambda prompt: Generation(text, False, True))
    row = score(model, name)["q0"]
    assert (row.correct, row.predicted, row.parsed) == (verdict, predicted, predicted is not None)
    assert row.output == text and row.empty == (not text.strip()) and row.clean_stop is False


def test_the_loose_verdict_stands_beside_the_strict_one(
    benchmarks: Path, model: EditableModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    saying(model, monkeypatch, lambda prompt: Generation(" 4. 4. 1", True, True))
    row = score(model, "atlas_gsm8k")["q0"]
    assert not row.correct and row.extra["correct_loose"] is True


@pytest.mark.parametrize("name", ["atlas_mmlu", "atlas_toxigen"])
def test_the_likeliest_choice_is_the_answer(
    benchmarks: Path, model: EditableModel, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    likes = {"atlas_mmlu": " y", "atlas_toxigen": " Yes"}[name]

    def favour(self: ErrataLM, requests: list, **kw: object) -> list:  # type: ignore[type-arg]
        return [(-1.0 if request.args[1] == likes else -2.0, False) for request in requests]

    monkeypatch.setattr(ErrataLM, "loglikelihood", favour)
    rows = score(model, name).values()
    assert {row.predicted for row in rows} == {likes.strip()}
    assert [row.correct for row in rows] == [row.gold == likes.strip() for row in rows]
    assert sum(row.correct for row in rows) == len(rows) / {"atlas_mmlu": 4, "atlas_toxigen": 2}[name]


@pytest.mark.parametrize("name", NAMES)
def test_a_model_of_nan_is_invalid_never_right(benchmarks: Path, model: EditableModel, name: str) -> None:
    model.model.model.norm.weight.data.fill_(torch.nan)
    rows = evaluate(model, [name])[name]
    assert all(row.invalid and not row.correct and not row.parsed and row.predicted is None for row in rows)


def test_one_nan_choice_makes_one_item_invalid(
    benchmarks: Path, model: EditableModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(self: ErrataLM, requests: list, **kw: object) -> list:  # type: ignore[type-arg]
        return [(math.nan if n == 2 else -1.0, False) for n, _ in enumerate(requests)]

    monkeypatch.setattr(ErrataLM, "loglikelihood", answer)
    assert [row.invalid for row in score(model, "atlas_mmlu").values()] == [True] + [False] * 7


def test_limit_is_a_random_subset_that_the_seed_decides(benchmarks: Path, model: EditableModel) -> None:
    def chosen(limit: int | None, seed: int) -> list[str]:
        return [row.item for row in evaluate(model, ["atlas_toxigen"], limit, seed)["atlas_toxigen"]]

    everything = chosen(None, 0)
    assert chosen(4, 1) == chosen(4, 1) and set(chosen(4, 1)) < set(everything)
    assert len({tuple(chosen(4, seed)) for seed in range(6)}) > 1
    assert chosen(100, 1) == everything


def test_an_item_scores_the_same_alone_and_in_company(benchmarks: Path, model: EditableModel) -> None:
    together = evaluate(model, NAMES, limit=5)
    for name in reversed(NAMES):
        assert evaluate(model, [name], limit=5) == {name: together[name]}


def test_progress_reaches_its_end(benchmarks: Path, model: EditableModel) -> None:
    told: list[tuple[str, int, int]] = []
    evaluate(model, ["atlas_mmlu", "atlas_reading"], limit=3, progress=lambda *step: told.append(step))
    assert [step for step in told if step[1] == step[2]] == [("atlas_mmlu", 12, 12), ("atlas_reading", 3, 3)]


def test_nothing_is_printed_seeded_or_left_behind(
    benchmarks: Path, model: EditableModel, capfd: pytest.CaptureFixture[str]
) -> None:
    level, state, torch_state = logging.getLogger("lm_eval").level, random.getstate(), torch.get_rng_state()
    evaluate(model, NAMES, limit=2)
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("lm_eval").level == level
    assert random.getstate() == state and torch.equal(torch.get_rng_state(), torch_state)


def test_an_unknown_task_is_named(benchmarks: Path, model: EditableModel) -> None:
    with pytest.raises(BadInput, match="did you mean atlas_mmlu"):
        evaluate(model, ["atlas_mlu"])
    with pytest.raises(BadInput, match="boolq"):
        check_tasks(["atlas_reading", "bolq"])


def test_data_that_is_not_here_is_not_fetched(model: EditableModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ERRATA_DOWNLOAD", raising=False)
    with pytest.raises(BadInput, match="ERRATA_DOWNLOAD=1"):
        evaluate(model, ["boolq"], limit=2)


def test_offline_ends_with_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with offline():
        assert constants.is_offline_mode()
    assert not constants.is_offline_mode()
    monkeypatch.setenv("ERRATA_DOWNLOAD", "1")
    with offline():
        assert not constants.is_offline_mode()


@pytest.mark.parametrize(
    ("content", "words"),
    [("{", "not valid JSON"), ('{"id": "1"}', "prompt, answer"), ("", "holds no items")],
)
def test_damaged_items_are_named(benchmarks: Path, model: EditableModel, content: str, words: str) -> None:
    (benchmarks / "atlas_reading.jsonl").write_text(content)
    with pytest.raises(BadInput, match=words):
        evaluate(model, ["atlas_reading"])


def test_too_few_exemplars_are_named(benchmarks: Path, model: EditableModel) -> None:
    lines = (benchmarks / "atlas_bbh_shots.jsonl").read_text().splitlines()
    (benchmarks / "atlas_bbh_shots.jsonl").write_text("\n".join(lines[:5]))
    with pytest.raises(BadInput, match="3 exemplars of kind 'hill' are needed, found 2"):
        evaluate(model, ["atlas_bbh"])


@pytest.mark.parametrize("name", NAMES)
def test_the_benchmarks_of_the_package(model: EditableModel, name: str) -> None:
    if not (data_folder() / f"{name}.jsonl").is_file():
        pytest.skip(f"{name}.jsonl is not in the package yet: errata atlas world")
    rows = evaluate(model, [name], limit=3)[name]
    assert len(rows) == 3 and len(json.loads(json.dumps([row.extra for row in rows]))) == 3


def test_every_file_of_a_task_is_known_by_its_name() -> None:
    files = {path.stem for path in harness.TASKS.glob("*.yaml")}
    named = {
        name if name in NAMES else "_".join((name.partition(":")[0], name.partition(":")[2] or "fixed"))
        for name in (*tasks(), *task_groups())
    }
    assert files == named and set(NAMES) <= tasks().keys()
