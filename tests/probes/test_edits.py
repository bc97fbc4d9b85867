"""Edit probes, on small models and on ones that answer what the test says."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from errata.errors import BadInput
from errata.model.editable import EditableModel
from errata.model.generation import Generation
from errata.model.scoring import TargetScore
from errata.model.tiny import tiny_model
from errata.model.tokens import encode_target
from errata.probes import edits
from errata.probes.answers import Question, contains, normalise, same
from errata.probes.edits import answered, base_answers, choose, choose_earlier, probe_cases
from errata.records import Record
from errata.types import EditCase, EditRequest, Probe


def case(n: int, target: str = "Lyon") -> EditCase:
    return EditCase(
        EditRequest(f"c{n}", f"The capital of Land{n} is", f"Land{n}", target, "Paris"),
        paraphrases=(f"Land{n}'s capital is", f"As for Land{n}, the capital is", f"Land{n} is ruled from"),
        neighbours=(Probe(f"The capital of Isle{n} is", "Rome"), Probe(f"The capital of Peak{n} is", "Oslo")),
        portability=(Probe(f"The river of the capital of Land{n} is", "Rhone"),),
    )


class Oracle:
    """A model that says what it is told: `says` by prompt, log-probability -1 for `likes` and -2 for the rest."""

    def __init__(self, says: dict[str, Generation], likes: str = "Lyon") -> None:
        self.says, self.likes, self.calls = says, likes, 0

    def generate_full(self, prompts: Sequence[str], max_new_tokens: int, stop: Sequence[str]) -> list[Generation]:
        self.calls += 1
        return [self.says.get(prompt, Generation(" mud.", True, True)) for prompt in prompts]


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> None:
    def score(model: Any, pairs: Sequence[tuple[str, str]]) -> list[TargetScore]:
        values = [-1.0 if target == model.likes else -2.0 for _, target in pairs]
        return [TargetScore(2 * value, value, 0.5) for value in values]

    monkeypatch.setattr(edits, "score_targets", score)


def probe(oracle: Oracle, cases: Sequence[EditCase], edited: Sequence[int], **kw: Any) -> dict[str, list[Record]]:
    base = kw.pop("base", {p.prompt: p.answer for c in cases for p in c.neighbours})
    tables: dict[str, list[Record]] = {}
    for record in probe_cases(oracle, cases, edited, base, **kw):  # type: ignore[arg-type]
        tables.setdefault(record.table, []).append(record)
    return tables


def said(text: str, clean: bool = True, finite: bool = True) -> Generation:
    return Generation(text, clean, finite)


def test_tables_and_items(scores: None) -> None:
    earlier = {"first": [0], "random": [0, 1], "last": [2]}
    tables = probe(Oracle({}), [case(n) for n in range(4)], [0, 2, 3], earlier=earlier)
    assert {name: [r.item for r in rows] for name, rows in tables.items()} == {
        "efficacy": ["c0", "c2", "c3"],
        "generalization": ["c0/0", "c0/1", "c2/0", "c2/1", "c3/0", "c3/1"],
        "locality": ["c0/0", "c0/1", "c2/0", "c2/1", "c3/0", "c3/1"],
        "portability": ["c0/0", "c2/0", "c3/0"],
        "retention": ["c0/first", "c0/random", "c1/random", "c2/last"],
    }
    assert [(r.extra["kind"], r.extra["age"]) for r in tables["retention"]] == [
        ("first", 3),
        ("random", 3),
        ("random", 2),
        ("last", 1),
    ]
    assert [r.edit for r in tables["efficacy"]] == [0, 2, 3]


def test_one_generation_a_kind(scores: None) -> None:
    oracle = Oracle({})
    probe(oracle, [case(n) for n in range(5)], range(5))
    assert oracle.calls == 4


@pytest.mark.parametrize(
    ("text", "correct", "holds"),
    [
        (" Lyon.", True, True),
        (" the LYON", True, True),
        (" Lyon. It is large", True, True),
        (" Lyon and Paris.", False, True),
        (" Lyons.", False, False),
        (" Paris.", False, False),
        ("", False, False),
    ],
)
def test_exact_match_and_containment(scores: None, text: str, correct: bool, holds: bool) -> None:
    rows = probe(Oracle({case(0).request.prompt: said(text)}), [case(0)], [0])["efficacy"]
    assert (rows[0].correct, rows[0].extra["contains"]) == (correct, holds)
    assert rows[0].empty == (not text) and rows[0].parsed == bool(text) and rows[0].output == text
    assert rows[0].gold == "Lyon" and rows[0].legacy is True


def test_locality_is_agreement_with_the_unedited_model(scores: None) -> None:
    base = {"The capital of Isle0 is": "wrong but the same", "The capital of Peak0 is": "Oslo"}
    oracle = Oracle(
        {"The capital of Isle0 is": said(" Wrong, but the same."), "The capital of Peak0 is": said(" Lyon")}, "Rome"
    )
    same_as_base, changed = probe(oracle, [case(0)], [0], base=base)["locality"]
    assert same_as_base.correct and not same_as_base.extra["knows"]
    assert not changed.correct and changed.extra["says_new"]
    # The neighbourhood score asks whether the true answer stays likelier than the new one.
    assert same_as_base.legacy is True and changed.legacy is False


def test_base_answers_are_needed_and_found(scores: None) -> None:
    oracle = Oracle({"The capital of Isle0 is": said(" Rome. More")})
    base = base_answers(oracle, [case(0), case(1)], [0])  # type: ignore[arg-type]
    assert base == {"The capital of Isle0 is": "Rome", "The capital of Peak0 is": "mud"}
    with pytest.raises(BadInput, match="Isle1"):
        probe(oracle, [case(0), case(1)], [1], base=base)


def test_what_is_not_finite_is_no_score(scores: None, monkeypatch: pytest.MonkeyPatch) -> None:
    right_then_nan = said(" Lyon", finite=False)
    row = probe(Oracle({case(0).request.prompt: right_then_nan}), [case(0)], [0])["efficacy"][0]
    assert row.invalid and not row.correct and row.legacy is None and row.predicted is None
    nan = TargetScore(math.nan, math.nan, 0.0)
    monkeypatch.setattr(edits, "score_targets", lambda model, pairs: [nan] * len(pairs))
    row = probe(Oracle({case(0).request.prompt: said(" Lyon")}), [case(0)], [0])["efficacy"][0]
    assert row.invalid and not row.correct


def test_an_answer_with_a_full_stop_inside(scores: None) -> None:
    saint = case(0, "St. Louis")
    for text in (" St. Louis.", " St. Louis. It lies"):
        assert probe(Oracle({saint.request.prompt: said(text)}), [saint], [0])["efficacy"][0].correct
    assert Question("p", "St. Louis").stop == ("\n",) and Question("p", "Paris").stop == ("\n", ". ")


def test_no_true_answer_gives_no_comparison(scores: None) -> None:
    bare = EditCase(EditRequest("x", "The capital of X is", "X", "Lyon"))
    (row,) = probe(Oracle({}), [bare], [0])["efficacy"]
    assert row.legacy is None and row.logp_true is None and row.logp_new == -1.0


def test_retention_asks_the_edits_prompt_again(scores: None) -> None:
    cases = [case(n) for n in range(6)]
    assert "retention" not in probe(Oracle({}), cases, [5])
    oracle = Oracle({cases[1].request.prompt: said(" Lyon.")})
    rows = probe(oracle, cases, [5], earlier={"first": [0, 1]})["retention"]
    assert [(r.edit, r.correct) for r in rows] == [(0, False), (1, True)]


def test_each_kind_of_portability_has_its_first_two(scores: None) -> None:
    kinds = ("one_hop", "one_hop", "one_hop", "alias", "")
    many = replace(case(0), portability=tuple(Probe(f"What of {n}?", "Rhone", kind) for n, kind in enumerate(kinds)))
    rows = probe(Oracle({}), [many], [0])["portability"]
    assert [(r.item, r.extra.get("kind")) for r in rows] == [
        ("c0/0", "one_hop"),
        ("c0/1", "one_hop"),
        ("c0/3", "alias"),
        ("c0/4", None),
    ]


def test_earlier_edits_are_the_first_random_and_last_ones() -> None:
    found = choose_earlier(1000, 100, 3)
    assert found["first"] == list(range(100)) and found["last"] == list(range(900, 1000))
    assert len(set(found["random"])) == 100 and min(found["random"]) < 100 < max(found["random"]) - 800
    before = choose_earlier(500, 100, 3)["random"]
    assert {index for index in found["random"] if index < 500} <= set(before)
    assert choose_earlier(3, 100, 3) == {"first": [0, 1, 2], "random": [0, 1, 2], "last": [0, 1, 2]}
    assert choose_earlier(0, 100, 3) == choose_earlier(5, 0, 3) == {}


def test_choice_is_nested_and_keeps_first_and_last() -> None:
    few, many = choose(200, 20, seed=3), choose(1000, 20, seed=3)
    assert {0, 199} <= set(few) and {0, 999} <= set(many) and len(many) in (20, 21, 22)
    assert set(many) - {999} <= set(range(200, 1000)) | set(few)
    assert choose(3, 100, 0) == [0, 1, 2] and choose(0, 100, 0) == [] and choose(200, 20, 4) != few


@pytest.mark.parametrize(
    ("text", "plain"),
    [("The  Eiffel-Tower!", "eiffeltower"), ("A", "a"), (" an Owl.", "owl"), ("!?", ""), ("Łódź", "łódź")],
)
def test_normalise(text: str, plain: str) -> None:
    assert normalise(text) == plain


def test_matching_words() -> None:
    assert same("the Paris", "paris.") and not same("", "paris")
    assert contains("it is Paris now", "Paris") and not contains("Parisian", "Paris") and not contains("x", "!")


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_real_models_agree_with_a_plain_forward_pass(family: str) -> None:
    model = tiny_model(family)
    rows = probe_real(model)
    row = next(r for r in rows if r.table == "efficacy")
    assert row.logp_new == pytest.approx(mean_log_prob(model, "The capital of Land0 is", "Lyon"), abs=1e-5)
    assert row.logp_true == pytest.approx(mean_log_prob(model, "The capital of Land0 is", "Paris"), abs=1e-5)
    assert all(r.correct for r in rows if r.table == "locality"), "the unedited model agrees with itself"
    assert rows == probe_real(model)


def probe_real(model: EditableModel) -> list[Record]:
    cases = [case(0), case(1, "Au")]
    return probe_cases(model, cases, [0, 1], base_answers(model, cases, [0, 1]))


def mean_log_prob(model: EditableModel, prompt: str, target: str) -> float:
    ids, given = encode_target(model.tokenizer, prompt, target)
    log_probs = model.model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return float(sum(log_probs[at - 1, ids[at]] for at in range(given, len(ids))) / (len(ids) - given))


@pytest.mark.parametrize(("text", "right"), [(" Rhone.", True), (" the RHÔNE", True), (" Rhein", False), ("", False)])
def test_another_way_to_give_the_answer_counts(scores: None, text: str, right: bool) -> None:
    asked = Probe("The river of Lyon is", "Rhône", aliases=("Rhone",))
    rows = probe(Oracle({asked.prompt: said(text)}), [replace(case(0), portability=(asked,))], [0])["portability"]
    assert [row.correct for row in rows] == [right] and rows[0].gold == "Rhône"


def test_a_neighbour_keeps_its_answer_to_the_letter_but_is_known_by_another(scores: None) -> None:
    near = Probe("The capital of Italy is", "Rome", aliases=("Roma",))
    model = Oracle({near.prompt: said(" Roma.")})
    (row,) = probe(model, [replace(case(0), neighbours=(near,))], [0], base={near.prompt: "Rome"})["locality"]
    assert not row.correct and row.extra["knows"]


def test_what_is_answered_already() -> None:
    model = Oracle({"The capital of Land0 is": said(" Lyon. And so on"), "The capital of Land1 is": said(" Lyonnais")})
    assert answered(model, [case(0), case(1), case(2, "mud"), case(3)]) == [True, False, True, False]  # type: ignore[arg-type]
    assert answered(model, []) == []  # type: ignore[arg-type]
