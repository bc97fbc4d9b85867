"""The subject of a prompt, where there can be no doubt about it."""

import re

_WORD = r"[^\W\d_][\w'’.-]*"
_TOKEN = re.compile(_WORD + r"|\S")
# Words that are capitalised only because a sentence starts with them.
OPENERS = frozenset(
    "a an the in on at of to for from by with as and or but what which who whom whose when where why how is are was "
    "were does do did can could will would has have had this that these those it its name tell give q question".split()
)


def infer_subject(prompt: str) -> str | None:
    """The only capitalised span of `prompt`, such as France in "The capital of France is"; else None.

    A span is one or more capitalised words side by side. Any second span makes the prompt ambiguous: in
    "The Bank of England is in" nobody can tell Bank, England and Bank of England apart by form.
    """
    spans = [span for span in map(_without_opener, _spans(prompt)) if span]
    return spans[0].rstrip(".'’-") if len(spans) == 1 else None


def _spans(prompt: str) -> list[str]:
    """Maximal runs of capitalised words that only blanks part."""
    spans: list[tuple[int, int]] = []
    for match in _TOKEN.finditer(prompt):
        if not match.group()[0].isupper():
            continue
        if spans and prompt[spans[-1][1] : match.start()].isspace():
            spans[-1] = (spans[-1][0], match.end())
        else:
            spans.append((match.start(), match.end()))
    return [prompt[start:end] for start, end in spans]


def _without_opener(span: str) -> str:
    first, _, rest = span.partition(" ")
    return rest.lstrip() if first.lower().rstrip(":.") in OPENERS else span
