"""Reading edits: what is right is read as it stands, and the first wrong row is named exactly."""

import json
from pathlib import Path
from typing import Any

import pytest

from errata.data.cases import EditFile, read_cases
from errata.data.fields import fields_of
from errata.data.subjects import infer_subject
from errata.errors import BadInput
from errata.types import EditCase, EditRequest, Probe

FRANCE = {"prompt": "The capital of France is", "subject": "France", "target_new": "Lyon"}
FULL = {
    **FRANCE,
    "id": "x1",
    "target_true": "Paris",
    "paraphrases": ["France's capital is"],
    "neighbours": [{"prompt": "The capital of Italy is", "answer": "Rome"}],
    "portability": [
        {
            "prompt": "The river of the capital of France is the",
            "answer": "Rhône",
            "kind": "one_hop",
            "aliases": ["Rhone"],
        }
    ],
    "group": "capitals",
}


def jsonl(folder: Path, *rows: Any) -> Path:
    path = folder / "edits.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def complaint(path: Path) -> str:
    with pytest.raises(BadInput) as caught:
        read_cases(path)
    return str(caught.value)


def test_every_field_arrives(tmp_path: Path) -> None:
    (case,) = read_cases(jsonl(tmp_path, FULL))
    assert case == EditCase(
        EditRequest("x1", "The capital of France is", "France", "Lyon", "Paris"),
        ("France's capital is",),
        (Probe("The capital of Italy is", "Rome"),),
        (Probe("The river of the capital of France is the", "Rhône", "one_hop", ("Rhone",)),),
        group="capitals",
    )
    assert fields_of(case) == FULL
    assert case.source.endswith("edits.jsonl:1")


def test_blanks_and_byte_order_mark_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "edits.jsonl"
    row = {**FRANCE, "prompt": "The capital of France is ", "target_new": " Lyon"}
    path.write_bytes(b"\xef\xbb\xbf\n" + json.dumps(row).encode() + b"\r\n\n")
    (case,) = read_cases(path)
    assert case.request == EditRequest("2", "The capital of France is", "France", "Lyon")


