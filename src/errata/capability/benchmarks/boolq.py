"""BoolQ (Clark et al. 2019): yes or no from a passage. Paper 2's closed-domain question answering."""

from collections.abc import Iterable
from typing import Any

from errata.capability.benchmarks.labels import contained_label, loose_label, strict_label
from errata.capability.benchmarks.paper2 import after
from errata.capability.extraction import reads, reads_of
from errata.capability.items import Doc, Docs, docs
from errata.capability.sources import Hub, Split, read, text, wrong
from errata.data.rows import Row

DEV = Split(
    "boolq", ("dev", "validation"), Hub("google/boolq", "35b264d03638db9f4ce671b711558bf7ff0f80d5", "validation")
)
LABELS = ("no", "yes")
TASK = "Please answer the given question based on the passage. The answer should be exact 'yes' or 'no'."


def load(data_dir: str | None = None, **_: Any) -> dict[str, Docs]:
    """The 3,270 items of the development set."""
    return docs(items(read(DEV, data_dir)))


def items(rows: Iterable[Row]) -> list[Doc]:
    """Rows as released: question, passage, and answer, true or false."""
    return [
        {
            "id": f"{number:04d}",
            "kind": "",
            "passage": text(row, "passage"),
            "question": text(row, "question"),
            "gold": _gold(row),
        }
        for number, row in enumerate(rows)
    ]


def _gold(row: Row) -> str:
    answer = row.fields.get("answer")
    if not isinstance(answer, bool):
        raise wrong(row, "answer", answer, "true or false")
    return LABELS[answer]


def prompt(doc: Doc) -> str:
    """Paper 2's question, with a question mark where the scripts put a full stop."""
    return f"{TASK} passage: {doc['passage']} question: {doc['question'].rstrip(' ?')}? answer:"


def paper_prompt(doc: Doc) -> str:
    """As the scripts send it."""
    return f"{TASK} passage: {doc['passage']} question: {doc['question']}. answer:"


def parse_strict(output: str) -> str | None:
    """Yes or no at the beginning."""
    return strict_label(output, LABELS)


def parse_loose(output: str) -> str | None:
    """Yes or no anywhere, but not both."""
    return loose_label(output, LABELS)


def parse_unedited(output: str, doc: Doc) -> str | None:
    """The rule for the unedited model: exactly " yes" or " no".

    Without the space as well: not every tokenizer gives back the one before the first word.
    """
    answer = _answer(output, doc).removeprefix(" ")
    return answer if answer in LABELS else None


def parse_edited(output: str, doc: Doc) -> str | None:
    """The rule for edited models: yes or no anywhere, such as the no of "know"."""
    return contained_label(_answer(output, doc), doc["gold"], LABELS)


def _answer(output: str, doc: Doc) -> str:
    # After the first "answer:", though the passage may have one.
    return after("answer:", paper_prompt(doc), output, split=1).lower()


strict, loose = reads(parse_strict), reads(parse_loose)
unedited, edited = reads_of(parse_unedited), reads_of(parse_edited)
