"""GSM8K: arithmetic word problems, eight worked exemplars (Cobbe et al. 2021, arXiv 2110.14168).

Paper 1 (arXiv 2410.18785) names two evaluations and not which it ran: Active-Prompt's is `paper`, and Chain-of-Thought
Hub's prompt is `cothub`; each is read by the rules of both. Faults: Chain-of-Thought Hub does not remove commas, so
that 1,000 is 000, and knows no sign; Active-Prompt takes whatever number comes last, and rounds it.
Departure: the lines of Chain-of-Thought Hub's exemplars are the sentences of the published ones, which have "tuesday"
where its file has "tues- day".
"""

import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

from errata.capability.extraction import last, reads, reads_of
from errata.capability.items import Doc, Docs, docs
from errata.capability.shipped import exemplars as shipped
from errata.capability.sources import Hub, Split, exemplars, read, text, wrong
from errata.data.rows import Row

ITEMS = Split("gsm8k", ("test",), Hub("openai/gsm8k", "e53f048856ff4f594e959d75785d2c2d37b678ee", "test", ("main",)))
_NUMBER = r"-?(?:\d[\d,]*(?:\.\d+)?|\.\d+)"


def load(data_dir: str | None = None, **_: Any) -> dict[str, Docs]:
    """Items of the test split. Exemplars: the eight of Wei et al. 2022, if the folder has no others."""
    rows = exemplars("gsm8k", data_dir)
    shots = [(text(row, "question"), text(row, "answer")) for row in rows]
    shots = shots or [(shot["question"], shot["target"]) for shot in shipped("gsm8k/gsm8k-cot.yaml")]
    return docs(_items(read(ITEMS, data_dir)), ({"question": q, "worked": worked, "kind": ""} for q, worked in shots))


def _items(rows: Iterable[Row]) -> Iterator[Doc]:
    for index, row in enumerate(rows):
        solution = text(row, "answer")
        if "####" not in solution:
            raise wrong(row, "answer", solution, "a solution that ends in #### and a number")
        gold = solution.rpartition("####")[2].strip().replace(",", "")
        question = text(row, "question")
        yield {"id": f"{index:04d}", "kind": "", "question": question, "answer": solution, "gold": gold, "worked": ""}


def lines(doc: Doc) -> str:
    """A worked solution with each sentence on a line, as Chain-of-Thought Hub's exemplars have it."""
    return re.sub(r"(?<=[.!?]) (?=[A-Z0-9])", "\n", doc["worked"])


def active_prompt(output: str) -> str | None:
    """Active-Prompt's rule: the last number, commas removed, rounded."""
    found = last(r"-?\d+\.?\d*", output.replace(",", ""))
    return found and str(round(Decimal(found)))


def cot_hub(output: str, doc: Doc) -> str | None:
    """Chain-of-Thought Hub's rule: the last digits up to the first line with "answer is", as in the solution.

    Gives the gold answer where they are equal, since that is what it is compared with.
    """
    found = last(r"\d*\.?\d+", re.sub(r"(?s)(answer is[^\n]*).*", r"\1", output))
    right = found == last(r"\d*\.?\d+", doc["answer"])
    return found and (str(doc["gold"]) if right else f"not {doc['gold']}: {found}")


def stated_number(output: str) -> str | None:
    """The number that the last "answer is" states, an amount of money or not."""
    return _plain(last(rf"answer is:?\s*\$?\s*({_NUMBER})", output))


def last_number(output: str) -> str | None:
    """The last number of the output."""
    return _plain(last(_NUMBER, output))


def _plain(number: str | None) -> str | None:
    """Without commas, and without a fraction that is nil: 1,000.00 is 1000."""
    if number is None:
        return None
    value = Decimal(number.replace(",", ""))
    return str(value.to_integral_value()) if value == value.to_integral_value() else str(value.normalize())


paper, paper_cothub = reads(active_prompt), reads_of(cot_hub)
strict, loose = reads(stated_number), reads(last_number)
