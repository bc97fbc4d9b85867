"""GSM8K without exemplars, as paper 2 asks it (Cobbe et al. 2021, arXiv 2110.14168); items and readings: `gsm8k`.

`paper`: its scripts put the worked solution of the item, all but its last line, where a model's own chain of thought
should stand, and count an output that has the answer in it as a text, such as 18 for 8. It measures copying.
"""

from errata.capability.benchmarks.paper2 import after
from errata.capability.extraction import reads_of
from errata.capability.items import Doc

ASK = "Therefore, the answer (arabic numerals) is:"


def prompt(doc: Doc) -> str:
    """The zero-shot chain of thought with which paper 2's prompt begins (Kojima et al. 2022, arXiv 2205.11916)."""
    return f"Q: {doc['question']}\nA: Let's think step by step."


def paper_prompt(doc: Doc) -> str:
    """As the scripts send it, with the solution."""
    return f"Q: {doc['question']} A:Let's think step by step. {_parts(doc)[0]} {ASK}"


def contains_gold(output: str, doc: Doc) -> str:
    """The right answer where it is part of the output, else the output."""
    said = after(ASK, paper_prompt(doc), output, split=1)
    return str(doc["gold"]) if _parts(doc)[1] in said else said


def _parts(doc: Doc) -> tuple[str, str]:
    """The solution, and the answer as it is written, with its commas."""
    solution, _, answer = doc["answer"].partition("####")
    return solution, answer.strip()


paper = reads_of(contains_gold)