def test_one_bad_line_in_ten_thousand(tmp_path: Path) -> None:
    rows: list[Any] = [{**FRANCE, "id": i} for i in range(10_000)]
    rows[36] = '{"prompt": "The capital of France is", "subject'
    text = complaint(jsonl(tmp_path, *rows))
    assert "edits.jsonl:37:" in text and "expected one JSON object" in text and "\n" not in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"target_new": ""}, "target_new is empty"),
        ({"target_new": "  "}, "target_new is empty"),
        ({"target_new": None}, "target_new is missing"),
        ({"target_new": 7}, "target_new is 7, expected a string"),
        ({"subject": "Spain"}, "the subject 'Spain' is not in the prompt"),
        ({"subject": ""}, "subject is empty"),
        ({"target_nwe": "Lyon"}, "did you mean 'target_new'"),
        ({"paraphrases": {"a": 1}}, "expected a list"),
        ({"paraphrases": ["ok", 3]}, r"paraphrases[1] is 3"),
        ({"neighbours": ["The capital of Italy is"]}, 'expected {"prompt": "...", "answer": "..."}'),
        ({"neighbours": [{"prompt": "x"}]}, "neighbours[0]"),
        ({"portability": [{"prompt": "x", "answer": ""}]}, "portability[0].answer is empty"),
        ({"portability": [{"prompt": "x", "answer": "y", "hops": 1}]}, "no other fields than kind and aliases"),
        ({"portability": [{"prompt": "x", "answer": "y", "kind": 2}]}, "portability[0].kind is 2"),
        ({"portability": [{"prompt": "x", "answer": "y", "aliases": ["z", 1]}]}, "portability[0].aliases[1] is 1"),
        ({"group": ""}, "group is empty"),
        ({"id": True}, "id is True"),
    ],
)
def test_each_fault_is_named_with_its_line(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    text = complaint(jsonl(tmp_path, FRANCE, {**FRANCE, **change}))
    assert "edits.jsonl:2: " in text and words in text


@pytest.mark.parametrize("line", ["[1, 2]", '"text"', "3", "null", "{", "{} {}"])
def test_a_line_that_is_no_object(tmp_path: Path, line: str) -> None:
    assert "edits.jsonl:3:" in complaint(jsonl(tmp_path, FRANCE, FRANCE, line))


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "edits.jsonl"
    path.write_bytes(json.dumps(FRANCE).encode() + b"\n\xff\xfe\n")
    assert "edits.jsonl:2: not UTF-8 at byte 1" in complaint(path)


def test_an_id_may_not_come_twice(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {**FRANCE, "id": "a"}, FRANCE, {**FRANCE, "id": "a"})
    text = complaint(path)
    assert "edits.jsonl:3:" in text and "edits.jsonl:1" in text


def test_files_that_are_not_there(tmp_path: Path) -> None:
    assert "no such file" in complaint(tmp_path / "absent.jsonl")
    assert "unknown kind of file" in complaint(tmp_path / "edits.txt")
    (tmp_path / "folder.jsonl").mkdir()
    assert "a folder" in complaint(tmp_path / "folder.jsonl")
    assert "holds no edits" in complaint(jsonl(tmp_path))
    with pytest.raises(BadInput, match="did you mean 'atlas'"):
        read_cases("atals")


def test_every_fault_is_told_to_who_asks(tmp_path: Path) -> None:
    path = jsonl(tmp_path, FRANCE, {**FRANCE, "subject": "Spain"}, "{", FRANCE, {**FRANCE, "id": "1"}, "", [1])
    path.write_bytes(path.read_bytes() + b"\xff\n" + json.dumps(FRANCE).encode())
    faults: list[str] = []
    file = EditFile(path, lambda error: faults.append(str(error)))
    for _ in range(2):  # a file can be read again
        faults.clear()
        assert [case.request.id for case in file] == ["1", "4", "9"]
        places = [fault.removeprefix(f"{path}:").partition(":")[0] for fault in faults]
        assert places == ["2", "3", "5", "7", "8"] and file.records == 5 and dict(file.layouts) == {"": 5}
    (tmp_path / "list.json").write_text(json.dumps([FRANCE, 5, FRANCE]))
    assert len(list(EditFile(tmp_path / "list.json", lambda error: faults.append(str(error))))) == 2
    assert "list.json, item 2" in faults[-1]
    (tmp_path / "table.csv").write_text("prompt,subject,target_new\na France b,France\na France b,France,Lyon\n")
    assert len(list(EditFile(tmp_path / "table.csv", lambda error: faults.append(str(error))))) == 1
    assert "table.csv:2: found 2 cells" in faults[-1]


def test_no_more_is_read_than_is_wanted(tmp_path: Path) -> None:
    assert len(read_cases(jsonl(tmp_path, FRANCE, FRANCE, "{"), limit=2)) == 2


def test_reading_tells_how_far_it_is(tmp_path: Path) -> None:
    path = jsonl(tmp_path, *({**FRANCE, "id": i} for i in range(2500)))
    told: list[tuple[str, int, int]] = []
    read_cases(path, progress=lambda what, done, total: told.append((what, done, total)))
    kilobytes = path.stat().st_size // 1000
    assert [(what, total) for what, _, total in told] == [("reading edits.jsonl (kB)", kilobytes)] * 3
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told) and told[-1][1] == kilobytes


