"""BIG-Bench Hard: 27 tasks, three worked exemplars each (Suzgun et al. 2022, arXiv 2210.09261).

`paper`: Chain-of-Thought Hub's rules, to which paper 1 (arXiv 2410.18785) refers. Their faults: no stop string, so
that the model goes on to questions of its own and the last "answer is" may be theirs; of several option markers the
alphabetically first counts. Departure: their script, which names no limit, gets one.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from errata.capability.extraction import last, reads_of
from errata.capability.items import Doc, Docs, docs
from errata.capability.shipped import exemplars as shipped
from errata.capability.shipped import task_file
from errata.capability.sources import Hub, Split, exemplars, read, text
from errata.data.rows import Row

CHOICE = tuple(
    """date_understanding disambiguation_qa geometric_shapes hyperbaton logical_deduction_five_objects
    logical_deduction_seven_objects logical_deduction_three_objects movie_recommendation penguins_in_a_table
    reasoning_about_colored_objects ruin_names salient_translation_error_detection snarks temporal_sequences
    tracking_shuffled_objects_five_objects tracking_shuffled_objects_seven_objects
    tracking_shuffled_objects_three_objects""".split()
)
"""Tasks whose answer is one of lettered options."""
_WORDS = {"boolean_expressions": "True|False", "formal_fallacies": "invalid|valid"}
_YES_OR_NO = dict.fromkeys(("causal_judgement", "navigate", "sports_understanding", "web_of_lies"), "Yes|No")
_NUMBERS = dict.fromkeys(("multistep_arithmetic_two", "object_counting"), r"-?\d+")
_LINE = r"\S.*"
_LINES = dict.fromkeys(("dyck_languages", "word_sorting"), _LINE)
FREE = {**_WORDS, **_YES_OR_NO, **_NUMBERS, **_LINES}
"""Tasks with free answers, and what an answer of theirs looks like."""
TASKS = tuple(sorted([*CHOICE, *FREE]))
ONE_LINE = ("sports_understanding",)
"""Tasks whose published exemplars go on in the line of "Let's think step by step."; the harness begins a new one."""
ITEMS = Split(
    "bbh",
    ("test", "bbh"),
    Hub("SaylorTwift/bbh", "b5306be6f827cfafbb545ff5a51f96916029b0fd", "test", TASKS),
    tuple(f"{task}.json" for task in TASKS),
    "task",
)


def load(data_dir: str | None = None, **_: Any) -> dict[str, Docs]:
    """Items of all tasks in one table; the task is the kind. Exemplars as published, if the folder has no others."""
    rows = exemplars("bbh", data_dir)
    shots = [_replaced(row) for row in rows] if rows else [shot for task in TASKS for shot in _published(task)]
    headers = {shot["kind"]: shot["header"] for shot in shots}
    return docs(_items(read(ITEMS, data_dir), headers), shots)


def _items(rows: Iterable[Row], headers: dict[str, str]) -> Iterator[Doc]:
    seen: dict[str, int] = {}
    for row in rows:
        task, target = text(row, "task"), text(row, "target")
        seen[task] = seen.get(task, -1) + 1
        yield {
            "id": f"{task}/{seen[task]:04d}",
            "kind": task,
            "header": headers.get(task, ""),
            "input": text(row, "input"),
            "gold": target[1] if task in CHOICE and len(target) > 1 else target,
            "worked": "",
        }


def _published(task: str) -> Iterator[Doc]:
    """The exemplars of a task, equal to those of BIG-Bench Hard's cot-prompts."""
    path = f"bbh/cot_fewshot/{task}.yaml"
    space = " " if task in ONE_LINE else "\n"
    for shot in shipped(path):
        yield _shot(task, task_file(path)["description"], shot["input"], space + shot["target"])


def _replaced(row: Row) -> Doc:
    header, worked = f"{text(row, 'description')}\n\n", "\n" + text(row, "target")
    return _shot(text(row, "task"), header, text(row, "input"), worked)


def _shot(task: str, header: str, question: str, worked: str) -> Doc:
    return {"kind": task, "header": header, "input": question, "worked": worked}


def published_answer(output: str, doc: Doc) -> str | None:
    """What follows the last "answer is ": the alphabetically first marker in it, or all of it without a last period."""
    if "answer is " not in output:
        return None
    rest = output.rpartition("answer is ")[2].strip()
    if doc["kind"] in CHOICE:
        return min(re.findall(r"\(([A-Z])\)", rest), default=None)
    return rest.removesuffix(".")


def stated_answer(output: str, doc: Doc) -> str | None:
    """What follows the last "answer is": a letter, in parentheses or not; else the line, without its period."""
    if doc["kind"] in CHOICE:
        return last(r"answer is:?\s*\(?([A-Z])\b", output)
    found = last(r"answer is:?[ \t]*(.*)", output)
    return found and found.strip().removesuffix(".").strip()


def likely_answer(output: str, doc: Doc) -> str | None:
    """The last thing that looks like an answer of the task, in any case: a marker, a word, a number, a line."""
    if doc["kind"] in CHOICE:
        return last(r"\(([A-Z])\)", output)
    form = FREE.get(doc["kind"], _LINE)
    found = last(form if form == _LINE else rf"(?i)(?<!\w)(?:{form})\b", output)
    answer = found and found.strip().removesuffix(".")
    return str(doc["gold"]) if answer and answer.lower() == doc["gold"].lower() else answer


paper, strict, loose = reads_of(published_answer), reads_of(stated_answer), reads_of(likely_answer)
