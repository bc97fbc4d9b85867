"""The documentation says what is."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from errata.data.cases import read_cases
from errata.report.findings import statements
from errata.runs.config import RunConfig
from errata.runs.grid import load_sweep
from errata.runs.recipe import Request, plan, read_recipe

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def test_the_commands_page_is_current() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_key_of_a_run_is_documented() -> None:
    text = (ROOT / "docs" / "runs.md").read_text("utf-8")
    (example,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    values = yaml.safe_load(example)
    assert values.keys() == RunConfig.model_fields.keys()
    RunConfig.model_validate(values)


@pytest.mark.parametrize(
    "path", [*ROOT.glob("examples/*.yaml"), *ROOT.glob("src/errata/runs/recipes/demo-*.yaml")], ids=lambda p: p.name
)
def test_configs_in_the_repository_are_valid(path: Path) -> None:
    assert load_sweep(path)


def test_every_grid_that_is_documented_is_valid(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "sweeps.md").read_text("utf-8")
    (example,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "sweep.yaml").write_text(example)
    assert len(load_sweep(tmp_path / "sweep.yaml")) == 2 * (3 * 2 - 1) * 3


def test_the_recipe_in_the_docs_is_one(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "recipes.md").read_text("utf-8"), re.DOTALL)
    (tmp_path / "mine.yaml").write_text(example, "utf-8")
    planned = plan(read_recipe(str(tmp_path / "mine.yaml")), Request(protocol="fixed"))
    assert {p.config.model for p in planned} == {"atlas", "path/to/model"} and len(planned) == 8


def test_every_finding_is_documented() -> None:
    text = (ROOT / "docs" / "recipes.md").read_text("utf-8")
    assert all(f"| {statement.id} " in text for statement in statements())


def test_the_example_edits_are_valid() -> None:
    cases = read_cases(ROOT / "examples" / "edits.jsonl")
    assert len(cases) == 3 and all(case.neighbours for case in cases)


def test_the_glossary_names_every_table() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text("utf-8")
    for word in ("efficacy", "generalization", "locality", "portability", "retention"):
        assert f"| {word} |" in text
