"""zsRE question answering (Levy et al. 2017), as released with MEND (Mitchell et al. 2022)."""

from typing import Any

_NQ = "nq question: "


def convert(row: dict[str, Any]) -> dict[str, Any]:
    """A record. Its neighbour is an unrelated question from Natural Questions, without the marker before it."""
    return {
        "prompt": row["src"],
        "subject": row["subject"],
        "target_new": row["alt"],
        "target_true": row["answers"][0],
        "paraphrases": [row["rephrase"]],
        "neighbours": [{"prompt": row["loc"].removeprefix(_NQ) + "?", "answer": row["loc_ans"]}],
    }
