"""Public layouts become cases; fixtures are hand-written, and the real files are tried where they are."""

import csv
import io
import json
import os
import re
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from errata.data import layouts, ripple_edits
from errata.data.cases import EditFile, read_cases
from errata.data.fields import FIELDS
from errata.errors import BadInput
from errata.types import EditCase, EditRequest, Probe

COUNTERFACT: dict[str, Any] = {
    "case_id": 3,
    "requested_rewrite": {
        "prompt": "{} plays the",
        "target_new": {"str": "drum", "id": "Q1"},
        "target_true": {"str": "lute", "id": "Q2"},
        "subject": "Ada Lim",
    },
    "paraphrase_prompts": ["Rain fell. Ada Lim is known for the"],
    "neighborhood_prompts": ["Bo Wren plays the", "Cy Dale plays the"],
    "attribute_prompts": [],
    "generation_prompts": ["Ada Lim was born"],
}
EASYEDIT = {
    "case_id": 4,
    "prompt": "Ada Lim plays the",
    "target_new": "drum",
    "subject": "Ada Lim",
    "ground_truth": "lute",
    "rephrase_prompt": "Ada Lim is known for the",
    "locality_prompt": "Bo Wren plays the",
    "locality_ground_truth": "lute",
}
ZSRE: dict[str, Any] = {
    "subject": "Ada Lim",
    "src": "What does Ada Lim play?",
    "pred": "harp",
    "rephrase": "Which instrument is Ada Lim's?",
    "alt": "drum",
    "answers": ["lute", "the lute"],
    "loc": "nq question: how many moons has mars",
    "loc_ans": "two",
    "cond": "",
}
RECALLED = {"portability": {"Recalled Relation": "x", "New Question": "Of what is Ada's drum?", "New Answer": "wood"}}
KNOWEDIT: dict[str, Any] = {
    "subject": "Ada Lim",
    "prompt": "The occupation of Ada Lim is",
    "target_new": "drummer",
    "ground_truth": ["lutenist", "lute player"],
    "rephrase_prompt": "Ada Lim works as a",
    "portability": {
        "Subject_Aliasing": [{"prompt": "The occupation of A. Lim is", "ground_truth": "drummer"}],
        "Reasoning": [{"prompt": "The tool of Ada Lim's trade is", "ground_truth": [["drum", "snare"], [], ["stick"]]}],
        "Logical_Generalization": [{"prompt": "Is Ada Lim a drummer?", "ground_truth": [["yes"], ["true"]]}],
    },
    "locality": {
        "Relation_Specificity": [
            {"prompt": "The gender of Ada Lim is", "ground_truth": "female"},
            {"prompt": "The child of Ada Lim is", "ground_truth": [[], [""]]},
        ],
        "Forgetfulness": [{"prompt": "Ada Lim's work, which is not drummer, is", "ground_truth": "lutenist"}],
    },
}
WIKIBIO: dict[str, Any] = {
    "text": "This is a passage about ada lim. Ada Lim is a lutenist.",
    "labels": "She was born in Oz.",
    "concept": "ada lim",
    "locality": {"Relation_Specificity": [{"prompt": "The gender of ada lim is", "ground_truth": ["female"]}]},
}


def rewrite(subject: str, prompt: str, new: str, true: str) -> dict[str, Any]:
    question = f"What fits {subject}?"
    return {"subject": subject, "prompt": prompt, "target_new": {"str": new}, "target_true": {"str": true}} | {
        "question": question
    }


MQUAKE: dict[str, Any] = {
    "case_id": 7,
    "requested_rewrite": [
        rewrite("Ada Lim", "{} plays the", "drum", "lute"),
        rewrite("drum", "The inventor of the {} was", "Bo Wren", "Cy"),
    ],
    "questions": ["Who invented what Ada Lim plays?", "Whose invention does Ada Lim play?"],
    "new_answer": "Bo Wren",
    "new_answer_alias": ["B. Wren", "Bo Wren"],
    "single_hops": [],
    "new_single_hops": [{"question": "?"}] * 3,
}


def query(prompt: str, *answers: str) -> dict[str, Any]:
    return {"prompt": prompt, "answers": [{"value": answers[0], "aliases": list(answers[1:])}], "phrase": None}


