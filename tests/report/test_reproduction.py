"""The papers' tables and figures from synthetic runs."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from synthetic_runs import config_of, entries, probes, rows, signs, write_run

from errata.report.formats import Table, cell, to_csv, to_latex
from errata.report.paper_figures import paper_figure
from errata.report.reproduction import Reproduced, reproduction
from errata.report.summary import read
from errata.runs.recipe import Cases, Recipe, read_recipe

TASKS = {"p1_mmlu": 0.8, "p1_gsm8k": 0.6, "p1_bbh": 0.5, "p1_commonsenseqa": 0.7}
AFTER = {0: 1.0, 10: 0.9, 100: 0.0}


def run(root: Path, method: str = "rome", kept: dict[int, float] | None = None, **changes: Any) -> Path:
    """n = 100 items a task; a share of the unedited score is kept."""
    shares = kept or AFTER
    tables = {
        edits: {task: rows(task, 100, right * share) for task, right in TASKS.items()} | probes(edits, 0.95)
        for edits, share in shares.items()
    }
    config = config_of(method, edits=list(shares), tasks=list(TASKS), limit=None, **changes)
    health = {edits: signs(3.0) | {"manhattan": 10.0 * edits, "moved_077": 0.2, "moved_171": 0.1} for edits in shares}
    return write_run(root, config, tables, health=health, entries=entries(method, max(shares), 0.5, 0.1))


def shown(recipe: Recipe, *folders: Path, model: str = "Llama2-7B") -> list[Table]:
    return reproduction(recipe, [Reproduced(model, found) for found in read(folders)])


def line(table: Table, method: str, edits: int, source: str = "measured") -> dict[str, Any]:
    wanted = "  published" if source == "published" else method
    places = [i for i, row in enumerate(table.rows) if row["method"] == wanted and row["edits"] == edits]
    if source == "published":
        places = [i for i in places if table.rows[i - 1]["method"] == method]
    return dict(table.rows[places[0]])


def test_the_papers_rows_with_what_was_printed_beneath(tmp_path: Path) -> None:
    (table,) = shown(read_recipe("p1-table2"), run(tmp_path))
    assert [column.title for column in table.columns] == [
        *("Method", "# Edits", "MMLU", "GSM8K", "BBH", "CSQA", "Kept", "efficacy", "Note")
    ]
    assert [(row["method"].strip(), row["edits"]) for row in table.rows] == [
        *(("w/o Edit", 0), ("published", 0), ("ROME", 10), ("published", 10), ("ROME", 100), ("published", 100))
    ]
    ours, theirs = line(table, "ROME", 10), line(table, "ROME", 10, "published")
    assert ours["Llama2-7B/MMLU"] == pytest.approx(0.72) and ours["Llama2-7B/Kept"] == pytest.approx(0.9)
    assert ours["Llama2-7B/MMLU_low"] < 0.72 < ours["Llama2-7B/MMLU_high"]
    assert theirs["Llama2-7B/MMLU"] == 0.4572 and "Llama2-7B/MMLU_low" not in theirs
    kept = [0.4572 / 0.4587, 0.1448 / 0.1440, 0.3970 / 0.4000, 0.5864 / 0.5921]
    assert theirs["Llama2-7B/Kept"] == pytest.approx(sum(kept) / 4)
    assert line(table, "ROME", 100)["note"] == "collapsed"
    assert cell(table.columns[2], ours) == "0.720 (0.63–0.80)" and cell(table.columns[2], theirs) == "0.4572"
    assert "atlas" in table.title, "what stands for the model is said"


def test_faulty_numbers_carry_a_mark_that_the_caption_explains(tmp_path: Path) -> None:
    folder = run(tmp_path, "grace", {0: 1.0, 20: 0.9})
    (table,) = shown(read_recipe("p1-table2"), folder)
    theirs = line(table, "GRACE", 20, "published")
    gsm8k = next(column for column in table.columns if column.title == "GSM8K")
    assert cell(gsm8k, theirs) == "0.8860 [a, b]" and "Llama2-7B/MMLU_mark" not in theirs
    assert "[a] larger than any model in the paper" in table.caption and "[b] 5 of 6" in table.caption
    assert theirs["Llama2-7B/Kept"] == pytest.approx((0.3815 / 0.4587 + 0.3315 / 0.4) / 2), "faulty ones are left out"
    assert "[a]" in to_latex(table) and "GSM8K_mark" in to_csv(table)


def test_models_stand_side_by_side(tmp_path: Path) -> None:
    folders = [run(tmp_path), run(tmp_path, model="mistral")]
    found = read(folders)
    runs = [Reproduced(title, a) for title, a in zip(("Llama2-7B", "Mistral-7B"), found)]
    (table,) = reproduction(read_recipe("p1-table2"), runs)
    row = line(table, "ROME", 10, "published")
    assert row["Llama2-7B/CSQA"] == 0.5864 and row["Mistral-7B/CSQA"] == 0.6863
    assert "Mistral-7B: CSQA" in [column.title for column in table.columns] and len(table.rows) == 6


def test_variants_batches_and_filters_have_rows_of_their_own(tmp_path: Path) -> None:
    folders = [
        run(tmp_path),
        run(tmp_path, preset="released"),
        run(tmp_path, batch=10),
        run(tmp_path, filter={"name": "rect", "keep": 0.4}),
    ]
    (table,) = shown(read_recipe("p2-rect"), *folders)
    methods = list(dict.fromkeys(row["method"] for row in table.rows))
    assert methods == ["w/o Edit", "ROME", "ROME (released)", "ROME, batches of 10", "ROME, RECT 40 %"]
    assert {"efficacy", "generalization", "locality"} <= {column.title for column in table.columns}


def test_several_orders_are_one_row(tmp_path: Path) -> None:
    folders = [run(tmp_path, kept={0: 1.0, 10: share}, seed=seed) for seed, share in ((1, 0.9), (2, 0.5))]
    (table,) = shown(read_recipe("p1-table2"), *folders)
    (alone,) = shown(read_recipe("p1-table2"), folders[0])
    row, one = line(table, "ROME", 10), line(alone, "ROME", 10)
    assert row["Llama2-7B/MMLU"] == pytest.approx(0.8 * 0.7)
    width, before = (r["Llama2-7B/MMLU_high"] - r["Llama2-7B/MMLU_low"] for r in (row, one))
    assert width > before, "orders differ, which counts"


def test_a_figure_has_the_papers_panels(tmp_path: Path) -> None:
    runs = [Reproduced("Llama2-7B", a) for a in read([run(tmp_path), run(tmp_path, "memit")])]
    by_method, by_benchmark = (paper_figure(read_recipe(f"p1-figure{n}"), runs) for n in (2, 5))
    assert by_method is not None and by_benchmark is not None
    assert [panel["title"]["text"] for panel in by_method.panels] == ["ROME", "MEMIT"]
    assert [panel["title"]["text"] for panel in by_benchmark.panels] == ["MMLU", "GSM8K", "BBH", "CSQA"]
    assert "MMLU: 0.8 at 0, 0.72 at 10, 0 at 100" in by_method.description
    assert paper_figure(read_recipe("p1-table2"), runs) is None


def test_seconds_and_memory_of_editing(tmp_path: Path) -> None:
    folder = run(tmp_path)
    (folder / "costs.json").write_text(json.dumps({"steps": {"edit": [100, 50.0]}, "memory": {"process": 2**30}}))
    (table,) = shown(read_recipe("p1-table8"), folder)
    assert [(row["edits"], row["seconds"], row["published"]) for row in table.rows] == [
        (10, 5.0, 121),
        (100, 50.0, 991),
    ]
    assert table.rows[0]["memory"] == 1.0 and table.rows[0]["each"] == 0.5 and "gpu" not in table.rows[0]
    assert table.rows[0]["model"] == "Llama2-7B (atlas)"


def test_minutes_of_evaluation_by_engine(tmp_path: Path) -> None:
    folders = [run(tmp_path, kept={0: 1.0}, engine=engine) for engine in ("local", "vllm")]
    for folder, seconds in zip(folders, (120.0, 30.0)):
        (folder / "costs.json").write_text(json.dumps({"steps": {"p1_mmlu": [1, seconds]}, "memory": {}}))
    (table,) = shown(read_recipe("p1-table7"), *folders)
    found = [(row["engine"], row["minutes"], row["rate"], row["published"]) for row in table.rows]
    assert found == [("local", 2.0, 100 / 120, 840), ("vllm", 0.5, 100 / 30, 103)]


def test_weights_beside_the_published_ones(tmp_path: Path) -> None:
    (table,) = shown(read_recipe("p2-weights"), run(tmp_path, kept={0: 1.0, 1: 1.0, 10: 1.0}))
    one, ten = table.rows
    assert (one["manhattan"], one["moved_077"]) == (10.0, 0.2)
    assert (one["published_manhattan"], one["published_moved_077"], ten["published_moved_171"]) == (9079.2, 0.2, 0.462)


def test_what_each_benchmark_is() -> None:
    (table,) = reproduction(read_recipe("p1-table6"), [])
    by_name = {row["benchmark"]: row for row in table.rows}
    assert len(by_name) == 7 and by_name["MMLU"]["n_test"] == 14079 and "14042" in by_name["MMLU"]["fault"]
    assert by_name["CSQA"]["task"] == "p1_commonsenseqa" and by_name["CSQA"]["shots"] == by_name["CSQA"]["n_fewshot"]
    assert not by_name["BBH"]["fault"]


def test_a_case_study_names_the_muting_effect(tmp_path: Path) -> None:
    texts = {0: "4 + 3 = 7. The answer is {}.", 10: "", 100: "The. The. The. The. The. The. The. The."}
    written = {edits: _rewritten(edits, text) for edits, text in texts.items()}
    config = config_of("memit", edits=[0, 10, 100], tasks=["p1_gsm8k"])
    folder = write_run(tmp_path / "other", config, {e: {"p1_gsm8k": rows_} for e, rows_ in written.items()})
    recipe = read_recipe("p1-figure10").model_copy(update={"cases": Cases(benchmark="GSM8K", edits=[10, 100])})
    case, muting = reproduction(
        recipe, [Reproduced("Llama2-7B", a) for a in read([folder])], lambda task, item: f"{task}: {item}?"
    )
    assert [(row["edits"], row["state"], row["right"]) for row in case.rows] == [
        *((0, "text", "yes"), (10, "mute: empty", "no"), (100, "mute: repeats itself", "no"))
    ]
    item = case.rows[0]["item"]
    assert f"Asked: p1_gsm8k: {item}?" in case.caption and f"Right: g{item[1:]}." in case.caption
    assert [(row["edits"], row["mute"], row["empty"], row["repeating"]) for row in muting.rows] == [
        *((0, 0.0, 0.0, 0.0), (10, 1.0, 1.0, 0.0), (100, 1.0, 0.0, 1.0))
    ]


def test_the_report_of_10000_edits_says_that_facts_are_edited_again(tmp_path: Path) -> None:
    _, muting = shown(read_recipe("p1-10k"), run(tmp_path))
    assert "they are made again in the same order" in muting.caption


def _rewritten(edits: int, text: str) -> list[Any]:
    made = rows("p1_gsm8k", 40, 0.5 if not edits else 0.0)
    return [replace(row, output=text.format(i), empty=not text) for i, row in enumerate(made)]


def test_runs_without_the_recipes_benchmarks_leave_the_cells_empty(tmp_path: Path) -> None:
    config = config_of("rome", edits=[0, 10], tasks=[])
    folder = write_run(tmp_path, config, {0: probes(0, 0.0), 10: probes(10, 0.9)})
    (table,) = shown(read_recipe("p1-table2"), folder)
    row = line(table, "ROME", 10)
    assert row["Llama2-7B/efficacy"] == pytest.approx(0.9) and "Llama2-7B/MMLU" not in row
    assert cell(table.columns[2], row) == ""
