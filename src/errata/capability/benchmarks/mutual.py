"""MuTual (Cui et al. 2020): which of four replies continues a dialogue? Paper 2's dialogue."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from errata.capability.benchmarks.labels import contained_label, loose_label, strict_label
from errata.capability.benchmarks.paper2 import after
from errata.capability.extraction import reads, reads_of
from errata.capability.items import Doc, Docs, docs
from errata.capability.sources import Split, decoded, read, text, texts, wrong
from errata.data.rows import Row, parse_json, shorten
from errata.errors import BadInput

LETTERS = ("A", "B", "C", "D")


def _one(path: Path) -> Iterator[Row]:
    """The one record of a file such as dev_7.txt."""
    record = parse_json(decoded(path), str(path), "one JSON object: answers, options, article, id")
    if not isinstance(record, dict):
        raise BadInput(f"{path}: found {shorten(record)}, expected one JSON object: answers, options, article, id")
    yield Row(str(path), 1, record)


DEV = Split(
    "mutual",
    ("validation",),
    parts=("dev_*.txt",),
    reader=_one,
    elsewhere="copy data/mutual/dev of github.com/Nealcly/MuTual there",
)


def load(data_dir: str | None = None, **_: Any) -> dict[str, Docs]:
    """The 886 items of the development set, in the order of their numbers."""
    found = docs(items(read(DEV, data_dir)))
    found["test"].sort(key=lambda doc: [int(digits) for digits in re.findall(r"\d+", doc["id"])])
    return found


def items(rows: Iterable[Row]) -> list[Doc]:
    """Records as released: id, article, four options, and answers, the letter of the right one."""
    return [
        {
            "id": text(row, "id"),
            "kind": "",
            "article": text(row, "article"),
            "options": texts(row, "options", len(LETTERS)),
            "gold": _gold(row),
        }
        for row in rows
    ]


def _gold(row: Row) -> str:
    letter = text(row, "answers")
    if letter not in LETTERS:
        raise wrong(row, "answers", letter, "a letter from A to D")
    return letter


def prompt(doc: Doc) -> str:
    """As paper 2 prints it."""
    return _ask(doc, "Answer Choices", " ")


def paper_prompt(doc: Doc) -> str:
    """As the scripts send it: "Chioces", and no spaces between them."""
    return _ask(doc, "Answer Chioces", "")


def _ask(doc: Doc, heading: str, between: str) -> str:
    choices = between.join(f"({letter}){option}" for letter, option in zip(LETTERS, doc["options"], strict=True))
    return f"Q: {doc['article']} Which choice is correct? {heading}: {choices} A: Among A through D, the answer is"


def parse_strict(output: str) -> str | None:
    """A letter at the beginning, not as the first word of a sentence."""
    return strict_label(output, LETTERS, fold=False)


def parse_loose(output: str) -> str | None:
    """The only one of the letters that stands alone anywhere."""
    return loose_label(output, LETTERS, fold=False)


def parse_unedited(output: str, doc: Doc) -> str | None:
    """The rule for the unedited model: a capital letter anywhere, such as the C of "Chinese"."""
    return contained_label(_answer(output, doc), doc["gold"], LETTERS)


def parse_edited(output: str, doc: Doc) -> str | None:
    """The rule for edited models: the same, but nothing in an output with "Chi"."""
    return None if "Chi" in _answer(output, doc) else parse_unedited(output, doc)


def _answer(output: str, doc: Doc) -> str:
    return after("the answer is", paper_prompt(doc), output)


strict, loose = reads(parse_strict), reads(parse_loose)
unedited, edited = reads_of(parse_unedited), reads_of(parse_edited)
