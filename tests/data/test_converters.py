"""Public layouts become cases; fixtures are hand-written, and the real files are tried where they are."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from errata.data.cases import read_cases
from errata.errors import BadInput
from errata.types import EditCase, EditRequest, Probe

COUNTERFACT: dict[str, Any] = {
    "case_id": 3,
    "requested_rewrite": {
        "prompt": "{} plays the",
        "target_new": {"str": "drum", "id": "Q1"},
        "target_true": {"str": "lute", "id": "Q2"},
        "subject": "Ada Lim",
    },
    "paraphrase_prompts": ["Rain fell. Ada Lim is known for the"],
    "neighborhood_prompts": ["Bo Wren plays the", "Cy Dale plays the"],
    "attribute_prompts": [],
    "generation_prompts": ["Ada Lim was born"],
}
EASYEDIT = {
    "case_id": 4,
    "prompt": "Ada Lim plays the",
    "target_new": "drum",
    "subject": "Ada Lim",
    "ground_truth": "lute",
    "rephrase_prompt": "Ada Lim is known for the",
    "locality_prompt": "Bo Wren plays the",
    "locality_ground_truth": "lute",
}
ZSRE: dict[str, Any] = {
    "subject": "Ada Lim",
    "src": "What does Ada Lim play?",
    "pred": "harp",
    "rephrase": "Which instrument is Ada Lim's?",
    "alt": "drum",
    "answers": ["lute", "the lute"],
    "loc": "nq question: how many moons has mars",
    "loc_ans": "two",
    "cond": "",
}


def read(folder: Path, row: dict[str, Any]) -> EditCase:
    path = folder / "set.jsonl"
    path.write_text(json.dumps(row) + "\n")
    return read_cases(path)[0]


def test_counterfact(tmp_path: Path) -> None:
    assert read(tmp_path, COUNTERFACT) == EditCase(
        EditRequest("3", "Ada Lim plays the", "Ada Lim", "drum", "lute"),
        ("Rain fell. Ada Lim is known for the",),
        (Probe("Bo Wren plays the", "lute"), Probe("Cy Dale plays the", "lute")),
    )


def test_easyedit(tmp_path: Path) -> None:
    assert read(tmp_path, EASYEDIT) == EditCase(
        EditRequest("4", "Ada Lim plays the", "Ada Lim", "drum", "lute"),
        ("Ada Lim is known for the",),
        (Probe("Bo Wren plays the", "lute"),),
    )


def test_zsre(tmp_path: Path) -> None:
    assert read(tmp_path, ZSRE) == EditCase(
        EditRequest("1", "What does Ada Lim play?", "Ada Lim", "drum", "lute"),
        ("Which instrument is Ada Lim's?",),
        (Probe("how many moons has mars?", "two"),),
    )


@pytest.mark.parametrize(
    "row",
    [
        {**COUNTERFACT, "requested_rewrite": {}},
        {**COUNTERFACT, "requested_rewrite": "text"},
        {key: value for key, value in EASYEDIT.items() if key != "subject"},
        {**ZSRE, "answers": []},
        {**ZSRE, "loc": None},
    ],
)
def test_an_incomplete_record_is_named(tmp_path: Path, row: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=r"set\.jsonl:1: not a complete (counterfact|zsre) record"):
        read(tmp_path, row)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("counterfact/counterfact_200.jsonl", 200),
        ("counterfact/easyedit_layout_100.jsonl", 100),
        ("zsre/zsre_mend_eval_200.jsonl", 200),
    ],
)
def test_real_files(name: str, count: int) -> None:
    folder = os.environ.get("ERRATA_PUBLIC_DATA")
    if folder is None:
        pytest.skip("ERRATA_PUBLIC_DATA does not name a folder with samples of the public data sets")
    assert len(read_cases(Path(folder) / name)) == count
