"""zsRE question answering (Levy et al. 2017), as released with MEND (Mitchell et al. 2022)."""

from collections.abc import Iterator
from typing import Any

from errata.data.answers import recalled

_NQ = "nq question: "


def convert(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A record, unless its new answer `alt` is empty, as a few are: public loaders leave those out as well.

    Its neighbour is an unrelated question from Natural Questions, without the marker before it.
    """
    if not record["alt"]:
        return
    yield {
        "prompt": record["src"],
        "subject": record["subject"],
        "target_new": record["alt"],
        "target_true": record["answers"][0],
        "paraphrases": [record["rephrase"]],
        "neighbours": [{"prompt": record["loc"].removeprefix(_NQ) + "?", "answer": record["loc_ans"]}],
        "portability": recalled(record),
    }


LAYOUTS = {("src", "alt"): convert}
