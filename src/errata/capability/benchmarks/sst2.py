"""SST-2 (Socher et al. 2013; Wang et al. 2019): good or bad film reviews. Paper 2's sentiment analysis."""

from collections.abc import Iterable
from typing import Any

from errata.capability.benchmarks.labels import contained_label, loose_label, strict_label
from errata.capability.benchmarks.paper2 import after
from errata.capability.extraction import reads, reads_of
from errata.capability.items import Doc, Docs, docs
from errata.capability.sources import Hub, Split, read, text, wrong
from errata.data.rows import Row

DEV = Split(
    "sst2",
    ("dev", "validation"),
    Hub("nyu-mll/glue", "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c", "validation", ("sst2",)),
)
LABELS = ("negative", "positive")


def load(data_dir: str | None = None, **_: Any) -> dict[str, Docs]:
    """The 872 items of the development set."""
    return docs(items(read(DEV, data_dir)))


def items(rows: Iterable[Row]) -> list[Doc]:
    """Rows of GLUE: sentence, and label, 1 for positive."""
    return [
        {"id": f"{number:03d}", "kind": "", "text": text(row, "sentence"), "gold": _gold(row)}
        for number, row in enumerate(rows)
    ]


def _gold(row: Row) -> str:
    label = str(row.fields.get("label"))
    if label not in ("0", "1"):
        raise wrong(row, "label", row.fields.get("label"), "0 or 1")
    return LABELS[int(label)]


def prompt(doc: Doc) -> str:
    """As paper 2 prints it."""
    return (
        "For each snippet of text, label the sentiment of the text as positive or negative. "
        f"The answer should be exact 'positive' or 'negative'. text: {doc['text'].strip()} answer:"
    )


def paper_prompt(doc: Doc) -> str:
    """As the scripts send it, without the spaces after "text," and "negative."."""
    return (
        "For each snippet of text,label the sentiment of the text as positive or negative."
        f"The answer should be exact 'positive' or 'negative'. text: {doc['text']} answer:"
    )


def parse_strict(output: str) -> str | None:
    """The label at the beginning."""
    return strict_label(output, LABELS)


def parse_loose(output: str) -> str | None:
    """One of the labels anywhere, but not both."""
    return loose_label(output, LABELS)


def parse_paper(output: str, doc: Doc) -> str | None:
    """One of the labels anywhere, in either case."""
    return contained_label(after("answer:", paper_prompt(doc), output).lower(), doc["gold"], LABELS)


strict, loose, paper = reads(parse_strict), reads(parse_loose), reads_of(parse_paper)
