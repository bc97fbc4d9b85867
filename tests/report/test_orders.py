"""Several orders of the same edits, from synthetic runs."""

from pathlib import Path

import pytest
from synthetic_runs import TASKS, config_of, rows, steady, write_run

from errata.report.figures import figures
from errata.report.order_tables import order_tables
from errata.report.orders import Orders, pooled
from errata.report.sentences import sentences
from errata.report.summary import document, read
from errata.stats.paired import one_sided

Tables = dict[int, dict[str, list]]  # type: ignore[type-arg]


def runs(root: Path, *tables: Tables, method: str = "memit", **changes: object) -> list[Path]:
    """One order for each of `tables`, seeds 1, 2, ..."""
    return [
        write_run(root, config_of(method, seed=seed, **changes), named) for seed, named in enumerate(tables, start=1)
    ]


def harmed(right: float, first: int = 10) -> Tables:
    tables = steady()
    for edits in tables:
        if edits >= first:
            tables[edits]["atlas_gsm8k"] = rows("atlas_gsm8k", 60, right)
    return tables


def of(paths: list[Path], margin: float | None = None) -> Orders:
    (found,) = pooled(read(paths, margin))
    return found


def test_only_runs_that_differ_in_the_seed_alone_are_pooled(tmp_path: Path) -> None:
    paths = [*runs(tmp_path, steady(), steady(), steady()), *runs(tmp_path, steady(), method="rome")]
    paths += runs(tmp_path, steady(), batch=10)
    (found,) = pooled(read(paths))
    assert len(found.runs) == 3 and found.label == "MEMIT" and found.checkpoints == (0, 1, 10, 100)
    assert pooled(read(paths[2:])) == []


def test_groups_are_named_by_what_differs(tmp_path: Path) -> None:
    paths = [*runs(tmp_path, steady(), steady()), *runs(tmp_path, steady(), steady(), method="rome")]
    assert [orders.label for orders in pooled(read(paths))] == ["MEMIT", "ROME"]
    paths += runs(tmp_path, steady(), steady(), batch=10)
    assert [orders.label for orders in pooled(read(paths))] == ["MEMIT, batch 1", "ROME, batch 1", "MEMIT, batch 10"]


def test_orders_that_change_nothing_tell_what_one_tells(tmp_path: Path) -> None:
    found = of(runs(tmp_path, steady(), steady()))
    change = found.curve[100]["atlas_mmlu"]
    assert (change.above, change.below) == one_sided(0, 0, 60)
    assert found.horizon == 100 and found.collapse is None
    assert found.accuracy[100]["atlas_mmlu"].value == pytest.approx(0.9)
    assert found.ability[0].value == pytest.approx((0.9 + 0.8 + 0.7 + 0.95 + 0.5) / 5)


def test_the_mean_and_its_width_come_from_the_orders(tmp_path: Path) -> None:
    found = of(runs(tmp_path, harmed(0.7), harmed(0.6), harmed(0.2)))
    change, before = found.curve[10]["atlas_gsm8k"], found.accuracy[0]["atlas_gsm8k"]
    assert change.difference == pytest.approx(-0.2) and change.low < -0.6 and change.high > 0
    assert found.accuracy[10]["atlas_gsm8k"].value == pytest.approx(0.5)
    assert found.accuracy[10]["atlas_gsm8k"].low == 0.0
    assert found.accuracy[10]["atlas_gsm8k"].high - found.accuracy[10]["atlas_gsm8k"].low > before.high - before.low


def test_the_horizon_ends_before_any_order_collapses(tmp_path: Path) -> None:
    """The mean of two orders of which one collapses late is not called safe there, whatever the margin."""
    found = of(runs(tmp_path, steady(), harmed(0.1, first=100)), margin=1.0)
    assert found.horizon == 10 and found.collapse is None
    assert [run.collapse and run.collapse.edits for run in found.runs] == [None, 100]


def test_orders_that_all_collapse(tmp_path: Path) -> None:
    paths = runs(tmp_path, harmed(0.1), harmed(0.1), harmed(0.1, first=100))
    found = of(paths)
    assert found.collapse is not None and (found.collapse.edits, found.collapse.benchmark) == (100, "atlas_gsm8k")
    text = " ".join(sentence.text for sentence in sentences(read(paths)))
    assert (
        "Over 3 orders of the same edits, MEMIT collapses on average by 100 edits; 3 of the 3 orders collapse, the "
        "first by 10." in text
    )
    assert "Over 3 orders of the same edits, MEMIT holds 1 edit safely on average" in text


def test_answers_that_became_one_in_most_orders(tmp_path: Path) -> None:
    constant = steady()
    constant[100]["atlas_toxigen"] = rows("atlas_toxigen", 60, 0.0, constant=" No")
    assert of(runs(tmp_path / "one", constant, steady(), steady())).collapse is None
    found = of(runs(tmp_path / "two", constant, constant, steady()))
    assert found.collapse is not None and (found.collapse.benchmark, found.collapse.edits) == ("atlas_toxigen", 100)


def test_only_checkpoints_of_all_orders(tmp_path: Path) -> None:
    stopped = {edits: named for edits, named in steady().items() if edits <= 10}
    stopped[10]["atlas_bbh"] = rows("atlas_bbh", 60, 0.5, invalid=1.0)
    found = of(runs(tmp_path, steady(), stopped))
    assert found.checkpoints == (0, 1, 10) and set(found.curve) == {1, 10}
    assert set(found.accuracy[10]) == set(TASKS) - {"atlas_bbh"} and 10 not in found.ability


def test_tables_and_figure_and_document(tmp_path: Path) -> None:
    analyses = read(runs(tmp_path, steady(), harmed(0.1, first=100)))
    verdicts, curves = order_tables(pooled(analyses))
    (row,) = verdicts.rows
    assert (row["safe"], row["safe_each"], row["collapse_each"]) == ("10 edits", "10, 100", "100, none seen")
    assert len(curves.rows) == 4 * 6
    assert {row["verdict"] for row in curves.rows if row["edits"] == 10 and "task" in row} == {"equivalent"}
    (drawn,) = [figure for figure in figures(analyses) if figure.name == "orders"]
    assert len(drawn.panels) == 1 + 1 + 5 and "MEMIT: 77 % at 0" in drawn.description
    (entry,) = document(analyses)["orders"]
    assert entry["seeds"] == [1, 2] and entry["safe_horizon"] == 10 and entry["change"]["10"]["atlas_bbh"]["n"] == 60


def test_runs_without_abilities_are_pooled_to_nothing(tmp_path: Path) -> None:
    bare = {n: {name: rows for name, rows in named.items() if "atlas" not in name} for n, named in steady().items()}
    found = of(runs(tmp_path, bare, bare, tasks=[]))
    assert found.curve == {} and found.ability == {} and found.horizon is None
    (row,), _ = (table.rows for table in order_tables([found]))
    assert "safe" not in row
