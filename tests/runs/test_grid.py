"""A sweep's file: the grid of its runs, and what is wrong with one."""

from pathlib import Path

import pytest

from errata.errors import BadInput
from errata.runs.config import load_config
from errata.runs.grid import load_sweep

COMMON = "model: atlas\ndata: atlas\nedits: [1, 10]\n"


def _file(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "sweep.yaml"
    file.write_text(COMMON + text, encoding="utf-8")
    return file


def test_a_run_for_each_point_the_last_axis_first(tmp_path: Path) -> None:
    configs = load_sweep(_file(tmp_path, "grid:\n  method: [rome, memit]\n  seed: [1, 2]\n"))
    assert [(c.method, c.seed) for c in configs] == [("rome", 1), ("rome", 2), ("memit", 1), ("memit", 2)]
    assert all(c.model == "atlas" and c.edits == [0, 1, 10] for c in configs)


def test_values_of_several_keys_and_values_that_are_mappings_themselves(tmp_path: Path) -> None:
    grid = """
grid:
  method: [rome, {method: "rome:released"}, {method: memit, options: {history: true}}]
  setup: [{batch: 1, setting: single}, {batch: 10}]
  filter: [null, {name: rect, keep: 0.4}]
"""
    configs = load_sweep(_file(tmp_path, grid))
    assert len(configs) == 12
    assert [(c.method, c.preset, c.options) for c in configs[::4]] == [
        ("rome", None, {}),
        ("rome", "released", {}),
        ("memit", None, {"history": True}),
    ]
    assert [(c.batch, c.setting, c.filter and c.filter["name"]) for c in configs[:4]] == [
        (1, "single", None),
        (1, "single", "rect"),
        (10, "sequential", None),
        (10, "sequential", "rect"),
    ]


def test_what_is_excluded_is_left_out(tmp_path: Path) -> None:
    grid = "grid:\n  method: [rome, memit]\n  batch: [1, 10]\nexclude:\n  - {method: rome, batch: 10}\n"
    configs = load_sweep(_file(tmp_path, grid))
    assert [(c.method, c.batch) for c in configs] == [("rome", 1), ("memit", 1), ("memit", 10)]


def test_a_file_without_a_grid_is_a_runs(tmp_path: Path) -> None:
    file = _file(tmp_path, "method: rome\nseeds: [3, 4]\n")
    assert [config.seed for config in load_sweep(file)] == [3, 4]
    file = _file(tmp_path, "method: rome\n")
    assert load_sweep(file) == [load_config(file)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("grid: [rome]", ["grid is", "give keys of a run with lists"]),
        ("grid: {}", ["grid is", "give keys of a run with lists"]),
        ("grid: {method: rome}", ["'method' is 'rome'", "list"]),
        ("grid: {method: []}", ["'method'", "list"]),
        ("method: rome\ngrid: {method: [rome]}", ["'method' is an axis", "beside it"]),
        ("method: rome\ngrid: {setup: [3]}", ["'setup' is no key of a run", "[3]"]),
        ("grid: {method: [{method: rome, seed: 1}], seed: [1]}", ["two axes give 'seed'"]),
        ("grid: {method: [rmoe]}", ["sweep.yaml", "'rmoe'", "rome"]),
        ("grid: {method: [{method: memit, options: {histroy: 1}}]}", ["'histroy'", "history"]),
        ("grid: {method: ['ft:released']}", ["ft", "has none"]),
        ("grid: {method: [rome], seed: [1, -1]}", ["(method: rome, seed: -1)", "seed", "found -1"]),
        ("grid: {method: [rome]}\nexclude: {method: rome}", ["exclude is", "list"]),
        ("grid: {method: [rome]}\nexclude: [{method: memit}]", ["leaves nothing out", "memit"]),
        ("grid: {method: [rome]}\nexclude: [{method: rome}]", ["leaves no run"]),
        ("grids: {method: [rome]}", ["'grids'"]),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(BadInput) as found:
        load_sweep(_file(tmp_path, text))
    assert all(word in str(found.value) for word in [*words, "sweep.yaml"]), str(found.value)
