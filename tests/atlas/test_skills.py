"""The problems of atlas are right, and what is held out stays out of the corpus."""

import json
import re
from random import Random

import pytest

from errata.atlas import skills
from errata.atlas.benchmarks import BENCHMARKS, data_folder, write_benchmarks
from errata.atlas.corpus import corpus_texts, held_out, held_out_facts, training
from errata.atlas.world import world


def test_arithmetic_is_right() -> None:
    rng = Random(0)
    for _ in range(300):
        problem = skills.arithmetic(rng)
        start, first, second = map(int, re.findall(r"\d+", problem.prompt))
        signs = [
            -1 if word in ("gives", "loses") else 1 for word in re.findall("gives|loses|buys|finds", problem.prompt)
        ]
        assert start + signs[0] * first + signs[1] * second == int(problem.reference)
        for left, sign, right, total in re.findall(r"(\d+) ([+-]) (\d+) = (\d+)", problem.answer):
            assert int(left) + int(f"{sign}{right}") == int(total)


def test_boolean_expressions_are_right() -> None:
    rng = Random(0)
    for _ in range(300):
        problem = skills.boolean(rng)
        expression = problem.prompt.removeprefix("Q: ").split(" is\n")[0]
        assert re.fullmatch(r"[()TrueFalsandot ]+", expression)
        assert str(eval(expression)) == problem.reference  # noqa: S307  # of the alphabet just matched


def test_lies_are_right() -> None:
    rng = Random(0)
    for _ in range(200):
        problem = skills.lies(rng)
        text = problem.prompt.removeprefix("Q: ").split(" Does ")[0]
        truth: dict[str, bool] = {}
        for sentence in text.removesuffix(".").split(". "):
            if " says " in sentence:
                person, claim = sentence.split(" says ")
                about, says = claim.split(" ", 1)
                truth[person] = truth[about] == (says == "tells the truth")
            else:
                person, says = sentence.split(" ", 1)
                truth[person] = says == "tells the truth"
        assert problem.reference == ("Yes" if truth[person] else "No")


def test_reading_answers_stand_in_the_passage_once_asked() -> None:
    rng = Random(0)
    for _ in range(200):
        problem = skills.reading(rng)
        assert problem.prompt.split("\n")[0].split().count(f"{problem.reference}.") == 1


def test_the_corpus_holds_no_held_out_problem() -> None:
    rng = Random(0)
    assert not any(held_out(training(skills.arithmetic, rng)) for _ in range(200))
    texts = corpus_texts(5)
    asked = {
        json.loads(line)["prompt"]
        for name in ("atlas_mmlu", "atlas_gsm8k", "atlas_toxigen", "atlas_bbh")
        for line in (data_folder() / f"{name}.jsonl").read_text("utf-8").splitlines()
    }
    for _ in range(400):
        text = next(texts)
        assert not any(prompt in text for prompt in asked)


def test_the_items_in_the_package_are_what_the_code_writes(tmp_path) -> None:
    counts = write_benchmarks(tmp_path)
    assert all(n >= 200 for n in counts.values())
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert written == {path.name: path.read_bytes() for path in data_folder().glob("*.jsonl")}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_items_differ_and_are_not_among_the_exemplars(name: str) -> None:
    def prompts(file: str) -> list[str]:
        path = data_folder() / f"{file}.jsonl"
        return [json.loads(line)["prompt"] for line in path.read_text("utf-8").splitlines()] if path.exists() else []

    items, shots = prompts(name), prompts(f"{name}_shots")
    assert len(set(items)) == len(items)
    assert not set(items) & set(shots)


def test_multiple_choice_asks_held_out_facts_only() -> None:
    facts = {world().relations[f.relation].trained(f.subject)[0]: f for f in world().facts}
    for line in (data_folder() / "atlas_mmlu.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        fact = facts[row["prompt"].split("\n")[0]]
        assert fact.id in held_out_facts()
        assert row["reference"] == fact.value
        assert fact.value in row["choices"]
        assert len(set(row["choices"])) == 4
