"""The papers' experiments as plans of runs: their grids, their counterparts at a scale, copies of them."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from tiny_world import MakeConfig

from errata.errors import BadInput
from errata.records import read_records
from errata.registry import editors
from errata.report.names import METHODS
from errata.report.printed import UNEDITED, rows
from errata.runs.config import run_name
from errata.runs.layout import RunDir
from errata.runs.ledger import read_ledger
from errata.runs.recipe import (
    Planned,
    Recipe,
    Request,
    benchmark_title,
    check_models,
    model_titles,
    names,
    plan,
    read_recipe,
    source,
)
from errata.runs.runner import start
from errata.runs.setup import repeated
from errata.types import EditCase, EditRequest

CHECKLIST = {
    *(f"p1-table{n}" for n in range(1, 9)),
    *(f"p1-figure{n}" for n in range(2, 13)),
    "p1-10k",
    *(f"p2-figure{n}" for n in range(3, 11)),
    "p2-rect",
    "p2-weights",
}
"""Every table and figure of both papers that shows results."""


def cells(planned: list[Planned]) -> set[tuple[str, str, int]]:
    return {(p.model, METHODS[p.config.method], n) for p in planned for n in p.config.edits if n}


def test_every_table_and_figure_has_a_recipe() -> None:
    assert set(names()) == CHECKLIST
    assert list(names())[:3] == ["p1-table1", "p1-table2", "p1-table3"] and names()[-1] == "p2-weights"


@pytest.mark.parametrize("name", sorted(CHECKLIST))
@pytest.mark.parametrize("scale", ["atlas", "paper"])
@pytest.mark.parametrize("quick", [False, True])
def test_a_recipe_is_a_plan_at_both_scales(name: str, scale: str, quick: bool) -> None:
    recipe = read_recipe(name)
    planned = plan(recipe, Request(scale, quick))  # type: ignore[arg-type]
    assert recipe.id == name and (planned or recipe.shows == "benchmarks")
    assert all(p.config.method in editors() for p in planned)
    folders = [run_name(p.config) for p in planned]
    assert len(folders) == len(set(folders))


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_the_grid_is_the_papers(number: int) -> None:
    """At the scale of the papers exactly the cells are run that Tables 1 to 5 print."""
    printed = {
        (row["model"], row["method"], int(row["edits"]))
        for row in rows(f"table{number}")
        if row["method"] != UNEDITED and row["value"]
    }
    planned = plan(read_recipe(f"p1-table{number}"), Request("paper", protocol="fixed"))
    assert cells(planned) == printed


@pytest.mark.parametrize("name", sorted(CHECKLIST))
def test_quick_is_a_part_of_the_whole(name: str) -> None:
    whole, quick = (plan(read_recipe(name), Request(quick=quick)) for quick in (False, True))
    assert cells(quick) <= cells(whole) and len(quick) <= len(whole)
    assert {(p.config.method, p.config.preset) for p in quick} <= {(p.config.method, p.config.preset) for p in whole}


def test_figures_share_the_runs_of_their_table() -> None:
    table = {run_name(p.config) for p in plan(read_recipe("p1-table2"), Request())}
    for figure in ("p1-figure2", "p1-figure5", "p1-figure8", "p1-figure11"):
        assert {run_name(p.config) for p in plan(read_recipe(figure), Request())} <= table


def test_protocols_are_variants_of_the_methods() -> None:
    recipe = read_recipe("p1-table2")
    both, fixed, paper = (plan(recipe, Request(protocol=p)) for p in (None, "fixed", "paper"))  # type: ignore[arg-type]
    assert {p.config.preset for p in fixed} == {None} and {p.config.preset for p in paper} == {"released"}
    assert len(both) == len(fixed) + len(paper)


def test_the_papers_protocol_answers_the_papers_tasks_at_their_scale() -> None:
    tasks: dict[str | None, set[str]] = defaultdict(set)
    for planned in plan(read_recipe("p1-table2"), Request("paper")):
        tasks[planned.config.preset] |= set(planned.config.tasks)
    assert tasks["released"] == {f"{task}:paper" for task in tasks[None]} != set()
    assert {benchmark_title(task) for task in tasks["released"]} == {"MMLU", "GSM8K", "BBH", "CSQA"}


def test_operations_are_batches() -> None:
    planned = plan(read_recipe("p2-figure7"), Request(protocol="fixed"))
    assert {p.config.batch: p.config.edits for p in planned} == {
        10: [0, 100, 200, 300, 400, 500],
        30: [0, 300, 600, 900, 1200, 1500],
        50: [0, 500, 1000, 1500, 2000, 2500],
    }


def test_several_orders_are_a_run_each_and_shuffled() -> None:
    one, three = (plan(read_recipe("p1-table4"), Request("paper", orders=n)) for n in (1, 3))
    assert len(three) == 3 * len(one) and {p.config.seed for p in three} == {1, 2, 3}
    assert {p.config.select for p in one} == {"first"} and {p.config.select for p in three} == {"seeded"}


def test_a_models_counterpart_can_be_named() -> None:
    planned = plan(read_recipe("p1-figure2"), Request("paper", models={"Llama2-7B": "/models/llama"}))
    assert {(p.config.model, p.model) for p in planned} == {("/models/llama", "Llama2-7B")}


def test_names_go_both_ways() -> None:
    assert model_titles("atlas") == ["Llama2-7B"] == model_titles("meta-llama/Llama-2-7b-hf")
    assert model_titles("mine") == [] and benchmark_title("p1_commonsenseqa:paper") == "CSQA"


def test_a_missing_embedded_model_is_named() -> None:
    planned = plan(read_recipe("p1-table4"), Request())
    gone = [replace(p, config=p.config.model_copy(update={"model": f"{p.config.model}-gone"})) for p in planned[:1]]
    with pytest.raises(BadInput, match=f"no embedded model is called {planned[0].config.model}-gone: .* has atlas"):
        check_models(gone)


def test_a_copy_is_read_and_its_mistakes_are_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(source("p1-figure5").replace("models: [Llama2-7B]", "models: [Llama2-7B, mine]"))
    assert {p.config.model for p in plan(read_recipe(str(file)), Request())} == {"atlas", "mine"}
    file.write_text(source("p1-table2").replace("benchmarks:", "benchmark:"))
    with pytest.raises(BadInput, match=r"mine\.yaml: benchmark: Extra inputs"):
        read_recipe(str(file))
    file.write_text(yaml.safe_dump({"id": "x", "paper": 1, "title": "x", "grid": [{"methods": ["rome"]}]}))
    with pytest.raises(BadInput, match="either `edits` or `operations`"):
        read_recipe(str(file))
    with pytest.raises(BadInput, match=r"other\.yaml: No such file"):
        read_recipe(str(tmp_path / "other.yaml"))
    with pytest.raises(BadInput, match="did you mean p1-table2"):
        read_recipe("p1-tabel2")


def test_nothing_left_at_a_scale_is_said() -> None:
    recipe = Recipe(id="x", paper=1, title="x", models=["Pythia-410M"], grid=[{"methods": ["rome"], "edits": [1]}])
    with pytest.raises(BadInput, match="none of Pythia-410M has a counterpart at the scale atlas"):
        plan(recipe, Request())


def test_edits_are_made_again_where_there_are_too_few() -> None:
    cases = [EditCase(EditRequest(f"e{i}", "The x of y is", "y", "z"), group="g" if i else "") for i in range(3)]
    assert repeated(cases, 3) == cases
    again = repeated(cases, 4)
    assert [case.request.id for case in again] == ["e0", "e1", "e2", "e0#2", "e1#2", "e2#2", "e0#3", "e1#3", "e2#3"]
    assert {case.group for case in again[3:6]} == {"", "g#2"} and len({case.request.target_new for case in again}) == 1


def test_a_run_goes_round_its_edits(tmp_path: Path, make_config: MakeConfig) -> None:
    """Of four facts: the fifth edit is the first again, and both rounds are probed under names of their own."""
    run = RunDir(start(make_config(edits=[6], repeat=True), tmp_path))
    made = [name for entry in read_ledger(run.ledger) for name in entry.requests]
    assert made == [*made[:4], f"{made[0]}#2", f"{made[1]}#2"] and len(set(made)) == 6
    assert {row.item for row in read_records(run.table(6, "efficacy"))} == set(made)
    with pytest.raises(BadInput, match="holds 4 edits and `edits` asks for 6"):
        start(make_config(edits=[6]), tmp_path)
