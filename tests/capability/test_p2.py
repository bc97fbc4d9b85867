"""Paper 2's benchmarks: prompts to the letter, readings and scores of hand-made outputs, rows of whole evaluations."""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from errata.capability.benchmarks import boolq, conll2003, gsm8k_zero_shot, mutual, nq, rte, samsum, sst2
from errata.capability.benchmarks.labels import loose_label, strict_label
from errata.capability.extraction import UNPARSED
from errata.capability.harness import evaluate, prompts
from errata.capability.local import GeneratedText
from errata.errors import BadInput
from errata.model.editable import EditableModel
from errata.model.generation import Generation
from errata.records import Record
from errata.registry import task_groups, tasks
from oracles import paper2 as oracle

DATA = str(Path(__file__).parent / "data")
P2 = [name for name in tasks() if name.startswith("p2_")]
BENCHMARKS = ("gsm8k", "rte", "nq", "boolq", "mutual", "samsum", "conll2003", "sst2")


def only(task: str, n: int = 0) -> str:
    return prompts(task, DATA)[n][0]


def ended(text: str) -> GeneratedText:
    """An output that came to the end of text."""
    return GeneratedText(text, clean_stop=True)


def open_ended(text: str) -> GeneratedText:
    """One that was cut off by the limit of tokens."""
    return GeneratedText(text, clean_stop=False)


# Prompts


def test_both_groups_hold_all_eight() -> None:
    assert task_groups()["errata_p2"] == tuple(f"p2_{name}" for name in BENCHMARKS)
    assert task_groups()["errata_p2:paper"] == tuple(f"p2_{name}:paper" for name in BENCHMARKS)
    assert set(P2) == {*task_groups()["errata_p2"], *task_groups()["errata_p2:paper"]}


def test_gsm8k_shows_the_solution_only_as_published() -> None:
    question = "Nora packs 4 crates with 250 apples each. How many apples does she pack?"
    assert only("p2_gsm8k") == f"Q: {question}\nA: Let's think step by step."
    published = only("p2_gsm8k:paper")
    assert published.startswith(f"Q: {question} A:Let's think step by step. ") and "1,000" not in published[-60:]
    assert published.endswith("\n Therefore, the answer (arabic numerals) is:") and "####" not in published


def test_rte_to_the_letter() -> None:
    assert only("p2_rte") == (
        "The ferry to the island left at noon with forty people on board entails the "
        "Forty people were on the ferry. True or False? answer:"
    )
    assert only("p2_rte:paper") == (
        'The sign at the gate said "closed", though the garden was open. entails the '
        "The garden was closed.. True or False? answer:"
    )
    assert [gold for _, gold in prompts("p2_rte", DATA)] == ["True", "False", "True", "False"]


def test_natural_questions_to_the_letter() -> None:
    head = "Refer to the passage below and answer the following question. Passage: "
    passage = "The stone bridge at Elmford was built by Ada Brook between 1802 and 1805."
    asked = "who built the stone bridge at elmford?"
    assert only("p2_nq") == f"{head}{passage} Question: {asked} Answer:"
    assert only("p2_nq:paper") == f"{head}\n\n{passage} Question: {asked}"


def test_questions_without_passages(tmp_path: Path) -> None:
    (tmp_path / "nq_open").mkdir()
    file = tmp_path / "nq_open" / "dev.jsonl"
    plain = '{"question": "who was first", "answer": ["Ada"]}\n'
    file.write_text(plain)
    assert prompts("p2_nq", str(tmp_path))[0][0] == "Answer the following question. Question: who was first? Answer:"
    with pytest.raises(BadInput, match=r"`output`.*GenRead.*p2_nq"):
        prompts("p2_nq:paper", str(tmp_path))
    file.write_text(plain + '{"question": "who?", "answer": ["Ada"], "output": ["Ada was."]}\n')
    with pytest.raises(BadInput, match="1 of 2 rows have no `output`, such as 'who was first'"):
        prompts("p2_nq", str(tmp_path))


