"""Natural Questions, open (Kwiatkowski et al. 2019; Lee et al. 2019). Paper 2's open-domain question answering.

Paper 2 shows a passage before each question, the first of a list called `output`: texts that a language model
wrote, in the layout of GenRead (Yu et al. 2023). Rows without one are asked without a passage.
"""

import re
import string
from collections.abc import Iterable, Sequence
from typing import Any

from errata.capability.benchmarks.paper2 import Hits, decoded
from errata.capability.extraction import first_line, holds, normalized, reads, reads_of
from errata.capability.items import Doc, Docs, docs
from errata.capability.sources import Hub, Split, read, text, texts
from errata.data.rows import Row
from errata.errors import BadInput

DEV = Split(
    "nq_open",
    ("dev", "validation", "test"),
    Hub("google-research-datasets/nq_open", "5dd9790a83002ad084ddeb7c420dc716852c6f28", "validation"),
)
READ = "Refer to the passage below and answer the following question."


def load(data_dir: str | None = None, **_: Any) -> dict[str, Docs]:
    """The 3,610 questions of the development set. BadInput if only some of them have a passage."""
    found = items(read(DEV, data_dir))
    without = [doc["question"] for doc in found if not doc["passage"]]
    if 0 < len(without) < len(found):
        raise BadInput(
            f"nq_open: {len(without)} of {len(found)} rows have no `output`, such as {without[0]!r}; give a passage "
            "with every question, or with none"
        )
    return docs(found)


def load_paper(data_dir: str | None = None, **_: Any) -> dict[str, Docs]:
    """The same with a passage each; BadInput if there are none."""
    found = load(data_dir)
    if not found["test"][0]["passage"]:
        raise BadInput(
            "p2_nq:paper asks about passages, and these rows have no `output`, a list of texts as GenRead writes them. "
            "Give such a file with --data-dir (paper 2's is task-data/test-OpenDomainQA.jsonl of its repository), or "
            "ask without passages: p2_nq"
        )
    return found


def items(rows: Iterable[Row]) -> list[Doc]:
    """Rows as released: question, the list answer, and the list output where there is one."""
    return [
        {
            "id": f"{number:04d}",
            "kind": "",
            "question": text(row, "question"),
            "answers": (answers := texts(row, "answer")),
            "gold": answers[0],
            "passage": texts(row, "output")[0] if row.fields.get("output") else "",
        }
        for number, row in enumerate(rows)
    ]


def prompt(doc: Doc) -> str:
    """Paper 2's question, and a place for the answer."""
    question = f"Question: {doc['question'].rstrip(' ?')}? Answer:"
    if not doc["passage"]:
        return f"Answer the following question. {question}"
    return f"{READ} Passage: {doc['passage'].strip()} {question}"


def paper_prompt(doc: Doc) -> str:
    """As the scripts send it."""
    return f"{READ} Passage: {doc['passage']} Question: {doc['question']}"


def parse_loose(output: str, doc: Doc) -> str:
    """The first right answer whose words stand in the output one after another; else its first line."""
    return next((answer for answer in doc["answers"] if holds(output, answer)), first_line(output))


def score(doc: Doc, results: Sequence[str]) -> dict[str, float]:
    """Exact match with any of the answers, case, punctuation and articles apart."""
    return {"exact_match": float(normalized(results[0]) in map(normalized, doc["answers"]))}


def paper_normalized(answer: str) -> str:
    """SQuAD's normal form as the scripts have it: marks such as ’ are no punctuation, and _ is no space."""
    kept = "".join(letter for letter in answer.lower() if letter not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())


def paper(outputs: Sequence[Sequence[str]], docs: Sequence[Doc]) -> list[Hits]:
    """The hits in all outputs, in the order of the items.

    The scripts split at "Answer:", which their prompt has not: they search passage and question as well. Once an
    answer of several words was found, their flag for it stays up, and a later text is left after the spans that
    begin with its first word. One word that is an answer does not end the search: a question can count many times.
    """
    counted, flag = [], False
    for output, doc in zip(outputs, docs, strict=True):
        words = paper_normalized(decoded(paper_prompt(doc), output[0]).split("Answer:")[-1]).split(" ")
        hits, flag = scan(words, {paper_normalized(answer) for answer in doc["answers"]}, flag)
        counted.append(Hits(words[-1], hits))
    return counted


def scan(words: Sequence[str], answers: set[str], flag: bool) -> tuple[int, bool]:
    """(hits of the normal forms `answers` among `words`, the flag afterwards)."""
    if words[0] in answers or words[-1] in answers:
        return 1, flag
    hits, longest = 0, max(len(answer.split()) for answer in answers)
    for first in range(len(words) - 1):
        if words[first] in answers:
            hits += 1
            continue
        spans = (" ".join(words[first:end]) for end in range(first + 2, min(first + longest, len(words)) + 1))
        if any(span in answers for span in spans):
            hits, flag = hits + 1, True
        if flag:
            break
    return hits, flag


def paper_score(doc: Doc, results: Sequence[Hits]) -> dict[str, float]:
    """The hits, whose sum the scripts divide by the number of questions."""
    return {"score": float(results[0].hits)}


strict, loose = reads(first_line), reads_of(parse_loose)
