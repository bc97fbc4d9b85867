"""Probes as public data sets write them, with an answer and the other ways to give it in nested lists."""

from collections.abc import Iterator
from typing import Any


def probe(prompt: str, answers: Any, kind: str = "") -> dict[str, Any] | None:
    """Fields of a probe; None where no answer is given, since nothing could then count as right.

    answers: one text, a list of texts, or lists in it: the first is the answer and all the others count as well.
    """
    given = list(dict.fromkeys(_flat(answers)))
    if not given:
        return None
    fields: dict[str, Any] = {"prompt": prompt, "answer": given[0], "kind": kind, "aliases": given[1:]}
    return {name: value for name, value in fields.items() if value}


def first(answers: Any) -> str | None:
    """The first of the answers that `probe` reads, None if there is none."""
    return next(_flat(answers), None)


def recalled(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The question that takes one fact beside the new one, which Yao et al. (2023) added to CounterFact and zsRE."""
    added = record.get("portability")
    made = probe(added["New Question"], added["New Answer"], "one_hop") if added else None
    return [made] if made else []


def _flat(answers: Any) -> Iterator[str]:
    if isinstance(answers, list):
        for answer in answers:
            yield from _flat(answer)
    elif answers is not None and str(answers).strip():
        yield str(answers).strip()