def test_json_list(tmp_path: Path) -> None:
    path = tmp_path / "edits.json"
    path.write_text(json.dumps([FRANCE, FULL], indent=1))
    assert [case.request.id for case in read_cases(path)] == ["1", "x1"]
    path.write_text(json.dumps([FRANCE, 5]))
    assert "edits.json, item 2" in complaint(path)
    path.write_text(json.dumps(FRANCE))
    assert "expected a list of objects" in complaint(path)


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "edits.csv"
    neighbours = json.dumps(FULL["neighbours"]).replace('"', '""')
    path.write_text(
        "prompt,subject,target_new,target_true,paraphrases,neighbours\n"
        '"In Oz, the king of\nOz is",Oz,Ozma,,The ruler of Oz is,\n'
        "\n"
        f'The capital of France is,France,Lyon,Paris,,"{neighbours}"\n'
    )
    first, second = read_cases(path)
    assert first.request.target_true is None and first.paraphrases == ("The ruler of Oz is",)
    assert second.neighbours == (Probe("The capital of Italy is", "Rome"),) and second.source.endswith(":5")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("a France b,France,Lyon\nx,y\n", "edits.csv:3: found 2 cells, expected 3"),
        ("a France b,Spain,Lyon\n", "edits.csv:2:"),
        ('a France b,France,"Lyon\n', "not valid CSV"),
        ("a France b,France,[Lyon\n", "edits.csv:2: not valid JSON"),
        ("a France b,France,\n", "edits.csv:2: target_new is missing; found prompt, subject, expected at least"),
    ],
)
def test_csv_faults(tmp_path: Path, body: str, words: str) -> None:
    path = tmp_path / "edits.csv"
    path.write_text("prompt,subject,target_new\n" + body)
    assert words in complaint(path)


def test_a_column_may_not_come_twice(tmp_path: Path) -> None:
    path = tmp_path / "edits.csv"
    path.write_text("prompt,subject,subject,target_new\na France b,France,France,Lyon\n")
    assert "edits.csv:1: a column comes twice" in complaint(path)


def test_limit_and_seed(tmp_path: Path) -> None:
    path = jsonl(tmp_path, *({**FRANCE, "id": i} for i in range(50)))
    assert [c.request.id for c in read_cases(path, limit=3)] == ["0", "1", "2"]
    few, many = read_cases(path, limit=5, seed=1), read_cases(path, limit=20, seed=1)
    assert few == many[:5] and few != read_cases(path, limit=5)
    assert len({c.request.id for c in read_cases(path, seed=1)}) == 50
    with pytest.raises(BadInput, match="limit is 0"):
        read_cases(path, limit=0)


def test_a_seed_keeps_groups_together(tmp_path: Path) -> None:
    rows = [{**FRANCE, "id": i} | ({"group": f"g{i // 3}"} if i % 9 < 3 else {}) for i in range(90)]
    shuffled = read_cases(jsonl(tmp_path, *rows), seed=1)
    found = [int(case.request.id) for case in shuffled]
    assert sorted(found) == list(range(90)) and found != sorted(found)
    for first in range(0, 90, 9):
        place = found.index(first)
        assert found[place : place + 3] == [first, first + 1, first + 2]


@pytest.mark.parametrize(
    ("prompt", "subject"),
    [
        ("The capital of France is", "France"),
        ("The Eiffel Tower is in", "Eiffel Tower"),
        ("What is the capital of New Zealand?", "New Zealand"),
        ("Q: who wrote Hamlet", "Hamlet"),
        ("Marie-Claire O'Neil works for", "Marie-Claire O'Neil"),
        ("Łódź is in the country of", "Łódź"),
        ("The Bank of England is in", None),
        ("Paris is the capital of France, and", None),
        ("the boiling point of water is", None),
        ("The", None),
    ],
)
def test_subject_is_inferred_only_without_doubt(prompt: str, subject: str | None) -> None:
    assert infer_subject(prompt) == subject


def test_missing_subject(tmp_path: Path) -> None:
    row = {"prompt": "The capital of France is", "target_new": "Lyon"}
    (case,) = read_cases(jsonl(tmp_path, row))
    assert case.request.subject == "France"
    text = complaint(jsonl(tmp_path, row, {**row, "prompt": "France borders Spain and"}))
    assert "edits.jsonl:2: subject is missing" in text and '"subject"' in text
