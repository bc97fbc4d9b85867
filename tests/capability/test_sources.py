"""Rows from folders: every accepted layout, and every kind of damage named with its place."""

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from errata.capability.sources import Hub, Split, exemplars, folder, locate, number, read, text, texts
from errata.data.rows import Row
from errata.errors import BadInput

SPLIT = Split("riddles", ("test", "validation"), Hub("nobody/riddles", "0" * 40, "test"))
PARTS = Split("riddles", ("test",), None, ("*_test.csv",), "subject", ("question", "answer"))
ROWS = [{"question": "What, runs?", "answer": "a river"}, {"question": "What\nstands?", "answer": "ein Hügel"}]


def write(folder: Path, name: str) -> None:
    """`ROWS` in the layout that the ending says."""
    home = folder / "riddles"
    home.mkdir(exist_ok=True)
    path = home / name
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n\n" for row in ROWS), "utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps({"canary": "x", "examples": ROWS}), "utf-8")
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["question", "answer"], *(row.values() for row in ROWS)])


@pytest.mark.parametrize(
    "name", ["test.jsonl", "test.json", "test.csv", "test.parquet", "test_100.jsonl", "validation.jsonl", "test-a.csv"]
)
def test_layouts(tmp_path: Path, name: str) -> None:
    write(tmp_path, name)
    assert [row.fields for row in read(SPLIT, str(tmp_path))] == ROWS
    assert [row.fields for row in read(SPLIT, str(tmp_path / "riddles"))] == ROWS


def test_tsv_takes_quotes_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "riddles").mkdir()
    (tmp_path / "riddles" / "test.tsv").write_text('question\tanswer\nA "b\tc"\r\n', "utf-8")
    assert [row.fields for row in read(SPLIT, str(tmp_path))] == [{"question": 'A "b', "answer": 'c"'}]


def test_shards_are_one_split(tmp_path: Path) -> None:
    for shard in range(2):
        write(tmp_path, f"test-0000{shard}-of-00002.parquet")
    assert [row.fields for row in read(SPLIT, str(tmp_path))] == ROWS * 2


def test_files_of_parts_name_their_part(tmp_path: Path) -> None:
    home = tmp_path / "riddles" / "data" / "test"
    home.mkdir(parents=True)
    (home / "rivers_test.csv").write_text("What runs?,a river\n", "utf-8")
    (home / "hills_test.csv").write_text('"What, stands?",a hill\n', "utf-8")
    rows = read(PARTS, str(tmp_path))
    assert [(row.fields["subject"], row.fields["answer"]) for row in rows] == [
        ("hills", "a hill"),
        ("rivers", "a river"),
    ]
    assert rows[0].fields["question"] == "What, stands?" and rows[0].where.endswith("hills_test.csv:1")


def test_two_files_for_one_split_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "test_1.jsonl")
    write(tmp_path, "test_2.jsonl")
    with pytest.raises(BadInput, match=r"test_1\.jsonl, test_2\.jsonl may each"):
        locate(SPLIT, tmp_path)


def test_exemplars_of_ones_own(tmp_path: Path) -> None:
    assert exemplars("riddles", str(tmp_path)) == [] == exemplars("riddles", None)
    write(tmp_path, "exemplars.jsonl")
    assert [row.fields for row in exemplars("riddles", str(tmp_path))] == ROWS


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("test.jsonl", b'{"question": "a", "answer": "b"}\n{"question"\n', r"test\.jsonl:2: not valid JSON"),
        (
            "test.jsonl",
            b'{"question": "a", "answer": "b"}\n[1]\n',
            r"test\.jsonl:2: found \[1\], expected a JSON object",
        ),
        (
            "test.jsonl",
            b'{"question": "a", "answer": "b"}\n{"question": "\xe9"}\n',
            r"test\.jsonl:2: not UTF-8 .byte 0xe9",
        ),
        ("test.json", b'{"a": [], "b": []}', "found 2 lists, expected one list"),
        ("test.json", b'[{"question": "a"}, 3]', r"test\.json, item 2: found 3"),
        ("test.csv", b"question,answer\na,b\na,b,c\n", r"test\.csv:3: found 3 columns, expected 2: question, answer"),
        ("test.csv", b'question,answer\n"a,b\n', r"test\.csv:\d: not valid CSV"),
        ("test.parquet", b"PAR0", "not a parquet file"),
        ("test.jsonl", b"\n", "holds no rows"),
    ],
)
def test_damage_is_named(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / "riddles").mkdir()
    (tmp_path / "riddles" / name).write_bytes(content)
    with pytest.raises(BadInput, match=words):
        read(SPLIT, str(tmp_path))


def test_fields_are_checked() -> None:
    row = Row("f.jsonl:7", 7, {"a": "x", "blank": " ", "n": "2.5", "list": ["p", "q"], "mixed": ["p", 1]})
    assert text(row, "a") == "x" and number(row, "n") == 2.5 and texts(row, "list", 2) == ["p", "q"]
    for name, check, words in (
        ("b", text, r"f\.jsonl:7: b is missing; expected a text; found a, blank"),
        ("blank", text, "blank should be a text"),
        ("list", text, "list should be a text"),
        ("a", number, "a should be a number; found 'x'"),
        ("mixed", texts, "mixed should be a list of one or more texts"),
    ):
        with pytest.raises(BadInput, match=words):
            check(row, name)
    with pytest.raises(BadInput, match="a list of 3 texts"):
        texts(row, "list", 3)


def test_absent_data_name_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    for data_dir in (str(tmp_path), None, "hub"):
        with pytest.raises(BadInput, match=r"(?s)--data-dir DIR with DIR/riddles/test\.jsonl.*ERRATA_DOWNLOAD=1"):
            read(SPLIT, data_dir)
    with pytest.raises(BadInput, match="the package has no miniature of riddles"):
        read(SPLIT, "atlas")
    with pytest.raises(BadInput, match="is no folder"):
        folder(str(tmp_path / "nowhere"))
