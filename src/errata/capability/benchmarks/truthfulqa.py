"""TruthfulQA, multiple choice with one true answer, MC1 (Lin et al. 2022, arXiv 2109.07958).

`paper`: the task of lm-evaluation-harness, six fixed questions and answers before each. Its fault: the true answer is
always the first, and ties go to the first, so that a model without any preference is always right. `fixed` puts it
last, where no tie finds it.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lm_eval.utils import apply_template

from errata.capability.items import Doc, Docs, docs
from errata.capability.shipped import task_file
from errata.capability.sources import Hub, Split, read, text, wrong
from errata.data.rows import Row

_HUB = Hub("truthfulqa/truthful_qa", "741b8276f2d1982aa3d5b832d3ee81ed3b896490", "validation", ("multiple_choice",))
ITEMS = Split("truthfulqa", ("mc_task", "validation"), _HUB)


def load(data_dir: str | None = None, first: bool = False, **_: Any) -> dict[str, Docs]:
    """Items in the original layout or the hub's. first: the true answer comes first, as published, else last."""
    return docs(_items(read(ITEMS, data_dir), first))


def _items(rows: Iterable[Row], first: bool) -> Iterator[Doc]:
    for index, row in enumerate(rows):
        true, false = _targets(row)
        yield {
            "id": f"{index:04d}",
            "kind": "",
            "question": text(row, "question"),
            "choices": [true, *false] if first else [*false, true],
            "right": 0 if first else len(false),
        }


def _targets(row: Row) -> tuple[str, list[str]]:
    """The true answer and the false ones: {answer: 1 or 0} originally, choices and labels on the hub."""
    found = row.fields.get("mc1_targets")
    pairs: list[tuple[str, int]] = []
    if isinstance(found, Mapping):
        pairs = list(zip(found["choices"], found["labels"], strict=True)) if "choices" in found else list(found.items())
    true = [answer for answer, label in pairs if label == 1]
    if len(true) != 1 or len(pairs) < 2:
        raise wrong(row, "mc1_targets", found, "two or more answers, of which one is labelled 1")
    return true[0], [answer for answer, label in pairs if label != 1]


def question(doc: Doc) -> str:
    """The six questions and answers that the harness shows, then the item."""
    return str(
        apply_template(task_file("truthfulqa/truthfulqa_mc1.yaml")["doc_to_text"], {"question": doc["question"]})
    )