def test_boolq_to_the_letter() -> None:
    task = "Please answer the given question based on the passage. The answer should be exact 'yes' or 'no'. passage: "
    passage = "Copper has a density of about 9 grams per cubic centimetre, that of lead is above 11."
    assert only("p2_boolq", 1) == f"{task}{passage} question: is copper heavier than lead? answer:"
    assert only("p2_boolq:paper", 1) == f"{task}{passage} question: is copper heavier than lead. answer:"
    assert [gold for _, gold in prompts("p2_boolq", DATA)] == ["yes", "no", "no"]


def test_mutual_to_the_letter() -> None:
    article = "m : how was the exam ? f : i could not finish the last two questions ."
    options = (
        "(A)m : so you finished early .",
        "(B)m : how nice that there were only two .",
        "(C)m : maybe the others will be enough .",
        "(D)m : i am sorry you missed it .",
    )
    end = " A: Among A through D, the answer is"
    ask = f"Q: {article} Which choice is correct? Answer"
    assert only("p2_mutual", 2) == f"{ask} Choices: {' '.join(options)}{end}"
    assert only("p2_mutual:paper", 2) == f"{ask} Chioces: {''.join(options)}{end}"
    assert [gold for _, gold in prompts("p2_mutual", DATA)] == ["A", "B", "C"]


def test_samsum_to_the_letter() -> None:
    chat = "Mira: are you at the station?\r\nJo: not yet, tram is late\r\nMira: ok, I'll wait at the kiosk"
    assert only("p2_samsum") == chat.replace("\r", "") + "\nTL;DR:"
    assert only("p2_samsum:paper", 2) == chat + "\nTL;DR:"


def test_conll2003_to_the_letter() -> None:
    said = "Ada Brook left Elmford, Reuters said. Entity:"
    how = "separated by commas, or answer none if there is none"
    kinds = ("Person", "Location", "Organization", "Miscellaneous")
    assert [prompt for prompt, _ in prompts("p2_conll2003", DATA)[:4]] == [
        f"Please identify {kind} Entity from the given text, {how}. Text: {said}" for kind in kinds
    ]
    asked = [prompt for prompt, _ in prompts("p2_conll2003:paper", DATA)]
    assert asked[0] == "Please identify Miscellaneous Entity from the given text. Text: -DOCSTART- Entity:"
    assert asked[1] == f"Please identify Person Entity from the given text. Text: {said}"
    assert len(prompts("p2_conll2003", DATA)) == 16  # four sentences, the start of the document is none


def test_sst2_to_the_letter() -> None:
    assert only("p2_sst2") == (
        "For each snippet of text, label the sentiment of the text as positive or negative. The answer should be exact "
        "'positive' or 'negative'. text: a warm and clever little film answer:"
    )
    assert only("p2_sst2:paper") == (
        "For each snippet of text,label the sentiment of the text as positive or negative.The answer should be exact "
        "'positive' or 'negative'. text: a warm and clever little film  answer:"
    )


# Readings: right, wrong, empty, adversarial

SENTENCES = {"premise": "It rained.", "claim": "It was wet.", "gold": "True"}
PASSAGE = {"passage": "The answer: yes.", "question": "is it", "gold": "no"}
PLAIN = {"passage": "It is.", "question": "is it", "gold": "no"}
DIALOGUE = {"article": "m : hi .", "options": ["a", "b", "c", "d"], "gold": "C"}
REVIEW = {"text": "fine", "gold": "positive"}
SUM = {"question": "2 times 4?", "answer": "2 * 4 = <<2*4=8>>8\n#### 8", "gold": "8"}
THOUSAND = {"question": "2 times 500?", "answer": "It is 1,000.\n#### 1,000", "gold": "1000"}


@pytest.mark.parametrize(
    ("output", "strict", "loose"),
    [
        (" True", "True", "True"),
        (" true.", "True", "True"),
        ("\n\nFALSE\nTrue", "False", None),
        (" 'True', because", "True", "True"),
        (" (False) since", "False", "False"),
        (" It is true", None, "True"),
        (" True it is", None, "True"),
        (" True or False", None, None),
        (" untrue", None, None),
        (" Falsehood", None, None),
        ("", None, None),
        (" \n ", None, None),
    ],
)
def test_labels(output: str, strict: str | None, loose: str | None) -> None:
    assert rte.parse_strict(output) == strict and rte.parse_loose(output) == loose


