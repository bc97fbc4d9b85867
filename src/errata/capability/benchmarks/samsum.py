"""SAMSum (Gliwa et al. 2019): sum up a chat. Paper 2's summarization, by the mean of ROUGE-1, 2 and L (Lin 2004)."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from errata.capability.benchmarks.paper2 import END_OF_TEXT, after
from errata.capability.extraction import UNPARSED, first_line, reads, reads_of
from errata.capability.items import Doc, Docs, docs
from errata.capability.sources import Hub, Split, read, text
from errata.data.rows import Row

HUB = ("knkarthick/samsum", "f8040674894a743112febaddde2b32264c07bb20")
TEST = Split("samsum", ("test",), Hub(*HUB, "test"))
DEV = Split("samsum", ("val", "validation", "dev"), Hub(*HUB, "validation"))
TINY = 1e-8
"""What the package rouge adds to a denominator."""

Sentences = Sequence[Sequence[str]]


def load(data_dir: str | None = None, **_: Any) -> dict[str, Docs]:
    """The 819 chats of the test set."""
    return docs(items(read(TEST, data_dir)))


def load_paper(data_dir: str | None = None, **_: Any) -> dict[str, Docs]:
    """The 818 chats of the development set."""
    return docs(items(read(DEV, data_dir)))


def items(rows: Iterable[Row]) -> list[Doc]:
    """Records as released: dialogue and summary."""
    return [
        {"id": f"{number:03d}", "kind": "", "dialogue": text(row, "dialogue"), "gold": text(row, "summary")}
        for number, row in enumerate(rows)
    ]


def prompt(doc: Doc) -> str:
    """Paper 2's, with all lines ending alike."""
    return f"{doc['dialogue'].replace(chr(13), '').strip()}\nTL;DR:"


def paper_prompt(doc: Doc) -> str:
    """As the scripts send it."""
    return f"{doc['dialogue']}\nTL;DR:"


def parse_paper(output: str, doc: Doc) -> str | None:
    """All but the last 13 characters, as many as GPT-2's end of text has, whether it came or not."""
    summary = after("DR:", paper_prompt(doc), output)[: -len(END_OF_TEXT)]
    return summary if len(summary) > 1 else None


def score(doc: Doc, results: Sequence[str]) -> dict[str, float]:
    """Mean of the F1 of ROUGE-1, 2 and L, of words in lower case without punctuation, as the package rouge-score."""
    if results[0] == UNPARSED:
        return {"score": 0.0}
    said, gold = (re.findall("[a-z0-9]+", summary.lower()) for summary in (results[0], doc["gold"]))
    overlaps = [
        _overlap(said, gold, 1),
        _overlap(said, gold, 2),
        _f(len(_subsequence(gold, said)), len(said), len(gold)),
    ]
    return {"score": sum(overlaps) / 3}


def _overlap(said: Sequence[str], gold: Sequence[str], n: int) -> float:
    """F1 of the n-grams, each as often as it stands in both."""
    ours, theirs = Counter(_ngrams(said, n)), Counter(_ngrams(gold, n))
    return _f((ours & theirs).total(), ours.total(), theirs.total())


def paper_score(doc: Doc, results: Sequence[str]) -> dict[str, float]:
    """The same as the package rouge 1.0.1 has it: of different words, case and commas kept.

    Where nothing stands between full stops the package ends with an error, and the score here is 0.
    """
    said, gold = ([] if results[0] == UNPARSED else sentences(results[0])), sentences(doc["gold"])
    if not said or not gold:
        return {"score": 0.0}
    return {"score": (rouge_n(said, gold, 1) + rouge_n(said, gold, 2) + rouge_l(said, gold)) / 3}


def sentences(summary: str) -> list[list[str]]:
    """The words between full stops; a space between two of them is an empty word."""
    return [" ".join(piece.split()).split(" ") for piece in summary.split(".") if piece]


def rouge_n(said: Sentences, gold: Sentences, n: int) -> float:
    """F of the different n-grams, which may go over the end of a sentence."""
    ours, theirs = set(_ngrams(_flat(said), n)), set(_ngrams(_flat(gold), n))
    return _f(len(ours & theirs), len(ours), len(theirs), TINY)


def rouge_l(said: Sentences, gold: Sentences) -> float:
    """F of the different words in the longest common subsequences of every sentence with every other."""
    common = {word for theirs in gold for ours in said for word in _subsequence(theirs, ours)}
    return _f(len(common), len(set(_flat(said))), len(set(_flat(gold))), TINY)


def _ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def _flat(sentences: Sentences) -> list[str]:
    return [word for sentence in sentences for word in sentence]


def _f(common: int, ours: int, theirs: int, tiny: float = 0.0) -> float:
    precision, recall = common / max(ours, 1), common / max(theirs, 1)
    return 2 * precision * recall / (precision + recall + tiny) if common else 0.0


def _subsequence(x: Sequence[str], y: Sequence[str]) -> list[str]:
    """A longest common subsequence; of several, the one found from the ends by shortening y first."""
    length = [[0] * (len(y) + 1) for _ in range(len(x) + 1)]
    for i, a in enumerate(x):
        for j, b in enumerate(y):
            length[i + 1][j + 1] = length[i][j] + 1 if a == b else max(length[i][j + 1], length[i + 1][j])
    found: list[str] = []
    i, j = len(x), len(y)
    while i and j:
        if x[i - 1] == y[j - 1]:
            found, i, j = [*found, x[i - 1]], i - 1, j - 1
        elif length[i - 1][j] > length[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return found[::-1]


strict, paper = reads(first_line), reads_of(parse_paper)
