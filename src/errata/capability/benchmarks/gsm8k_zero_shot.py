"""GSM8K (Cobbe et al. 2021) without exemplars. Paper 2's reasoning.

Paper 2 puts the whole worked solution of the item into its prompt, where a model's own chain of thought should
stand: what it measures is copying.
"""

import re
from collections.abc import Iterable
from typing import Any

from errata.capability.benchmarks.paper2 import after
from errata.capability.extraction import last, reads, reads_of
from errata.capability.items import Doc, Docs, docs
from errata.capability.sources import Hub, Split, read, text, wrong
from errata.data.rows import Row

TEST = Split("gsm8k", ("test",), Hub("openai/gsm8k", "740312add88f781978c0658806c59bc2815b9866", "test", ("main",)))
NUMBER = r"-?\$?\d[\d,]*(?:\.\d+)?"
ASK = "Therefore, the answer (arabic numerals) is:"


def load(data_dir: str | None = None, **_: Any) -> dict[str, Docs]:
    """The 1,319 items of the test set."""
    return docs(items(read(TEST, data_dir)))


def items(rows: Iterable[Row]) -> list[Doc]:
    """Rows as released: question, and answer, a worked solution that ends with "#### 18"."""
    return [_item(number, row) for number, row in enumerate(rows)]


def _item(number: int, row: Row) -> Doc:
    solution, mark, answer = text(row, "answer").partition("#### ")
    if not mark or value(answer) is None:
        raise wrong(row, "answer", row.fields["answer"], "a solution that ends with #### and a number")
    return {
        "id": f"{number:04d}",
        "kind": "",
        "question": text(row, "question"),
        "solution": solution,
        "gold": value(answer),
        "gold_text": answer,
    }


def prompt(doc: Doc) -> str:
    """The zero-shot chain of thought that paper 2's prompt begins with (Kojima et al. 2022)."""
    return f"Q: {doc['question']}\nA: Let's think step by step."


def paper_prompt(doc: Doc) -> str:
    """As the scripts send it, with the solution."""
    return f"Q: {doc['question']} A:Let's think step by step. {doc['solution']} {ASK}"


def value(number: str) -> str | None:
    """A number in one form, "1,000.0" as "1000"; None for anything else."""
    digits = number.strip().replace(",", "").replace("$", "").removesuffix(".")
    return f"{float(digits):.12g}" if re.fullmatch(r"-?\d+(\.\d+)?", digits) else None


def parse_strict(output: str) -> str | None:
    """The number after the last "answer is"."""
    found = last(rf"answer(?: \(arabic numerals\))? is:? *({NUMBER})", output)
    return found and value(found)


def parse_loose(output: str) -> str | None:
    """The last number."""
    found = last(NUMBER, output)
    return found and value(found)


def parse_paper(output: str, doc: Doc) -> str:
    """The right answer if it is part of the output as a text, such as the 8 of "18"; else the output."""
    said = after(ASK, paper_prompt(doc), output, split=1)
    return doc["gold_text"] if doc["gold_text"] in said else said


strict, loose, paper = reads(parse_strict), reads(parse_loose), reads_of(parse_paper)
