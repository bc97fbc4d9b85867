"""One of a few words as the answer: read strictly, loosely, and as paper 2's scripts read it.

strict: the output is the answer, in the form that was asked for. loose: the answer can be found in it.
"""

import re
from collections.abc import Sequence

from errata.capability.extraction import first_line


def strict_label(output: str, labels: Sequence[str], fold: bool = True) -> str | None:
    """The label that the output begins with, alone or before punctuation: " True.", "(B) tea", "no, it is not".

    fold: whether case does not matter.
    """
    found = re.match(rf"\W*({_any(labels)})([\"')\]]+(?!\w)|[.,;:!?]|$)", first_line(output), _flags(fold))
    return _as_given(found[1], labels) if found else None


def loose_label(output: str, labels: Sequence[str], fold: bool = True) -> str | None:
    """The only label that stands in the output as a word of its own; None where several do."""
    found = {_as_given(word, labels) for word in re.findall(rf"\b({_any(labels)})\b", output, _flags(fold))}
    return found.pop() if len(found) == 1 else None


def contained_label(text: str, gold: str, labels: Sequence[str]) -> str | None:
    """As paper 2 counts: the gold label if the text has it anywhere, even within a word; else another that it has.

    "I do not know" is a right "no".
    """
    return next((label for label in (gold, *labels) if label in text), None)


def _any(labels: Sequence[str]) -> str:
    return "|".join(map(re.escape, labels))


def _flags(fold: bool) -> re.RegexFlag:
    return re.IGNORECASE if fold else re.NOFLAG


def _as_given(found: str, labels: Sequence[str]) -> str:
    return next(label for label in labels if label.lower() == found.lower())
