"""What a model answers when asked freely, and when that answer counts as right. No torch here."""

import re
import string
from dataclasses import dataclass
from typing import Protocol

SENTENCE_END = ". "
LINE_END = "\n"
MAX_TOKENS = 32
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Generated(Protocol):
    """What is read of a generation."""

    @property
    def text(self) -> str: ...
    @property
    def clean_stop(self) -> bool: ...
    @property
    def finite(self) -> bool: ...


@dataclass(frozen=True)
class Question:
    """prompt: as asked. expected: the answer that counts, or one like it where none does.

    Generation ends by itself, with the line, or with the sentence unless the expected answer holds the
    mark of a sentence's end itself, as "St. Louis" does.
    """

    prompt: str
    expected: str

    @property
    def stop(self) -> tuple[str, ...]:
        return (LINE_END,) if SENTENCE_END in self.expected else (LINE_END, SENTENCE_END)

    def answer(self, generated: Generated) -> str:
        """The answer itself: the first sentence of the continuation, blanks and the full stop left out."""
        text = generated.text.strip()
        end = text.find(SENTENCE_END, len(self.expected) if SENTENCE_END in self.expected else 0)
        return text[: end if end >= 0 else len(text)].removesuffix(".").rstrip()


def normalise(text: str) -> str:
    """Lower case, without punctuation, articles and extra blanks; an answer of articles alone stays."""
    plain = " ".join(text.lower().translate(_PUNCTUATION).split())
    return " ".join(_ARTICLES.sub(" ", plain).split()) or plain


def same(answer: str, *golds: str) -> bool:
    """Normalised exact match with one of the right answers."""
    return normalise(answer) in map(normalise, golds)


def contains(answer: str, gold: str) -> bool:
    """Whether the gold answer stands in the answer as whole words, both normalised."""
    wanted = normalise(gold)
    return bool(wanted) and f" {wanted} " in f" {normalise(answer)} "
