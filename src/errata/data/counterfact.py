"""CounterFact (Meng et al. 2022): the original layout, and the one-string-a-field layout of EasyEdit."""

from typing import Any


def convert(row: dict[str, Any]) -> dict[str, Any]:
    """A record of the original layout. Neighbours share the true answer; attribute and essay prompts are left out."""
    rewrite = row["requested_rewrite"]
    true = rewrite["target_true"]["str"]
    return {
        "id": row["case_id"],
        "prompt": rewrite["prompt"].replace("{}", rewrite["subject"]),
        "subject": rewrite["subject"],
        "target_new": rewrite["target_new"]["str"],
        "target_true": true,
        "paraphrases": row["paraphrase_prompts"],
        "neighbours": [{"prompt": prompt, "answer": true} for prompt in row["neighborhood_prompts"]],
    }


def convert_single(row: dict[str, Any]) -> dict[str, Any]:
    """A record of EasyEdit's layout, with one paraphrase and one neighbour."""
    return {
        "id": row["case_id"],
        "prompt": row["prompt"],
        "subject": row["subject"],
        "target_new": row["target_new"],
        "target_true": row["ground_truth"],
        "paraphrases": [row["rephrase_prompt"]],
        "neighbours": [{"prompt": row["locality_prompt"], "answer": row["locality_ground_truth"]}],
    }