@pytest.mark.parametrize(
    ("output", "strict", "loose"),
    [
        (" B", "B", "B"),
        (" (B) tea", "B", "B"),
        (" B.", "B", "B"),
        (" b", None, None),
        (" A man", None, "A"),  # the article, perhaps: not in the form that was asked for
        (" A or B", None, None),
        (" Cat", None, None),
    ],
)
def test_letters(output: str, strict: str | None, loose: str | None) -> None:
    assert mutual.parse_strict(output) == strict and mutual.parse_loose(output) == loose


def test_labels_are_taken_literally() -> None:
    assert strict_label("a.c", ("a.b",)) is None and loose_label("axb a.b", ("a.b",)) == "a.b"


@pytest.mark.parametrize(
    ("read", "doc", "output", "answer"),
    [
        (rte.parse_paper, SENTENCES, " True", "True"),
        (rte.parse_paper, SENTENCES, " FALSE", "False"),
        (rte.parse_paper, SENTENCES, " untrue", "True"),  # as published
        (rte.parse_paper, SENTENCES, " The", None),
        (rte.parse_paper, SENTENCES, "", None),
        (sst2.parse_paper, REVIEW, " Positive", "positive"),
        (sst2.parse_paper, REVIEW, " negative", "negative"),
        (sst2.parse_paper, REVIEW, " neg", None),
        (boolq.parse_edited, PLAIN, " no", "no"),
        (boolq.parse_edited, PLAIN, " know", "no"),  # as published
        (boolq.parse_edited, PLAIN, " Yes", "yes"),
        (boolq.parse_edited, PLAIN, " It", None),
        (boolq.parse_edited, PASSAGE, " no", "yes"),  # read from the passage, which has an "answer:"
        (boolq.parse_unedited, PLAIN, " No", "no"),
        (boolq.parse_unedited, PLAIN, " know", None),
        (boolq.parse_unedited, PLAIN, " no.", None),
        (boolq.parse_unedited, PLAIN, ended(" no"), None),  # the end of text is part of the text
        (boolq.parse_unedited, PLAIN, "no", "no"),
        (mutual.parse_unedited, DIALOGUE, " C", "C"),
        (mutual.parse_unedited, DIALOGUE, " Chinese", "C"),
        (mutual.parse_unedited, DIALOGUE, " B", "B"),
        (mutual.parse_unedited, DIALOGUE, " the", None),
        (mutual.parse_edited, DIALOGUE, " Chinese", None),
        (mutual.parse_edited, DIALOGUE, " Ch", "C"),
        (gsm8k_zero_shot.contains_gold, SUM, " 8", "8"),
        (gsm8k_zero_shot.contains_gold, SUM, " 18.", "8"),  # as published
        (gsm8k_zero_shot.contains_gold, SUM, " 7", " 7"),
        (gsm8k_zero_shot.contains_gold, THOUSAND, " 1,000", "1000"),
        (gsm8k_zero_shot.contains_gold, THOUSAND, " 1000", " 1000"),  # as published: commas are not removed
        (samsum.parse_paper, {"dialogue": "A: hi", "gold": ""}, open_ended(" Anna says hi to all"), " Anna s"),
        (samsum.parse_paper, {"dialogue": "A: hi", "gold": ""}, ended(" Anna says hi"), " Anna says hi"),
        (samsum.parse_paper, {"dialogue": "A: hi", "gold": ""}, open_ended(" Anna says hi"), None),
        (samsum.parse_paper, {"dialogue": "A: hi", "gold": ""}, ended(""), None),
    ],
)
def test_published_rules(
    read: Callable[[str, dict[str, Any]], str | None], doc: dict[str, Any], output: str, answer: str | None
) -> None:
    text = read(output, doc)
    assert text == answer or (read is gsm8k_zero_shot.contains_gold and str(text).strip() == str(answer).strip())


BRIDGE = {"passage": "", "question": "who", "answers": ["Ada Brook", "the Brook"], "gold": "Ada Brook"}


@pytest.mark.parametrize(
    ("output", "strict", "loose"),
    [
        (" Ada Brook.", True, True),
        ("\nthe ada brook\nno", True, True),
        (" Brook", True, True),
        (" It was Ada Brook who built it", False, True),
        (" Adam Brookes", False, False),
        (" Ada of Brookside", False, False),
        ("", False, False),
        (" the", False, False),
    ],
)
def test_natural_questions_counts_once(output: str, strict: bool, loose: bool) -> None:
    for read, right in ((nq.strict, strict), (nq.loose, loose)):
        assert nq.score(BRIDGE, read([[output]], [BRIDGE])) == {"exact_match": float(right)}


