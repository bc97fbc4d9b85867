"""KnowEdit (Zhang et al. 2024), its parts of facts: WikiData recent and counterfact, ZsRE, WikiBio.

Its two other parts, ConvSent and Sanitation, change a sentiment or erase an answer; they have no subject and no
place in its files of facts.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from errata.data.answers import first, probe

KINDS = {"Subject_Aliasing": "alias", "Logical_Generalization": "logical", "Reasoning": "one_hop"}


def convert(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A fact: WikiData recent (which has no old answer) and counterfact, ZsRE (which has a paraphrase)."""
    paraphrase = record.get("rephrase_prompt")
    yield {
        "prompt": record["prompt"],
        "subject": record["subject"],
        "target_new": record["target_new"],
        "target_true": first(record.get("ground_truth")),
        "paraphrases": [paraphrase] if paraphrase else [],
        "neighbours": _probes(record["locality"]),
        "portability": _probes(record.get("portability") or {}),
    }


def convert_biography(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """WikiBio: the prompt is the beginning of a biography, and the new answer is the sentence after it."""
    yield {
        "prompt": record["text"],
        "subject": record["concept"],
        "target_new": record["labels"],
        "neighbours": _probes(record["locality"]),
    }


def _probes(groups: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    made = [
        probe(entry["prompt"], entry["ground_truth"], KINDS.get(name, name.lower()))
        for name, entries in groups.items()
        for entry in entries
    ]
    return [fields for fields in made if fields]


LAYOUTS = {("target_new", "locality"): convert, ("concept", "labels"): convert_biography}
