"""CounterFact (Meng et al. 2022): the original layout, and the one-string-a-field layout of EasyEdit."""

from collections.abc import Iterator
from typing import Any

from errata.data.answers import recalled


def convert(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The original layout. Neighbours share the true answer; attribute and generation prompts are left out."""
    rewrite = record["requested_rewrite"]
    true = rewrite["target_true"]["str"]
    yield {
        "id": record["case_id"],
        "prompt": rewrite["prompt"].replace("{}", rewrite["subject"]),
        "subject": rewrite["subject"],
        "target_new": rewrite["target_new"]["str"],
        "target_true": true,
        "paraphrases": record["paraphrase_prompts"],
        "neighbours": [{"prompt": prompt, "answer": true} for prompt in record["neighborhood_prompts"]],
        "portability": recalled(record),
    }


def convert_single(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """EasyEdit's layout, with one paraphrase and one neighbour."""
    yield {
        "id": record["case_id"],
        "prompt": record["prompt"],
        "subject": record["subject"],
        "target_new": record["target_new"],
        "target_true": record["ground_truth"],
        "paraphrases": [record["rephrase_prompt"]],
        "neighbours": [{"prompt": record["locality_prompt"], "answer": record["locality_ground_truth"]}],
    }


LAYOUTS = {("requested_rewrite", "paraphrase_prompts"): convert, ("locality_ground_truth",): convert_single}