def question(passage: str, *answers: str) -> dict[str, Any]:
    return {"passage": passage, "question": "who was it?", "answers": list(answers), "gold": answers[0]}


def hits(docs: list[dict[str, Any]], outputs: list[str]) -> list[float]:
    found = nq.paper([[open_ended(output)] for output in outputs], docs)
    return [nq.paper_score(doc, [hit])["score"] for doc, hit in zip(docs, found, strict=True)]


def test_published_scan_of_natural_questions() -> None:
    brook, ada = question("It was Ada Brook.", "Ada Brook"), question("Only Ada, said Ada.", "Ada")
    nobody = question("Nobody knows.", "Ada Brook")
    assert hits([ada], [" Tom"]) == [2]  # in the passage, twice
    assert hits([nobody], [" Ada Brook it was"]) == [1]
    assert hits([nobody, nobody], [" Ada Brook it was"] * 2) == [1, 0]  # the flag stays up
    assert hits([brook, ada], [" Tom", " Tom"]) == [1, 0]
    assert hits([brook, ada], [" Tom", " Ada"]) == [1, 1]  # the last word still counts
    assert hits([nobody], [""]) == [0]
    assert nq.paper([[ended(" Ada")]], [question("", "Ada")])[0].hits == 0  # glued to the end of text


def test_published_scan_against_the_oracle() -> None:
    rng, words = Random(0), ("ada", "brook", "mill", "elm", "x")
    for _ in range(200):
        texts = [[rng.choice(words) for _ in range(rng.randint(1, 7))] for _ in range(6)]
        answers = [{" ".join(rng.choices(words, k=rng.randint(1, 3))) for _ in range(2)} for _ in texts]
        flag, found = False, []
        for text, right in zip(texts, answers, strict=True):
            count, flag = nq.scan(text, right, flag)
            found.append(count)
        assert found == oracle.natural_questions(texts, answers)


# Summaries

TRAM = "Jo is late because of the tram. Mira waits at the kiosk."


def test_rouge_by_hand() -> None:
    doc = {"gold": "the cat sat down"}
    # ROUGE-1: all words; ROUGE-2: one pair of three, "the cat"; ROUGE-L: three words in order of four.
    assert samsum.score(doc, ["The cat down sat."]) == {"score": pytest.approx((1 + 1 / 3 + 3 / 4) / 3)}
    assert samsum.score(doc, ["the cat sat down"]) == {"score": pytest.approx(1)}
    assert samsum.score(doc, ["a dog"]) == {"score": 0} == samsum.score(doc, [UNPARSED])


@pytest.mark.parametrize(
    ("said", "gold", "mean"),
    [
        ("Jo is late. Mira waits at the k", TRAM, 0.6518518518518519),
        ("The cat, the cat. the fish", "The cat ate half of her food. Ben suggests fish.", 0.2976190476190476),
        ("Sam didn't find it", "Sam finds the keys, didn't he?", 0.39999999999999997),
    ],
)
def test_rouge_is_that_of_the_package(said: str, gold: str, mean: float) -> None:
    """Numbers of the package rouge-score 0.1.2."""
    assert samsum.score({"gold": gold}, [said])["score"] == pytest.approx(mean, abs=1e-15)


@pytest.mark.parametrize(
    ("said", "gold", "mean"),
    [
        (" Jo is late. Mira waits at the k", TRAM, 0.6764132505260309),
        (" The cat, the cat. the fish", "The cat ate half of her food. Ben suggests fish.", 0.26666666370370373),
        (" keys under the pot", "Sam finds the keys under the pot.", 0.7555555508740742),
        (" a b a. c b a", "a c. b a c", 0.9523809474149662),
    ],
)
def test_published_rouge_is_that_of_the_package(said: str, gold: str, mean: float) -> None:
    """Numbers of the package rouge 1.0.1."""
    assert samsum.paper_score({"gold": gold}, [said])["score"] == pytest.approx(mean, abs=1e-15)


