"""MMLU: 57 subjects, questions with four options (Hendrycks et al. 2021, arXiv 2009.03300).

`paper`: Chain-of-Thought Hub's answer-only evaluation, to which paper 1 (arXiv 2410.18785) refers. Its faults: two
spaces after "about"; one token is generated and whatever character comes last is the answer, the prompt's own colon
where nothing printable came.
"""

from collections.abc import Iterator
from typing import Any

from errata.capability.extraction import last, reads
from errata.capability.items import Doc, Docs, docs
from errata.capability.sources import Hub, Split, read, text, texts, wrong
from errata.data.rows import Row

LETTERS = "ABCD"
_HUB = ("cais/mmlu", "c30699e8356da336a370243923dbaf21066bb9fe")
_COLUMNS = ("question", *LETTERS, "answer")
ITEMS = Split("mmlu", ("test",), Hub(*_HUB, "test", ("all",)), ("*_test.csv",), "subject", _COLUMNS)
SHOTS = Split("mmlu", ("dev",), Hub(*_HUB, "dev", ("all",)), ("*_dev.csv",), "subject", _COLUMNS)


def load(data_dir: str | None = None, **_: Any) -> dict[str, Docs]:
    """Items of the test split, exemplars of the dev split; rows as on the hub, or the original headless CSV."""
    return docs(_items(read(ITEMS, data_dir)), _items(read(SHOTS, data_dir)))


def _items(rows: list[Row]) -> Iterator[Doc]:
    seen: dict[str, int] = {}
    for row in rows:
        subject = text(row, "subject")
        seen[subject] = seen.get(subject, -1) + 1
        yield {
            "id": f"{subject}/{seen[subject]:04d}",
            "kind": subject,
            "question": text(row, "question"),
            "choices": _choices(row),
            "letter": _letter(row),
        }


def _choices(row: Row) -> list[str]:
    if "choices" in row.fields:
        return texts(row, "choices", 4)
    return [text(row, letter) for letter in LETTERS]


def _letter(row: Row) -> str:
    """The right option: a letter, or its index from 0."""
    answer = row.fields.get("answer")
    if isinstance(answer, int) and answer in range(4):
        return LETTERS[answer]
    if isinstance(answer, str) and answer.strip() in tuple(LETTERS):
        return answer.strip()
    raise wrong(row, "answer", answer, "0 to 3 or A to D")


def question(doc: Doc) -> str:
    """The item as both protocols ask it."""
    options = "".join(f"{letter}. {choice}\n" for letter, choice in zip(LETTERS, doc["choices"], strict=True))
    return f"{doc['question']}\n{options}Answer:"


def last_character(output: str) -> str | None:
    """The published rule: the last character of prompt and output, the prompt's colon if nothing came."""
    letter = f"Answer:{output}"[-1]
    return letter if letter in LETTERS else None


def first_letter(output: str) -> str | None:
    """The output begins with the letter of an option, in parentheses or not, and no word goes on from it."""
    return last(r"^\s*\(?([A-D])\)?(?!\w)", output)


def any_letter(output: str) -> str | None:
    """The first of the letters that stands alone."""
    return last(r"^.*?\b([A-D])\b", output.replace("\n", " "))


paper, strict, loose = reads(last_character), reads(first_letter), reads(any_letter)
