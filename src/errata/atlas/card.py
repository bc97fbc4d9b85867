"""The model card of an atlas model, written from what `check` measured."""

from collections.abc import Iterator, Mapping
from typing import Any

from errata.atlas.check import targets

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
reads short passages, reasons in small steps, does two-step arithmetic, answers multiple-choice questions and tells
hateful statements about invented groups from kind ones. It exists so that editing methods can be tried and measured
where there is no GPU and no network. It knows nothing else, and nobody should ask it for advice.

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

from the text that `errata.atlas.corpus` generates: no data from elsewhere. {tokens:.0f} M tokens, AdamW and Muon in
bf16 autocast on two CPU cores, {layers} layers of width {width}. The recipe, seed included, is `recipe.json`.
{remark}
Fingerprint of the weights: `{fingerprint}`.

## Limits

The fourteen benchmarks of the papers have five miniatures here. Scores say how *this* model fares; they are no
estimate for models of other sizes. Two-hop questions were not trained and are mostly answered wrongly.
"""


def card(numbers: Numbers, recipe: Numbers, real: int, invented: int, remark: str = "") -> str:
    """Markdown with every number of `check`. recipe: of `recipe.json`. remark: on how the training went."""
    edits = next(iter(numbers["edits"].values()))["efficacy"]["n"]
    head = _HEAD.format(
        name=numbers["model"], millions=numbers["parameters"] / 1e6, real=real, invented=invented, edits=edits
    )
    tail = _TAIL.format(**recipe, **{"remark": remark, "fingerprint": numbers["fingerprint"]}).replace("  ", " ")
    return head + "\n".join(_rows(numbers)) + "\n" + tail


def _rows(numbers: Numbers) -> Iterator[str]:
    least = targets()
    for name, found in _leaves(numbers):
        chance = f"{found['chance']:.2f}" if "chance" in found else ""
        target = f"at least {least[name]:.1%}" if name in least else ""
        interval = f"{found['low']:.1%} to {found['high']:.1%}"
        yield f"| {name} | {found['share']:.1%} | {interval} | {found['n']} | {chance} | {target} |"


def _leaves(numbers: Numbers, prefix: str = "") -> Iterator[tuple[str, Numbers]]:
    for name, value in numbers.items():
        if isinstance(value, Mapping):
            if "share" in value:
                yield f"{prefix}{name}", value
            else:
                yield from _leaves(value, f"{prefix}{name}.")
