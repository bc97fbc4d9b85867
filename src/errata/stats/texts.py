"""Output that is no answer: the muting effect of "Should We Really Edit Language Models?" (section 4.1), in its kinds.

Empty, one unit over and over, or text that is not like what the unedited model wrote to the same benchmark.
"""

import re
from collections import Counter
from collections.abc import Sequence
from math import log2
from typing import Literal

Muting = Literal["empty", "repeating", "random"]

# A unit of up to 60 characters, said at least four times on end.
_LOOP = re.compile(r"(.{1,60}?)\1{3,}", re.DOTALL)
ORDER = 3
"""Characters of which one is predicted from the others."""
MANY, DISTINCT = 12, 0.4
"""Groups of three words from which on a text repeats itself if no larger share of them is distinct."""
FEWEST = 20
"""Texts from which on it can be said what is unlike them."""
SHORTEST = 5
"""Characters below which likelihood tells nothing: a letter that was never the answer may still be one."""
SLACK = 1.25
"""How far above the least likely of the reference texts a text lies that is random."""
FLOOR = 0.4
"""Bits that it takes at the least, as a share of those of characters drawn blindly: templates are very likely text."""


def is_looping(text: str) -> bool:
    """Whether most of the text is one unit said over and over."""
    stripped = text.strip()
    longest = max((match.end() - match.start() for match in _LOOP.finditer(stripped)), default=0)
    return longest >= 8 and 2 * longest >= len(stripped)


def _says_little(text: str) -> bool:
    """Whether few of many groups of three words on end are new."""
    words = text.split()
    groups = [tuple(words[i : i + 3]) for i in range(len(words) - 2)]
    return len(groups) >= MANY and len(set(groups)) <= DISTINCT * len(groups)


class Reference:
    """What output looks like that is text: trigrams of characters in what the unedited model wrote.

    All digits are one character, since answers differ in their numbers. `limit`: bits a character from which on a text
    is random, `SLACK` times the most that any of the reference texts takes under the trigrams of the others, and at
    least `FLOOR`. None for fewer than `FEWEST` texts.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        texts = [_plain(text) for text in texts if text.strip()]
        self._alphabet = len(set("".join(texts))) + 1
        self._trigrams: Counter[str] = Counter()
        self._pairs: Counter[str] = Counter()
        for text in texts:
            self._count(text, 1)
        self.limit = self._limit(texts) if len(texts) >= FEWEST else None

    def bits(self, text: str) -> float:
        """Bits a character that the text takes."""
        return self._bits(_plain(text))

    def _bits(self, text: str) -> float:
        padded = _padded(text)
        parts = [padded[i : i + ORDER] for i in range(len(padded) - ORDER + 1)]
        return -sum(log2(self._probability(part)) for part in parts) / len(parts)

    def _limit(self, texts: Sequence[str]) -> float:
        return max(SLACK * max(map(self._without_itself, texts)), FLOOR * log2(self._alphabet))

    def _without_itself(self, text: str) -> float:
        self._count(text, -1)
        found = self._bits(text)
        self._count(text, 1)
        return found

    def _count(self, text: str, sign: int) -> None:
        padded = _padded(text)
        for i in range(len(padded) - ORDER + 1):
            self._trigrams[padded[i : i + ORDER]] += sign
            self._pairs[padded[i : i + ORDER - 1]] += sign

    def _probability(self, trigram: str) -> float:
        """Of the last character after the first two; half a count is shared out over the alphabet."""
        return (self._trigrams[trigram] + 0.5 / self._alphabet) / (self._pairs[trigram[:-1]] + 0.5)


def _plain(text: str) -> str:
    return re.sub(r"\d", "0", text.strip())


def _padded(text: str) -> str:
    return "\n" * (ORDER - 1) + text


def muting(text: str, reference: Reference | None = None) -> Muting | None:
    """In which way an output is mute, None if it is text.

    Without a reference only what has no letter and no digit is random.
    """
    if not text.strip():
        return "empty"
    if is_looping(text) or _says_little(text):
        return "repeating"
    if not any(map(str.isalnum, text)):
        return "random"
    if reference is None or reference.limit is None or len(text.strip()) < SHORTEST:
        return None
    return "random" if reference.bits(text) > reference.limit else None
