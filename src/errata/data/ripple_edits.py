"""RippleEdits (Cohen et al. 2024): recent, random and popular facts with what follows from them and what does not.

A record gives the new fact as a sentence, without its subject, prompt and answer apart; they are read off the
sentence by the forms that the benchmark's relations have. Each query is a probe of its own: the benchmark counts a
test as passed when one of its queries is, and asks it only of models that know the facts beside it.
"""

import re
from collections.abc import Iterator
from typing import Any

from errata.data.answers import probe

PORTABILITY = {
    "Subject_Aliasing": "alias",
    "Logical_Generalization": "logical",
    "Compositionality_I": "one_hop",
    "Compositionality_II": "one_hop",
}
NEIGHBOURS = {
    "Relation_Specificity": "relation_specificity",
    "Relation_Specifity": "relation_specificity",  # so spelled in some copies
    "Forgetfulness": "forgetfulness",
}
# Where the subject stands in the text before the answer.
_FORMS = [
    re.compile(form)
    for form in (
        r"The name of the [\w ]+? which (.+) (?:is (?:associated with|a member of|part of|the capital of)|plays in) is",
        r"The name of the (?:position held by|currency in) (.+) is",
        r"The name of the award (.+) won is",
        r"The number of children (.+) has is",
        r"The (?:names? of the |(?!names? of))"
        r"(?:(?:country|date|field|head|place) of \w+ |(?:(?!which|held)[a-z]+ )+?)of (.+) (?:is|are)",
        r"(?!The names? of)(.+) (?:follows|is followed by)",
    )
]


def convert(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A record, unless its new answer is the old one, as in a few of the random ones."""
    edit = record["edit"]
    old = (edit.get("original_fact") or edit.get("previous_fact") or {}).get("prompt")  # copies differ in the name
    if old == edit["prompt"]:
        return
    prompt = _prompt(edit["prompt"], old)
    yield {
        "prompt": prompt,
        "subject": subject(prompt),
        "target_new": _answer(edit["prompt"], prompt),
        "target_true": _answer(old, prompt) if old else None,
        "neighbours": _probes(record, NEIGHBOURS),
        "portability": _probes(record, PORTABILITY),
    }


def subject(prompt: str) -> str | None:
    """What a prompt of the benchmark is about; None for a prompt of another form."""
    return next((match[1] for form in _FORMS if (match := form.fullmatch(prompt))), None)


def _prompt(sentence: str, old: str | None) -> str:
    """The part of a sentence before its answer. ValueError unless there is one such part only.

    old: the sentence of the fact before the edit, which begins alike and tells parts apart.
    """
    starts = [sentence[: space.start()] for space in re.finditer(" ", sentence)]
    found = [start for start in starts if subject(start) and (old is None or old.startswith(f"{start} "))]
    if not found or (old is None and len(found) > 1):
        raise ValueError(f"{sentence!r} does not fall into a prompt and an answer in one way only")
    return found[-1]


def _answer(sentence: str, prompt: str) -> str | None:
    return sentence.removeprefix(prompt).strip().removesuffix(".") or None


def _probes(record: dict[str, Any], kinds: dict[str, str]) -> list[dict[str, Any]]:
    made = [
        probe(query["prompt"], [[answer["value"], answer["aliases"]] for answer in query["answers"]], kind)
        for name, kind in kinds.items()
        for test in record.get(name, ())
        for query in test["test_queries"]
    ]
    return [fields for fields in made if fields]


LAYOUTS = {("edit", "Subject_Aliasing"): convert}
