"""RTE (Dagan et al. 2005; Wang et al. 2019): does one text entail another? Paper 2's natural language inference."""

from collections.abc import Iterable
from typing import Any

from errata.capability.benchmarks.labels import contained_label, loose_label, strict_label
from errata.capability.benchmarks.paper2 import after
from errata.capability.extraction import reads, reads_of
from errata.capability.items import Doc, Docs, docs
from errata.capability.sources import Hub, Split, read, text, wrong
from errata.data.rows import Row

GLUE = ("nyu-mll/glue", "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c")
DEV = Split("rte", ("dev", "validation"), Hub(*GLUE, "validation", ("rte",)))
TRAIN = Split("rte", ("train",), Hub(*GLUE, "train", ("rte",)))
LABELS = ("True", "False")
NAMES = {"entailment": "True", "not_entailment": "False", "0": "True", "1": "False"}
"""Labels in GLUE's files, and on the hub."""


def load(data_dir: str | None = None, **_: Any) -> dict[str, Docs]:
    """The 277 items of the development set."""
    return docs(items(read(DEV, data_dir)))


def load_paper(data_dir: str | None = None, **_: Any) -> dict[str, Docs]:
    """The 2,490 items of the training set."""
    return docs(items(read(TRAIN, data_dir)))


def items(rows: Iterable[Row]) -> list[Doc]:
    """Rows of GLUE: sentence1, sentence2, label."""
    return [
        {
            "id": f"{number:04d}",
            "kind": "",
            "premise": text(row, "sentence1"),
            "claim": text(row, "sentence2"),
            "gold": _gold(row),
        }
        for number, row in enumerate(rows)
    ]


def _gold(row: Row) -> str:
    label = row.fields.get("label")
    if str(label) not in NAMES:
        raise wrong(row, "label", label, "entailment or not_entailment (0 or 1)")
    return NAMES[str(label)]


def prompt(doc: Doc) -> str:
    """Paper 2's question, with one full stop where the scripts put two."""
    premise, claim = (doc[name].strip().removesuffix(".") for name in ("premise", "claim"))
    return f"{premise} entails the {claim}. True or False? answer:"


def paper_prompt(doc: Doc) -> str:
    """As the scripts send it: "It rained. entails the It was wet.. True or False?"."""
    return f"{doc['premise']} entails the {doc['claim']}. True or False? answer:"


def parse_strict(output: str) -> str | None:
    """True or False at the beginning."""
    return strict_label(output, LABELS)


def parse_loose(output: str) -> str | None:
    """True or False anywhere, but not both."""
    return loose_label(output, LABELS)


def parse_paper(output: str, doc: Doc) -> str | None:
    """True or False anywhere, in either case."""
    found = contained_label(after("answer:", paper_prompt(doc), output).lower(), doc["gold"].lower(), ("true", "false"))
    return found and found.capitalize()


strict, loose, paper = reads(parse_strict), reads(parse_loose), reads_of(parse_paper)