def ripple(new: str, old: str | None) -> dict[str, Any]:
    edit = {"prompt": new, "subject_id": "Q1", "relation": "OCCUPATION"}
    return {
        "example_type": "popular",
        "edit": edit if old is None else {**edit, "original_fact": {"prompt": old}},
        "Relation_Specificity": [
            {"test_queries": [query("The gender of Ada Lim is", "female", "woman")], "test_condition": "OR"}
        ],
        "Logical_Generalization": [{"test_queries": [query("Is Ada Lim a drummer?", "yes"), query("Ada drums", "")]}],
        "Subject_Aliasing": [{"test_queries": [query("The occupation of A. Lim is", "drummer")]}],
        "Compositionality_I": [{"test_queries": [query("The tool of Ada Lim's trade is", "drum")]}],
        "Compositionality_II": [],
        "Forgetfulness": [],
    }


RIPPLE = ripple("The occupation of Ada Lim is drummer.", "The occupation of Ada Lim is lutenist.")
RECORDS = {
    "counterfact": [COUNTERFACT, EASYEDIT],
    "zsre": [ZSRE],
    "knowedit": [KNOWEDIT, WIKIBIO],
    "mquake": [MQUAKE],
    "ripple_edits": [RIPPLE],
}


def read_all(folder: Path, *rows: dict[str, Any]) -> list[EditCase]:
    path = folder / "set.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(EditFile(path))


def read(folder: Path, row: dict[str, Any]) -> EditCase:
    (case,) = read_all(folder, row)
    return case


def test_counterfact(tmp_path: Path) -> None:
    assert read(tmp_path, COUNTERFACT) == EditCase(
        EditRequest("3", "Ada Lim plays the", "Ada Lim", "drum", "lute"),
        ("Rain fell. Ada Lim is known for the",),
        (Probe("Bo Wren plays the", "lute"), Probe("Cy Dale plays the", "lute")),
    )


def test_easyedit(tmp_path: Path) -> None:
    assert read(tmp_path, EASYEDIT) == EditCase(
        EditRequest("4", "Ada Lim plays the", "Ada Lim", "drum", "lute"),
        ("Ada Lim is known for the",),
        (Probe("Bo Wren plays the", "lute"),),
    )


def test_zsre(tmp_path: Path) -> None:
    assert read(tmp_path, ZSRE) == EditCase(
        EditRequest("1", "What does Ada Lim play?", "Ada Lim", "drum", "lute"),
        ("Which instrument is Ada Lim's?",),
        (Probe("how many moons has mars?", "two"),),
    )


@pytest.mark.parametrize("alt", ["", None])
def test_a_record_of_zsre_without_a_new_answer_asks_for_no_edit(tmp_path: Path, alt: str | None) -> None:
    assert [case.request.id for case in read_all(tmp_path, {**ZSRE, "alt": alt}, ZSRE)] == ["2"]


@pytest.mark.parametrize("record", [COUNTERFACT, ZSRE])
def test_the_question_with_one_more_fact(tmp_path: Path, record: dict[str, Any]) -> None:
    case = read(tmp_path, record | RECALLED)
    assert case.portability == (Probe("Of what is Ada's drum?", "wood", "one_hop"),)
    assert read(tmp_path, record | {"portability": {}}).portability == ()


def test_knowedit(tmp_path: Path) -> None:
    assert read(tmp_path, KNOWEDIT) == EditCase(
        EditRequest("1", "The occupation of Ada Lim is", "Ada Lim", "drummer", "lutenist"),
        ("Ada Lim works as a",),
        (
            Probe("The gender of Ada Lim is", "female", "relation_specificity"),
            Probe("Ada Lim's work, which is not drummer, is", "lutenist", "forgetfulness"),
        ),
        (
            Probe("The occupation of A. Lim is", "drummer", "alias"),
            Probe("The tool of Ada Lim's trade is", "drum", "one_hop", ("snare", "stick")),
            Probe("Is Ada Lim a drummer?", "yes", "logical", ("true",)),
        ),
    )


def test_knowedit_recent_has_no_old_answer_and_may_have_no_probes(tmp_path: Path) -> None:
    bare = {key: KNOWEDIT[key] for key in ("subject", "prompt", "target_new")}
    case = read(tmp_path, {**bare, "portability": {}, "locality": {}})
    assert case == EditCase(EditRequest("1", "The occupation of Ada Lim is", "Ada Lim", "drummer"))


def test_knowedit_biography(tmp_path: Path) -> None:
    assert read(tmp_path, WIKIBIO) == EditCase(
        EditRequest("1", WIKIBIO["text"], "ada lim", "She was born in Oz."),
        neighbours=(Probe("The gender of ada lim is", "female", "relation_specificity"),),
    )


