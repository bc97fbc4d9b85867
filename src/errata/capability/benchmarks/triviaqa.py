"""TriviaQA without its documents: questions with many accepted answers (Joshi et al. 2017, arXiv 1705.03551).

`paper`: the task of lm-evaluation-harness 0.4.0, which paper 1 (arXiv 2410.18785) names; it printed no number of it.
Its faults: a second question mark after every question; the answer ends at the first period or comma, so that
"Washington, D.C." can never be given.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from errata.capability.extraction import holds, reads, reads_of
from errata.capability.items import Doc, Docs, docs
from errata.capability.sources import Hub, Split, read, text, texts, wrong
from errata.data.rows import Row

_REVISION = "0f7faf33a3908546c6fd5b73a660e0f8ff173c2f"
ITEMS = Split(
    "triviaqa",
    ("validation", "dev", "unfiltered-web-dev", "web-dev", "wikipedia-dev"),
    Hub("mandarjoshi/trivia_qa", _REVISION, "validation", ("rc.nocontext",)),
)


def load(data_dir: str | None = None, **_: Any) -> dict[str, Docs]:
    """Items of the validation split, in the original layout, the hub's, or with a plain list of `answers`."""
    return docs(_items(read(ITEMS, data_dir)))


def _items(rows: Iterable[Row]) -> Iterator[Doc]:
    for index, row in enumerate(rows):
        name = row.fields.get("question_id") or row.fields.get("QuestionId")
        question = text(row, "Question" if "Question" in row.fields else "question")
        yield {
            "id": str(name or f"{index:05d}"),
            "kind": "",
            "question": question.strip(),
            "answers": _answers(row),
        }


def _answers(row: Row) -> list[str]:
    """All accepted answers, the usual name first."""
    if "answers" in row.fields:
        return texts(row, "answers")
    answer = row.fields.get("Answer", row.fields.get("answer"))
    if not isinstance(answer, Mapping):
        raise wrong(row, "answer", answer, "an object with aliases, or answers, a list of texts")
    value = answer.get("Value", answer.get("value"))
    aliases = answer.get("Aliases", answer.get("aliases"))
    found = [name for name in [value, *(aliases if aliases is not None else [])] if isinstance(name, str) and name]
    if not found:
        raise wrong(row, "answer", answer, "an object with aliases")
    return list(dict.fromkeys(found))


def whole(output: str) -> str | None:
    """The output without the spaces around it."""
    return output.strip()


def first_line(output: str) -> str | None:
    """The first line that is not blank."""
    return output.strip().partition("\n")[0].strip()


def contained(output: str, doc: Doc) -> str | None:
    """The accepted answer whose words stand in the output; the output if there is none."""
    return next((answer for answer in doc["answers"] if holds(output, answer)), output.strip())


paper, strict, loose = reads(whole), reads(first_line), reads_of(contained)
