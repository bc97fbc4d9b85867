"""Tables say the same in every form."""

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_runs import config_of, rows, write_run

from errata.report import formats
from errata.report.formats import Column, Table, cell, to_csv, to_latex
from errata.report.summary import read
from errata.report.tables import abilities, answers, tables, written
from errata.runs.ledger import Entry


def test_every_table_has_its_rows(rome: Path, memit: Path) -> None:
    built = {table.name: table for table in tables(read([rome, memit]))}
    assert list(built) == ["verdicts", "abilities", "answers", "edit-success", "health", "ledger"]
    assert len(built["verdicts"].rows) == 2
    assert len(built["abilities"].rows) == len(built["answers"].rows) == 2 * 4 * 5
    assert [row["edits"] for row in built["ledger"].rows] == [1, 10, 100] * 2


def test_abilities_of_a_collapsed_model(rome: Path) -> None:
    table = abilities(read([rome]))
    (row,) = [row for row in table.rows if (row["edits"], row["task"]) == (100, "atlas_gsm8k")]
    assert row["accuracy"] == pytest.approx(4 / 60) and row["change"] == pytest.approx(-38 / 60)
    assert row["p_holm"] < 1e-4 and "collapsed" in row["note"] and "mostly empty" in row["note"]
    assert row["verdict"] == "harm" and row["p_tost"] > 0.99 and row["boot_low"] < row["change"] < row["boot_high"]
    (row,) = [row for row in table.rows if (row["edits"], row["task"]) == (100, "atlas_toxigen")]
    assert row["note"] == "constant answers; near chance unedited"
    (row,) = [row for row in table.rows if (row["edits"], row["task"]) == (1, "atlas_gsm8k")]
    assert row["verdict"] == "equivalent" and row["p_tost"] < 0.05 and 0.1 < row["detectable"] < 0.2


def test_what_was_answered(rome: Path) -> None:
    table = answers(read([rome]))
    (row,) = [row for row in table.rows if (row["edits"], row["task"]) == (100, "atlas_toxigen")]
    assert row["answers"] == "“No” 100 %" and row["best"] == "“No”" and row["best_share"] == pytest.approx(0.6)
    assert row["chance"] == 0.5 and row["non_finite"] == 0
    (row,) = [row for row in table.rows if (row["edits"], row["task"]) == (100, "atlas_gsm8k")]
    assert row["empty"] == pytest.approx(0.6) and row["given_parsed"] == pytest.approx(4 / 24)
    assert row["chance"] is None


def test_kinds_other_readings_and_shortened_prompts_are_shown(tmp_path: Path) -> None:
    kinds = ("algebra", "algebra", "algebra", "botany")
    made = [
        replace(
            row, extra={"kind": kind, "correct_loose": True, **({"dropped_exemplars": 2} if kind == "botany" else {})}
        )
        for row, kind in zip(rows("p1_mmlu", 4, 1.0), kinds, strict=True)
    ]
    made = [replace(row, correct=row.extra["kind"] == "botany") for row in made]
    run = write_run(tmp_path, config_of("rome", tasks=["p1_mmlu", "p1_mmlu:paper"], edits=[0]), {0: {"p1_mmlu": made}})
    (row,) = answers(read([run])).rows
    assert (row["accuracy"], row["macro"]) == (0.25, 0.5)
    assert row["otherwise"] == "loose 100 %" and row["shortened"] == 1


def test_weights_decide_the_score_of_the_whole(tmp_path: Path) -> None:
    extra = [
        {"score": 0.5, "weight": 3.0, "correct_loose": True, "score_loose": 0.75},
        {"weight": 1.0, "correct_loose": True},
    ]
    made = [replace(row, correct=False, extra=more) for row, more in zip(rows("ner", 2, 0.0), extra, strict=True)]
    (row,) = answers(read([write_run(tmp_path, config_of("rome", tasks=["ner"], edits=[0]), {0: {"ner": made}})])).rows
    assert (row["accuracy"], row["macro"]) == (0.375, None)
    assert row["otherwise"] == "loose 88 %"


