"""CommonsenseQA: questions with five options, seven worked exemplars (Talmor et al. 2019, arXiv 1811.00937).

`paper`: Active-Prompt's prompt, to which paper 1 (arXiv 2410.18785) refers. Its rule, the last capital A to E anywhere,
also within words, is the second reading: the zeros that the paper printed can only come from a stricter one.
The published exemplars are read from the data folder, as their repository states no licence; `fixed` has its own.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from typing import Any

from errata.capability.extraction import last, reads
from errata.capability.items import Doc, Docs, docs
from errata.capability.sources import Hub, Split, decoded, exemplars, folder, read, text, wrong
from errata.data.rows import Row, parse_json
from errata.errors import BadInput

_REVISION = "94630fe30dad47192a8546eb75f094926d47e155"
ITEMS = Split("commonsenseqa", ("dev", "validation"), Hub("tau/commonsense_qa", _REVISION, "validation"))
OWN = "commonsenseqa_exemplars.jsonl"
PUBLISHED = ("commonsenseqa/csqa_problems", "commonsenseqa/csqa_cot.json", "cot_prompts/csqa_cot.json")
"""Where Active-Prompt's basic_cot_prompts/csqa_problems may be in the data folder."""
LETTERS = "ABCDE"


def load(data_dir: str | None = None, published: bool = False, **_: Any) -> dict[str, Docs]:
    """Items of the dev split, whose labels are public.

    published: the exemplars of Active-Prompt, not the package's own; BadInput if the folder does not have them.
    """
    rows = [_fields(row) for row in exemplars("commonsenseqa", data_dir)]
    shots = rows or (_published(data_dir) if published else _own())
    return docs(_items(read(ITEMS, data_dir)), map(_shot, shots))


def _items(rows: Iterable[Row]) -> Iterator[Doc]:
    for row in rows:
        answer = row.fields.get("answerKey")
        if answer not in tuple(LETTERS):
            raise wrong(row, "answerKey", answer, "one of A to E (the labels of the test split are hidden: use dev)")
        stem, options = _question(row)
        choices = " ".join(f"({label}) {choice}" for label, choice in options)
        yield {
            "id": text(row, "id"),
            "kind": "",
            "question": f"Q: {stem} Answer Choices: {choices}\nA:",
            "letter": answer,
            "worked": "",
        }


def _question(row: Row) -> tuple[str, list[tuple[str, str]]]:
    """Stem and (label, text) of the options, in the original layout or the hub's."""
    inner = row.fields.get("question")
    if isinstance(inner, Mapping):
        options = [(o.get("label"), o.get("text")) for o in inner.get("choices", ())]
        stem = text(row, "stem", inner)
    else:
        stem, found = text(row, "question"), row.fields.get("choices")
        options = list(zip(found["label"], found["text"], strict=True)) if isinstance(found, Mapping) else []
    if [label for label, _ in options] != list(LETTERS) or not all(isinstance(option, str) for _, option in options):
        raise wrong(row, "choices", options, "five options labelled A to E")
    return stem, options


def _own() -> list[Mapping[str, str]]:
    content = files("errata.capability.benchmarks").joinpath(OWN).read_text("utf-8")
    return [json.loads(line) for line in content.splitlines()]


def _published(data_dir: str | None) -> list[Mapping[str, str]]:
    root = folder(data_dir)
    path = next((root / name for name in PUBLISHED if root and (root / name).is_file()), None)
    if path is None:
        raise BadInput(
            f"p1_commonsenseqa:paper needs its seven published exemplars; looked for {', '.join(PUBLISHED)} in "
            f"{root or 'no folder, as --data-dir is not given'}. Get the file basic_cot_prompts/csqa_problems of "
            "github.com/shizhediao/active-prompt, or measure p1_commonsenseqa:fixed, which has exemplars of its own"
        )
    value = parse_json(decoded(path), str(path), 'an object with "prompt", a list of exemplars')
    while isinstance(value, dict) and len(value) == 1:
        (value,) = value.values()
    return [_fields(Row(f"{path}, item {index}", index, item)) for index, item in enumerate(value, start=1)]


def _fields(row: Row) -> Mapping[str, str]:
    return {name: text(row, name) for name in ("question", "rationale", "pred_ans")}


def _shot(fields: Mapping[str, str]) -> Doc:
    worked = f"{fields['rationale']} The answer is {fields['pred_ans']}."
    return {"kind": "", "question": fields["question"].strip(), "worked": worked}


def stated_letter(output: str) -> str | None:
    """The letter that the last "answer is" states, in parentheses or not."""
    return last(r"answer is:?\s*\(?([A-E])\b", output)


def lone_letter(output: str) -> str | None:
    """The last of the letters that stands alone; an A that begins a sentence with a word after it does not."""
    return last(r"\b(?!A [a-z])([A-E])\b", output)


def capital(output: str) -> str | None:
    """Active-Prompt's rule: the last capital A to E, also within words."""
    return last(r"[A-E]", output)


strict, loose, paper_loose = reads(stated_letter), reads(lone_letter), reads(capital)