@pytest.mark.parametrize("said", [UNPARSED, "...", "other words"])
def test_published_rouge_of_nothing(said: str) -> None:
    assert samsum.paper_score({"gold": "a b."}, [said]) == {"score": 0}


# Entities

TOKENS = ["Ada", "Brook", "met", "U.S.", "Dutch", "men", "in", "Elm"]


@pytest.mark.parametrize(
    "tags",
    [
        ["I-PER", "I-PER", "O", "I-LOC", "I-MISC", "O", "O", "I-LOC"],
        ["B-PER", "I-PER", "O", "B-LOC", "B-MISC", "O", "O", "B-LOC"],
    ],
)
def test_entities_from_either_tagging(tags: list[str]) -> None:
    found = {kind: conll2003.entities(TOKENS, tags, kind) for kind in conll2003.KINDS}
    assert found == {"PER": ["Ada Brook"], "LOC": ["U.S.", "Elm"], "ORG": [], "MISC": ["Dutch"]}


def test_neighbours_of_one_kind_are_two_entities() -> None:
    assert conll2003.entities(["Ada", "Tom"], ["I-PER", "B-PER"], "PER") == ["Ada", "Tom"]
    assert conll2003.entities(["Ada", "Tom"], ["I-PER", "I-PER"], "PER") == ["Ada Tom"]


def test_published_reading_of_tags() -> None:
    tags = ["B-PER", "I-PER", "O", "B-LOC", "B-MISC", "O", "O", "B-LOC"]
    assert conll2003.paper_entities(TOKENS, tags, "LOC") == ["U.S. Dutch", ""]
    rng = Random(0)
    for _ in range(500):
        tags = rng.choices(("O", "B-PER", "I-PER", "B-LOC"), k=len(TOKENS))
        assert conll2003.paper_entities(TOKENS, tags, "PER") == oracle.entities(TOKENS, tags, "PER")


def test_sentences_as_text() -> None:
    assert conll2003.sentence(["Elm", ",", "a", "town", ",", "slept", "."]) == "Elm, a town, slept."
    assert conll2003.paper_sentence(["Elm", ",", "slept", "."]) == "Elm, slept."
    assert conll2003.paper_sentence([".", "Elm"]) == " Elm"  # as published


NAMES = {"sentence": "Ada Brook met Tom.", "kind": "PER", "entities": ["Ada Brook", "Tom"]}
NOBODY = {"sentence": "It rained.", "kind": "PER", "entities": []}


@pytest.mark.parametrize(
    ("doc", "output", "tp", "fp", "fn", "loose_tp"),
    [
        (NAMES, " Ada Brook, Tom", 2, 0, 0, 2),
        (NAMES, " Tom.", 1, 0, 1, 1),
        (NAMES, ' "Tom"; "Tom"', 1, 0, 1, 1),
        (NAMES, " tom, Mr. Ada Brook, Elm", 0, 3, 2, 2),
        (NAMES, " Ada Brook met Tom", 0, 1, 2, 2),
        (NAMES, " none", 0, 0, 2, 0),
        (NAMES, "", 0, 0, 2, 0),
        (NOBODY, " Nobody", 0, 1, 0, 0),
        (NOBODY, " None.", 0, 0, 0, 0),
        (NOBODY, "", 0, 0, 0, 0),
    ],
)
def test_counts_of_entities(doc: dict[str, Any], output: str, tp: int, fp: int, fn: int, loose_tp: int) -> None:
    found = conll2003.score(doc, conll2003.strict([[output]], [doc]))
    assert (found["tp"], found["fp"], found["fn"]) == (tp, fp, fn) and found["weight"] == 2 * tp + fp + fn
    assert found["score"] * found["weight"] == 2 * tp
    assert conll2003.score(doc, conll2003.loose([[output]], [doc]))["tp"] == loose_tp


def test_f1_of_the_whole_is_the_mean_by_weight() -> None:
    outputs = (" Ada Brook", " Tom, Elm", " none")
    rows = [conll2003.score(doc, conll2003.strict([[o]], [doc])) for doc in (NAMES, NOBODY) for o in outputs]
    tp, fp, fn = (sum(row[name] for row in rows) for name in ("tp", "fp", "fn"))
    weight = sum(row["weight"] for row in rows)
    mean = sum(row["score"] * row["weight"] for row in rows) / weight
    assert mean == pytest.approx(2 * tp / (2 * tp + fp + fn)) and 0 < mean < 1