def test_csv_holds_raw_numbers_and_reads_back(rome: Path) -> None:
    table = abilities(read([rome]))
    rows = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert len(rows) == len(table.rows)
    for row, original in zip(rows, table.rows, strict=True):
        assert float(row["accuracy"]) == pytest.approx(original["accuracy"], rel=1e-5)
        assert row["task"] == original["task"]


def test_latex_is_balanced_and_escaped(rome: Path, memit: Path) -> None:
    for table in tables(read([rome, memit])):
        latex = to_latex(table)
        body = latex.split(r"\endfoot")[1].split(r"\end{longtable}")[0]
        rows = [line for line in body.splitlines() if line.strip()]
        assert len(rows) == len(table.rows)
        assert all(len(re.findall(r"(?<!\\)&", row)) == len(table.columns) - 1 for row in rows)
        assert not re.search(r"(?<!\\)[%#_]", latex.split("\n", 1)[1])
        assert latex.isascii() or not re.search("[−×–“”…]", latex)


def test_latex_escapes_what_a_model_said() -> None:
    table = Table("t", "T", "c", (Column("A_b", "text", ("a",)),), ({"a": "50 % of {x} & $y_1$ \\ ~^#"},))
    assert r"50 \% of \{x\} \& \$y\_1\$ \textbackslash{} \textasciitilde{}\textasciicircum{}\#" in to_latex(table)


def test_absent_values_leave_the_cell_empty() -> None:
    column = Column("x", "range", ("low", "high"))
    assert cell(column, {"low": 0.1}) == ""
    assert cell(column, {"low": 0.1, "high": float("nan")}) == ""
    assert cell(column, {"low": 0.1, "high": 0.3}) == "10–30 %"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (formats.share(0), "0 %"),
        (formats.share(1), "100 %"),
        (formats.share(0.996), "99.6 %"),
        (formats.share(0.004), "0.4 %"),
        (formats.share(0.9996), "99.9 %"),
        (formats.share(0.455), "46 %"),
        (formats.points(-0.1234), "−12.3 points"),
        (formats.points(0.01), "+1 point"),
        (formats.points(0.0), "0 points"),
        (formats.points(-0.0001), "0 points"),
        (formats.points(0.05, sign=False), "5 points"),
        (formats.points_span(-0.05, 0.1), "−5.0 to +10.0"),
        (formats.p_value(0.00002), "<0.0001"),
        (formats.p_value(0.04), "0.040"),
        (formats.p_value(1.0), "1.00"),
        (formats.number(1234567), "1.2e+06"),
        (formats.number(3.14159), "3.14"),
        (formats.number(12345.6), "12,346"),
        (formats.edits_text(1), "1 edit"),
        (formats.edits_text(1000), "1,000 edits"),
    ],
)
def test_words(text: str, expected: str) -> None:
    assert text == expected


@settings(deadline=None)
@given(st.floats(0, 1))
def test_only_all_reads_as_all_and_only_none_as_none(value: float) -> None:
    assert (formats.share(value) == "100 %") == (value == 1)
    assert (formats.share(value) == "0 %") == (value == 0)


def test_what_was_written() -> None:
    batches = [
        Entry(1, 2, "applied", ("a", "b"), "memit", None, {"s": 1.0}, {"s": 0.1}, seconds=3.0),
        Entry(2, 3, "diverged", ("c",), "memit", "NaN", {"s": 2.0}, {"s": None}, seconds=1.5),  # type: ignore[dict-item]
        Entry(0, 3, "skipped", ("d",), "memit", "no subject"),
    ]
    assert written(batches) == {
        "applied": 2,
        "diverged": 1,
        "skipped": 1,
        "seconds_per_edit": 1.5,
        "update_max": 0.1,
        "update_median": 0.1,
    }
    assert written([])["seconds_per_edit"] is None
