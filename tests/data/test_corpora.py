"""Corpora from files: paragraphs, lines, JSON lines, and what is refused."""

from itertools import islice
from pathlib import Path

import pytest

from errata.data.corpora import read_corpus
from errata.errors import BadInput


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("one\ntwo\n", ["one", "two"]),
        ("one\ntwo\n\n", ["one", "two"]),
        ("one\ngoes on\n\n\ntwo", ["one\ngoes on", "two"]),
        ("", []),
    ],
)
def test_plain_text(content: str, texts: list[str], tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text(content)
    assert list(read_corpus(tmp_path / "corpus.txt")) == texts


def test_json_lines(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text(
        '{"text": "one\\n\\ntwo", "id": 1}\n\n{"text": ""}\n{"text": "Å"}\n', "utf-8"
    )
    assert list(read_corpus(str(tmp_path / "corpus.jsonl"))) == ["one\n\ntwo", "Å"]


@pytest.mark.parametrize("line", ['{"txt": "x"}', "[1]", "{", '{"text": 3}'])
def test_a_wrong_line_is_named(line: str, tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text(f'{{"text": "fine"}}\n{line}\n')
    with pytest.raises(BadInput, match=r"corpus\.jsonl:2"):
        list(read_corpus(tmp_path / "corpus.jsonl"))


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "corpus.pdf").write_bytes(b"%PDF")
    (tmp_path / "corpus.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match=r"found \.pdf"):
        read_corpus(tmp_path / "corpus.pdf")
    with pytest.raises(BadInput, match="UTF-8"):
        list(read_corpus(tmp_path / "corpus.txt"))
    with pytest.raises(BadInput, match="no corpus 'nowhere'"):
        read_corpus("nowhere")


def test_the_embedded_corpus_is_the_same_each_time() -> None:
    first, again = (list(islice(read_corpus("atlas"), 20)) for _ in range(2))
    assert first == again and all(text.strip() for text in first)
    assert list(islice(read_corpus("atlas", seed=1), 20)) != first