def test_saying_none_is_an_answer_and_silence_is_not() -> None:
    assert conll2003.score(NOBODY, ["none"])["score"] == 1 and conll2003.score(NOBODY, [UNPARSED])["score"] == 0


@pytest.mark.parametrize(
    ("entities", "output", "score", "weight"),
    [
        (["Ada Brook", "Tom"], " Tommy", 0.5, 2),  # as published: within a word
        (["Ada Brook", "Tom"], " Ada Brook met Tom.", 1, 2),  # recall: the sentence itself
        (["Ada Brook", "Tom"], " ada brook", 0, 2),
        ([""], " anything", 1, 1),  # what is left of a name that ends a sentence
        ([""], "", 1, 1),
        ([], "", 0, 1),
        ([], " none", 0, 1),
    ],
)
def test_published_recall(entities: list[str], output: str, score: float, weight: int) -> None:
    doc = {"sentence": "They met.", "kind": "MISC", "entities": entities}
    assert conll2003.paper_score(doc, conll2003.paper([[ended(output)]], [doc])) == {"score": score, "weight": weight}


def test_published_items_that_never_count_are_not_asked() -> None:
    kinds = [doc["kind"] for doc in conll2003.load_paper(DATA)["test"]]
    assert kinds.count("MISC") == 5 and len(kinds) == 10


# Rows


def say(model: EditableModel, monkeypatch: pytest.MonkeyPatch, text: str, finite: bool = True) -> None:
    monkeypatch.setattr(
        "errata.capability.local.generate",
        lambda model, prompts, *_: [Generation(text, False, finite) for _ in prompts],
    )


def rows(model: EditableModel, task: str, **options: Any) -> list[Record]:
    return evaluate(model, [task], data_dir=DATA, **options)[task]


@pytest.mark.parametrize("task", P2)
def test_every_item_once(model: EditableModel, monkeypatch: pytest.MonkeyPatch, task: str) -> None:
    say(model, monkeypatch, "")
    found = rows(model, task)
    assert len({row.item for row in found}) == len(found) == len(prompts(task, DATA))
    assert all(row.gold and row.empty and not row.invalid for row in found)


@pytest.mark.parametrize("task", ["p2_rte:paper", "p2_samsum:paper", "p2_conll2003", "p2_nq:paper"])
def test_a_model_answers_for_itself(model: EditableModel, task: str) -> None:
    assert rows(model, task, limit=3) == rows(model, task, limit=3)
    assert len(rows(model, task, limit=3)) == 3


