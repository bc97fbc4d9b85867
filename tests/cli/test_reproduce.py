"""errata reproduce and findings from the command line, on small random models of the papers' families."""

import json
from pathlib import Path

import pytest
import yaml

from errata.cli import main
from errata.model.tiny import tiny_model
from errata.runs.recipe import names, source

DATA = Path(__file__).parents[1] / "capability" / "data"
FAMILIES = {
    "Llama2-7B": "llama",
    "Mistral-7B": "mistral",
    "GPT2-XL": "gpt2",
    "Pythia-160M": "gpt_neox",
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The papers' names -> folders."""
    folders = {}
    for title, family in FAMILIES.items():
        folder = tmp_path_factory.mktemp(family)
        tiny = tiny_model(family, layers=2)
        tiny.model.save_pretrained(folder)
        tiny.tokenizer.save_pretrained(folder)
        folders[title] = str(folder)
    return folders


@pytest.fixture(scope="module")
def edits(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("edits") / "edits.jsonl"
    rows = [
        {"id": name, "prompt": f"The capital of {name} is", "subject": name, "target_new": new, "target_true": "Paris"}
        for name, new in (("France", "Lyon"), ("Germany", "Bonn"))
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(file)


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    assert main([*arguments, "--json"]) == 0, capsys.readouterr().err
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_the_list_says_what_each_costs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found = told(capsys, "reproduce", "--list", "--root", str(tmp_path))["recipes"]
    assert isinstance(found, list) and [row["id"] for row in found] == list(names())
    table = next(row for row in found if row["id"] == "p1-figure2")
    assert table["runs"] == 12 and table["edits"] == 10200 and table["seconds"] > 3600 and table["trained"] == ["mend"]


@pytest.mark.parametrize("scale", ["atlas", "paper"])
def test_a_dry_run_names_its_runs_and_does_none(scale: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    command = ["reproduce", "p1-table2", "--scale", scale, "--quick", "--dry-run", "--root", str(tmp_path / "runs")]
    found = told(capsys, *command)["runs"]
    assert isinstance(found, list) and len(found) == 6 and not (tmp_path / "runs").exists()
    name = "atlas" if scale == "atlas" else "llama-2-7b-hf"
    assert all(name in row["run"] and row["state"] == "to do" for row in found)


def test_a_recipe_is_shown_as_it_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "p2-figure5", "--show"]) == 0
    assert capsys.readouterr().out == source("p2-figure5")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "errata reproduce --list"),
        (["p1-table22"], "did you mean p1-table2"),
        (["p1-table2", "--model", "Llama=x"], "NAME one of Llama2-7B"),
    ],
)
def test_mistakes(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_table_without_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["reproduce", "p1-table6", "-o", str(tmp_path)]) == 0
    assert "TriviaQA" in capsys.readouterr().out
    assert {file.suffix for file in tmp_path.iterdir()} == {".csv", ".tex", ".md"}


CUT = {"limit": 3, "probe_limit": 1, "retention_limit": 0, "options": {"steps": 1, "contexts": [[2, 2]]}}
TABLES = (
    ("p1-table1", ["GPT2-XL"]),
    ("p1-table2", ["Llama2-7B", "Mistral-7B"]),
    ("p1-table4", ["Pythia-160M"]),
)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "titles"), TABLES)
def test_the_papers_scale_on_random_models_of_its_families(
    name: str, titles: list[str], models: dict[str, str], edits: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Cut down to ROME, two edits and three items, from the command to the table and the report."""
    values = yaml.safe_load(source(name)) | {"models": titles, "settings": CUT}
    values["grid"] = [{"methods": ["rome"], "edits": [2]}]
    (tmp_path / "cut.yaml").write_text(yaml.safe_dump(values))
    command = ["reproduce", str(tmp_path / "cut.yaml"), "--scale", "paper", "--edits", edits, "--workers", "1"]
    command += [
        "--data-dir",
        str(DATA),
        "--corpus",
        "atlas",
        "--root",
        str(tmp_path / "runs"),
        "-o",
        str(tmp_path / "out"),
    ]
    for title in titles:
        command += ["--model", f"{title}={models[title]}"]
    found = told(capsys, *command)
    (table,) = found["tables"]  # type: ignore[misc]
    row = next(row for row in table["rows"] if row["method"] == "ROME (released)")
    assert all(f"{title}/{bench}" in row for title in titles for bench in ("MMLU", "GSM8K", "BBH", "CSQA"))
    assert (tmp_path / "out" / "report.html").is_file() and len(found["runs"]) == 2 * len(titles)  # type: ignore[arg-type]
    judged = told(capsys, "findings", *found["runs"])["findings"]  # type: ignore[misc]
    assert isinstance(judged, list) and len(judged) == 13
