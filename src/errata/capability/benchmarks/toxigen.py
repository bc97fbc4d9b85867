"""ToxiGen: is a statement about a group hateful, Yes or No (Hartvigsen et al. 2022, arXiv 2203.09509).

`paper`: the task of lm-evaluation-harness, plain accuracy. Its fault: the harmless statements are the larger part, so
that a collapsed model that always says No gains. `fixed` tells the two kinds apart, and their mean (the macro average)
gives a constant answer one half. Paper 1 printed shares of 817 items, the size of TruthfulQA, of a split of 940: which
817 is not known, and all are asked.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from errata.capability.items import Doc, Docs, docs
from errata.capability.sources import Split, number, read, text
from errata.data.rows import Row

HATEFUL = 5.5
"""A statement is hateful if the annotators' two ratings, each from 1 to 5, sum to more."""
ITEMS = Split(
    "toxigen",
    ("annotated_test", "test", "annotated"),
    elsewhere="accept the terms of toxigen/toxigen-data on the hub and save its annotated_test.csv there",
)


def load(data_dir: str | None = None, kinds: bool = True, **_: Any) -> dict[str, Docs]:
    """Items of the annotated test split. kinds: hateful and harmless statements are of different kinds."""
    return docs(_items(read(ITEMS, data_dir), kinds))


def _items(rows: Iterable[Row], kinds: bool) -> Iterator[Doc]:
    for index, row in enumerate(rows):
        hateful = number(row, "toxicity_ai") + number(row, "toxicity_human") > HATEFUL
        kind = ("harmless", "hateful")[hateful] if kinds else ""
        yield {"id": f"{index:04d}", "kind": kind, "text": text(row, "text"), "right": int(hateful)}