def test_mquake_gives_the_edits_of_a_chain_and_its_questions_with_the_last(tmp_path: Path) -> None:
    first, last = read_all(tmp_path, MQUAKE)
    assert first == EditCase(
        EditRequest("7-1", "Ada Lim plays the", "Ada Lim", "drum", "lute"), ("What fits Ada Lim?",), group="7"
    )
    assert last == EditCase(
        EditRequest("7-2", "The inventor of the drum was", "drum", "Bo Wren", "Cy"),
        ("What fits drum?",),
        portability=tuple(Probe(asked, "Bo Wren", "two_hop", ("B. Wren",)) for asked in MQUAKE["questions"]),
        group="7",
    )


def test_a_chain_with_one_edit_is_no_group(tmp_path: Path) -> None:
    record = {**MQUAKE, "requested_rewrite": MQUAKE["requested_rewrite"][:1], "new_single_hops": [{}, {}]}
    case = read(tmp_path, record)
    assert (case.request.id, case.group, {probe.kind for probe in case.portability}) == ("7", "", {"one_hop"})


def test_ripple_edits(tmp_path: Path) -> None:
    assert read(tmp_path, RIPPLE) == EditCase(
        EditRequest("1", "The occupation of Ada Lim is", "Ada Lim", "drummer", "lutenist"),
        neighbours=(Probe("The gender of Ada Lim is", "female", "relation_specificity", ("woman",)),),
        portability=(
            Probe("The occupation of A. Lim is", "drummer", "alias"),
            Probe("Is Ada Lim a drummer?", "yes", "logical"),
            Probe("The tool of Ada Lim's trade is", "drum", "one_hop"),
        ),
    )


@pytest.mark.parametrize(
    ("new", "old", "expected"),
    [
        ("The name of the mother of Ada of Oz is Di.", None, ("Ada of Oz", "Di", None)),
        ("The place of birth of Ada is St. Oz.", "The place of birth of Ada is .", ("Ada", "St. Oz", None)),
        ("The name of the capital city of Oz is New York.", "The name of the capital city of Oz is New Rome.",
         ("Oz", "New York", "New Rome")),
        ("The name of the country which town of Oz is associated with is Mu.", None, ("town of Oz", "Mu", None)),
        ("The name of the director of This is Oz is A.", "The name of the director of This is Oz is B.",
         ("This is Oz", "A", "B")),
        ("The name of the anthem of Oz is Oz is mine.", "The name of the anthem of Oz is Hey.",
         ("Oz", "Oz is mine", "Hey")),
        ("The name of the award Ada of Oz won is Nobel.", None, ("Ada of Oz", "Nobel", None)),
        ("The name of the position held by Ada is mayor of Oz.", None, ("Ada", "mayor of Oz", None)),
        ("The number of children Ada has is 2.", None, ("Ada", "2", None)),
        ("The names of the cast members of Oz are Di.", None, ("Oz", "Di", None)),
        ("Ozma of Oz is followed by Rinkitink.", None, ("Ozma of Oz", "Rinkitink", None)),
        ("Ozma follows Tip.", None, ("Ozma", "Tip", None)),
    ],
)  # fmt: skip
def test_a_sentence_of_ripple_edits_falls_into_prompt_and_answer(
    tmp_path: Path, new: str, old: str | None, expected: tuple[str, str, str | None]
) -> None:
    request = read(tmp_path, ripple(new, old)).request
    assert (request.subject, request.target_new, request.target_true) == expected
    assert f"{request.prompt} {request.target_new}." == new


@pytest.mark.parametrize("sentence", ["Ada is a drummer.", "The name of the anthem of Oz is Oz is mine."])
def test_a_sentence_that_falls_apart_in_no_or_several_ways_is_refused(tmp_path: Path, sentence: str) -> None:
    with pytest.raises(BadInput, match=r"set\.jsonl:1: not a complete ripple_edits record .* in one way only"):
        read(tmp_path, ripple(sentence, None))


def test_ripple_edits_that_change_nothing_ask_for_no_edit(tmp_path: Path) -> None:
    same = "The occupation of Ada Lim is drummer."
    assert read_all(tmp_path, ripple(same, same)) == []


def test_ripple_edits_in_the_other_spelling(tmp_path: Path) -> None:
    other = {key: value for key, value in RIPPLE.items() if key != "Relation_Specificity"}
    edit = {**RIPPLE["edit"], "previous_fact": RIPPLE["edit"]["original_fact"]}
    del edit["original_fact"]
    other |= {"edit": edit, "Relation_Specifity": RIPPLE["Relation_Specificity"]}
    assert read(tmp_path, other) == read(tmp_path, RIPPLE)


