"""How answers are read from outputs: pure functions of one output, and what makes filters of the harness of them."""

import re
import string
from collections.abc import Callable, Sequence
from typing import Any

from errata.capability.items import Doc

UNPARSED = "[invalid]"
"""What the harness' own filters, and ours, give for an output without an answer."""
Filter = Callable[[Sequence[Sequence[str]], Sequence[Doc]], list[str]]


def reads(parse: Callable[[str], str | None]) -> Filter:
    """The function for a `custom` filter of a YAML. parse: one output -> its answer, None if it has none."""

    def apply(outputs: Sequence[Sequence[str]], docs: Sequence[Doc]) -> list[str]:
        return [_given(parse(output[0])) for output in outputs]

    return apply


def reads_of(parse: Callable[[str, Doc], str | None]) -> Filter:
    """As `reads`, for what depends on the item as well."""

    def apply(outputs: Sequence[Sequence[str]], docs: Sequence[Doc]) -> list[str]:
        return [_given(parse(output[0], doc)) for output, doc in zip(outputs, docs, strict=True)]

    return apply


def last(pattern: str, output: str) -> str | None:
    """The last match of a pattern in an output: its first group if it has one."""
    found: list[Any] = re.findall(pattern, output)
    return str(found[-1]) if found else None


def first_line(output: str) -> str:
    """The first line that is not blank, without the spaces around it."""
    return output.strip().partition("\n")[0].strip()


def normalized(text: str) -> str:
    """Lower case, without punctuation and articles, single spaces: how SQuAD and TriviaQA compare answers.

    Rajpurkar et al. 2016 (arXiv 1606.05250), the official evaluation script.
    """
    bare = "".join(" " if char in "‘’´`_" else char for char in text.lower() if char not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def holds(output: str, answer: str) -> bool:
    """Whether the words of an answer stand together somewhere in an output, both normalized."""
    return bool(normalized(answer)) and f" {normalized(answer)} " in f" {normalized(output)} "


def _given(answer: str | None) -> str:
    return UNPARSED if answer is None or not answer.strip() else answer
