"""Methods side by side, from synthetic runs."""

from pathlib import Path

import pytest
from synthetic_runs import config_of, entries, probes, rows, write_run

from errata.report.formats import to_markdown
from errata.report.results import Results, read_results
from errata.report.survey import survey


def order(
    root: Path,
    seed: int,
    works: float,
    kept: float,
    edits: tuple[int, ...] = (1, 10),
    seconds: float = 0.5,
    asked: tuple[int, ...] = (0, 1, 10),
    **options: object,
) -> Results:
    tables = {0: probes(0, 0.0)} | {n: probes(n, works) | {"locality": rows("locality", 40, kept)} for n in edits}
    config = config_of("memit", seed=seed, edits=list(asked), tasks=[], stop_at_collapse=True, options=options)
    return read_results(write_run(root, config, tables, entries=entries("memit", edits[-1], seconds, 1.0)))


def test_orders_are_pooled(tmp_path: Path) -> None:
    found = survey([order(tmp_path, 1, 1.0, 0.9), order(tmp_path, 2, 0.5, 0.9, seconds=2.0)])
    assert [(row["method"], row["edits"], row["orders"]) for row in found.rows] == [("MEMIT", 1, 2), ("MEMIT", 10, 2)]
    first = found.rows[0]
    assert first["efficacy"] == pytest.approx(0.75) and first["efficacy_low"] < 0.75 < first["efficacy_high"]
    assert (
        first["seconds"] == pytest.approx(0.5) and not first["note"]
    )  # of the order that shared the machine with less


def test_options_make_another_row(tmp_path: Path) -> None:
    found = survey([order(tmp_path, 1, 1.0, 0.9, (1,)), order(tmp_path, 1, 1.0, 0.9, (1,), history=True)])
    assert {row["method"] for row in found.rows} == {"MEMIT", "MEMIT, history: true"}


def test_two_orders_tell_more_than_one(tmp_path: Path) -> None:
    (one, *_), (two, *_) = (
        survey([order(tmp_path / name, seed, 0.5, 0.9) for seed in seeds]).rows
        for name, seeds in (("a", [1]), ("b", [1, 2]))
    )
    assert two["locality_high"] - two["locality_low"] < one["locality_high"] - one["locality_low"]


def test_what_collapsed_is_said_and_ends(tmp_path: Path) -> None:
    found = survey([order(tmp_path, seed, 0.9, 0.0, (1,)) for seed in (1, 2)])
    assert [(row["edits"], row["note"]) for row in found.rows] == [(1, "2 collapsed")]


def test_one_order_that_goes_on_is_shown(tmp_path: Path) -> None:
    found = survey([order(tmp_path, 1, 0.9, 0.0, (1,)), order(tmp_path, 2, 0.9, 0.9)])
    assert [(row["edits"], row["orders"], row["note"]) for row in found.rows] == [
        (1, 2, "1 collapsed"),
        (10, 1, "1 collapsed"),
    ]


def test_the_table_ends_where_the_last_order_collapsed(tmp_path: Path) -> None:
    asked = (0, 1, 10, 100)
    soon, later = (order(tmp_path, seed, 0.9, 0.0, (edits,), asked=asked) for seed, edits in ((1, 1), (2, 10)))
    assert [row["note"] for row in survey([soon, later]).rows] == ["1 collapsed", "2 collapsed"]


def test_markdown(tmp_path: Path) -> None:
    caption, empty, head, rule, *body = to_markdown(survey([order(tmp_path, 1, 1.0, 0.9)])).splitlines()
    assert caption and not empty and head.startswith("| Method | Edits | Efficacy | 95 % |")
    assert set(rule) == set("| -") and [line.split(" | ")[1] for line in body] == ["1", "10"]