@pytest.mark.parametrize("task", P2)
def test_logits_that_are_not_finite_never_score(
    model: EditableModel, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    say(model, monkeypatch, " True yes A positive 1000 Ada Brook", finite=False)
    found = rows(model, task)
    assert all(row.invalid and not row.correct and row.extra.get("score", 0.0) == 0 for row in found)
    assert all("weight" in row.extra for row in found) == ("conll2003" in task)


def test_loose_verdicts_stand_beside(model: EditableModel, monkeypatch: pytest.MonkeyPatch) -> None:
    say(model, monkeypatch, " I think yes")
    found = rows(model, "p2_boolq")
    assert not any(row.correct or row.parsed for row in found)
    assert [row.extra["correct_loose"] for row in found] == [True, False, False]


def test_graded_rows(model: EditableModel, monkeypatch: pytest.MonkeyPatch) -> None:
    say(model, monkeypatch, " Ada Brook, Elmford")
    first = rows(model, "p2_conll2003")[0]
    assert first.extra["kind"] == "PER" and first.gold == "Ada Brook" and first.correct
    assert {name: first.extra[name] for name in ("score", "weight", "tp", "fp", "fn")} == {
        "score": pytest.approx(2 / 3), "weight": 3, "tp": 1, "fp": 1, "fn": 0,
    }  # fmt: skip
    assert first.extra["score_loose"] == first.extra["score"] and first.extra["tp_loose"] == 1
    say(model, monkeypatch, " Jo is late because of the tram.")
    summary = rows(model, "p2_samsum")[0]
    assert summary.parsed and 0.5 < summary.extra["score"] < 1 and summary.correct


def test_the_unedited_model_is_read_by_another_rule_only_as_published(
    model: EditableModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(model, monkeypatch, " know")
    after, before = (rows(model, "p2_boolq:paper", edited=edited) for edited in (True, False))
    # The passage of the third has an "answer:" of its own, and it is read from there.
    assert [row.correct for row in after] == [False, True, False] and not any(row.correct for row in before)
    assert [row.extra["correct_unedited"] for row in after] == [False] * 3
    assert [row.extra["correct_edited"] for row in before] == [False, True, False]
    assert rows(model, "p2_boolq", edited=True) == rows(model, "p2_boolq", edited=False)


# Bad input


@pytest.mark.parametrize(
    ("file", "content", "task", "words"),
    [
        ("rte/dev.tsv", "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tmaybe\n", "p2_rte", r"dev.tsv:2: label.*maybe"),
        ("rte/dev.tsv", "index\tsentence1\tlabel\n0\ta\tentailment\n", "p2_rte", r"dev.tsv:2: sentence2 is missing"),
        ("sst2/dev.tsv", "sentence\tlabel\ngood\t2\n", "p2_sst2", r"dev.tsv:2: label should be 0 or 1; found '2'"),
        ("boolq/dev.jsonl", '{"question": "q", "passage": "p", "answer": "yes"}', "p2_boolq", r"dev.jsonl:1: answer"),
        ("mutual/dev_1.txt", '{"answers": "E", "options": ["a", "b", "c", "d"], "article": "x", "id": "dev_1"}',
         "p2_mutual", r"dev_1.txt: answers should be a letter from A to D; found 'E'"),
        ("mutual/dev_1.txt", '{"answers": "A", "options": ["a"], "article": "x", "id": "dev_1"}', "p2_mutual",
         r"dev_1.txt: options should be a list of 4 texts"),
        ("mutual/dev_1.txt", "[1]", "p2_mutual", r"dev_1.txt: found \[1\], expected one JSON object"),
        ("conll2003/test.txt", "Ada NNP B-NP B-PER\nleft VBD O\n", "p2_conll2003", r"test.txt:2: found 'left VBD O'"),
        ("conll2003/test.txt", "Ada NNP B-NP B-NAME\n", "p2_conll2003", r"test.txt:1: .*such as B-PER"),
        ("conll2003/test.jsonl", '{"tokens": ["a", "b"], "tags": ["O"]}', "p2_conll2003", r"test.jsonl:1: tags"),
        ("samsum/test.json", '[{"dialogue": "a"}]', "p2_samsum", r"test.json, item 1: summary is missing"),
        ("nq_open/dev.jsonl", '{"question": "q", "answer": "a"}', "p2_nq", r"dev.jsonl:1: answer should be a list"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path: Path, file: str, content: str, task: str, words: str) -> None:
    path = tmp_path / file
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(BadInput, match=words):
        prompts(task, str(tmp_path))


def test_files_of_mutual_are_taken_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "mutual").mkdir()
    for number in (10, 2, 1):
        text = f'{{"answers": "A", "options": ["a", "b", "c", "d"], "article": "{number}", "id": "dev_{number}"}}'
        (tmp_path / "mutual" / f"dev_{number}.txt").write_text(text)
    assert [prompt[3:5].strip() for prompt, _ in prompts("p2_mutual", str(tmp_path))] == ["1", "2", "10"]


@pytest.mark.parametrize("task", ["p2_mutual", "p2_conll2003"])
def test_data_that_the_hub_does_not_give_say_where_to_get_them(task: str) -> None:
    with pytest.raises(BadInput, match=r"--data-dir DIR with DIR/.* or (copy data/mutual/dev|build eng.testb)"):
        prompts(task)


# Real rows

SAMPLES = Path(__file__).parents[3] / "shared" / "data"
HELD = {"p2_gsm8k": 100, "p2_gsm8k:paper": 100, "p2_nq": 100, "p2_boolq": 50, "p2_boolq:paper": 50}


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples of real data are not beside the checkout")
@pytest.mark.parametrize(("task", "count"), HELD.items())
def test_every_real_sample_is_asked(task: str, count: int) -> None:
    found = prompts(task, str(SAMPLES))
    assert len(found) == count and all(prompt and gold for prompt, gold in found)