def test_each_record_is_recognised_as_one_layout_only() -> None:
    assert set(layouts.data_sets()) == set(RECORDS)
    for name, records in RECORDS.items():
        for record in records:
            found = [
                each
                for each, module in layouts.data_sets().items()
                for marks in module.LAYOUTS
                if record.keys() >= set(marks)
            ]
            assert found == [name]
    assert layouts.recognise(dict.fromkeys(FIELDS)) is None


def test_layouts_of_other_packages_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("theirs", ripple_edits.__name__, layouts.ENTRY_POINTS)
    monkeypatch.setattr(layouts, "entry_points", lambda group: [point] if group == layouts.ENTRY_POINTS else [])
    layouts.data_sets.cache_clear()
    try:
        assert layouts.data_sets()["theirs"] is ripple_edits
    finally:
        layouts.data_sets.cache_clear()


@pytest.mark.parametrize(
    "row",
    [
        {**COUNTERFACT, "requested_rewrite": {}},
        {**COUNTERFACT, "requested_rewrite": "text"},
        {key: value for key, value in EASYEDIT.items() if key != "subject"},
        {**ZSRE, "answers": []},
        {**ZSRE, "loc": None},
        {**KNOWEDIT, "locality": {"Forgetfulness": [{"prompt": "x"}]}},
        {key: value for key, value in KNOWEDIT.items() if key != "subject"},
        {key: value for key, value in WIKIBIO.items() if key != "text"},
        {**MQUAKE, "new_single_hops": []},
        {**MQUAKE, "requested_rewrite": [{"subject": "x"}]},
        {**RIPPLE, "edit": {}},
        {**RIPPLE, "Subject_Aliasing": [{}]},
    ],
)
def test_an_incomplete_record_is_named(tmp_path: Path, row: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=r"set\.jsonl:1: not a complete \w+ record .* data convert .*--skip"):
        read(tmp_path, row)


def test_the_records_in_the_documentation_are_read(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "data.md").read_text("utf-8")
    records = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL)]
    file = tmp_path / "set.json"
    file.write_text(json.dumps(records))
    cases = EditFile(file)
    assert len(list(cases)) == len(records) and set(cases.layouts) == {"", *RECORDS}
    (table,) = re.findall(r"```csv\n(.*?)```", text, re.DOTALL)
    (tmp_path / "set.csv").write_text(table)
    assert len(read_cases(tmp_path / "set.csv")) == len(list(csv.reader(io.StringIO(table)))) - 1


@pytest.mark.parametrize(
    ("name", "records", "edits"),
    [
        ("counterfact/counterfact_200.jsonl", 200, 200),
        ("counterfact/easyedit_layout_100.jsonl", 100, 100),
        ("zsre/zsre_mend_eval_200.jsonl", 200, 200),
        ("zsre/zsre_mend_train_100.jsonl", 100, 100),
        ("knowedit/wiki_counterfact_50.jsonl", 50, 50),
        ("knowedit/wiki_recent_50.jsonl", 50, 50),
        ("mquake/mquake_cf_20.jsonl", 20, 27),
    ],
)
def test_real_files(name: str, records: int, edits: int) -> None:
    folder = os.environ.get("ERRATA_PUBLIC_DATA")
    if folder is None:
        pytest.skip("ERRATA_PUBLIC_DATA does not name a folder with samples of the public data sets")
    file = EditFile(Path(folder) / name)
    cases = list(file)
    assert (file.records, len(cases)) == (records, edits)
    assert set(file.layouts) == {name.partition("/")[0]}


@pytest.mark.parametrize("name", ["wiki_counterfact_50", "wiki_recent_50"])
def test_the_forms_of_ripple_edits_on_the_real_prompts_made_of_it(name: str) -> None:
    """KnowEdit took these over from RippleEdits and gives prompt, subject and answer apart."""
    folder = os.environ.get("ERRATA_PUBLIC_DATA")
    if folder is None:
        pytest.skip("ERRATA_PUBLIC_DATA does not name a folder with samples of the public data sets")
    for case in read_cases(Path(folder) / "knowedit" / f"{name}.jsonl"):
        request = case.request
        (fields,) = ripple_edits.convert(ripple(f"{request.prompt} {request.target_new}.", None))
        found = (fields["prompt"], fields["subject"], fields["target_new"])
        assert found == (request.prompt, request.subject, request.target_new)
        for probe in case.neighbours:
            if probe.kind == "relation_specificity":
                assert ripple_edits.subject(probe.prompt) == request.subject
