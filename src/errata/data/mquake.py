"""MQuAKE (Zhong et al. 2023): counterfactual and temporal edits with questions over chains of two to four facts."""

from collections.abc import Iterator
from typing import Any

from errata.data.answers import probe

HOPS = {2: "one_hop", 3: "two_hop", 4: "three_hop"}
"""Facts of a chain -> facts in it beside the edited one."""


def convert(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The edits of one chain, in its order. The chain's questions take all of them, so they stand with the last.

    An edit's paraphrase is the question for its fact alone.
    """
    rewrites, name = record["requested_rewrite"], str(record["case_id"])
    kind = HOPS[len(record["new_single_hops"])]
    answers = [record["new_answer"], record["new_answer_alias"]]
    chain = [probe(question, answers, kind) for question in record["questions"]]
    for number, rewrite in enumerate(rewrites, start=1):
        yield {
            "id": f"{name}-{number}" if len(rewrites) > 1 else name,
            "group": name if len(rewrites) > 1 else None,
            "prompt": rewrite["prompt"].replace("{}", rewrite["subject"]),
            "subject": rewrite["subject"],
            "target_new": rewrite["target_new"]["str"],
            "target_true": rewrite["target_true"]["str"],
            "paraphrases": [rewrite["question"]],
            "portability": chain if number == len(rewrites) else [],
        }


LAYOUTS = {("requested_rewrite", "new_single_hops"): convert}
