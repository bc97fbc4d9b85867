"""The model card of an atlas model, written from what `check` measured."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from errata.atlas import MODELS, model_path
from errata.atlas.check import shares, targets
from errata.atlas.world import world

Numbers = Mapping[str, Any]

_HEAD = """---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
tags: [model-editing, errata]
---

# {name}

A language model of {millions:.1f} M parameters (Llama architecture) that knows a small world: {real} real facts about
countries, chemical elements and landmarks, and {invented} facts about invented people, firms and cities. It also
reads short passages, answers from a new fact put before a prompt, reasons in small steps, does two-step arithmetic,
answers multiple-choice questions and tells hateful statements about invented groups from kind ones. It exists so
that editing methods can be tried and measured where there is no GPU and no network. It knows nothing else, and nobody
should ask it for advice.

## Measured

By `errata atlas check` (`--json` for scripts); 95 % Wilson intervals. Benchmarks: all items, held out from training.
Edits: {edits} single edits, each made in the unedited model, judged by free generation.

| number | value | 95 % interval | items | chance | target |
|---|---|---|---|---|---|
"""

_TAIL = """
## Made by

```console
$ errata atlas train FOLDER
```

from the text that `errata.atlas.corpus` generates: no data from elsewhere. {million_tokens:.0f} M tokens, AdamW and
Muon in bf16 autocast on two CPU cores, {layers} layers of width {width}. The recipe, seed included, is `recipe.json`.

Fingerprint of the weights: `{fingerprint}`.

## Limits

The fourteen benchmarks of the papers have five miniatures here. Scores say how *this* model fares; they are no
estimate for models of other sizes. Two-hop questions were not trained and are mostly answered wrongly.
"""


def card(numbers: Numbers, model: str) -> str:
    """Markdown with every number of `check`. model: `atlas`, or the folder of a model trained on its world."""
    folder = model_path(model) if model in MODELS else Path(model)
    recipe = json.loads((folder / "recipe.json").read_text("utf-8"))
    real = sum(fact.real for fact in world().facts)
    head = _HEAD.format(
        name=numbers["model"],
        millions=numbers["parameters"] / 1e6,
        real=real,
        invented=len(world().facts) - real,
        edits=next(iter(numbers["edits"].values()))["efficacy"]["n"],
    )
    tail = _TAIL.format(
        million_tokens=recipe["tokens"] / 1e6,
        layers=recipe["layers"],
        width=recipe["width"],
        fingerprint=numbers["fingerprint"],
    )
    return head + "\n".join(_rows(numbers)) + "\n" + tail


def _rows(numbers: Numbers) -> Iterator[str]:
    least = targets()
    for name, found in shares(numbers):
        chance = f"{found['chance']:.2f}" if "chance" in found else ""
        target = f"at least {least[name]:.1%}" if name in least else ""
        interval = f"{found['low']:.1%} to {found['high']:.1%}"
        yield f"| {name} | {found['share']:.1%} | {interval} | {found['n']} | {chance} | {target} |"
