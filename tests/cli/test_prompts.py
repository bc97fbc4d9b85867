"""errata prompts, and benchmarks read from a folder in a whole run."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from errata.cli import main
from errata.cli.run import changed
from errata.errors import BadInput
from errata.model.tiny import tiny_model
from errata.records import read_records
from errata.report.summary import summarize
from errata.runs.config import load_config, run_name
from errata.runs.layout import RunDir
from errata.runs.runner import start

DATA = Path(__file__).parents[1] / "capability" / "data"


def test_prompts_as_text_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prompts", "errata_safety", "--data-dir", str(DATA), "-n", "2"]) == 0
    out = capsys.readouterr().out
    assert out.count("----- p1_truthfulqa, right: ") == 2 == out.count("----- p1_toxigen, right: ")
    assert main(["prompts", "p1_toxigen:paper", "--data-dir", str(DATA), "--json"]) == 0
    (first, *rest) = json.loads(capsys.readouterr().out)["prompts"]
    assert first["task"] == "p1_toxigen:paper" and first["answer"] == "Yes" and len(rest) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["p1_toxigne", "--data-dir", str(DATA)], "did you mean p1_toxigen"),
        (["p1_toxigen:papr", "--data-dir", str(DATA)], "there are p1_toxigen, p1_toxigen:paper"),
        (["p1_toxigen", "--data-dir", "nowhere"], "nowhere is no folder"),
        (["p1_toxigen"], "--data-dir DIR with DIR/toxigen/annotated_test.jsonl"),
    ],
)
def test_what_cannot_be_shown_is_explained(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prompts", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and words in err


@pytest.fixture
def config(tmp_path: Path) -> Path:
    made = tiny_model("llama", layers=2)
    made.model.save_pretrained(tmp_path / "model")
    made.tokenizer.save_pretrained(tmp_path / "model")
    values = {"model": str(tmp_path / "model"), "method": "ft", "options": {"layer": 1, "steps": 1}, "data": "atlas"}
    values |= {"edits": [1], "probe_limit": 1, "tasks": ["errata_safety:paper", "p1_toxigen"], "name": "small"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values), "utf-8")
    return tmp_path / "config.yaml"


def test_a_run_reads_its_benchmarks_from_a_folder(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = shutil.copytree(DATA, tmp_path / "data")
    command = ["run", str(config), "--root", str(tmp_path / "runs"), "--data-dir"]
    assert main([*command, str(data)]) == 0, capsys.readouterr().err
    (folder,) = capsys.readouterr().out.split()
    assert Path(folder).name == run_name(load_config(config))  # where the rows lie is no part of the name
    tables = RunDir(Path(folder)).tables(1)
    assert {"p1_truthfulqa:paper", "p1_toxigen:paper", "p1_toxigen"} <= tables.keys()
    assert [row.gold for row in read_records(tables["p1_toxigen"])] == ["Yes", "No", "No"]
    moved = shutil.move(data, tmp_path / "moved")
    assert main([*command, str(moved)]) == 0, capsys.readouterr().err
    (told,) = summarize([Path(folder)])["runs"]
    assert {"p1_truthfulqa:paper", "p1_toxigen"} <= told["measures"]["1"].keys()
    file = Path(moved) / "toxigen" / "annotated_test.csv"
    file.write_text(file.read_text("utf-8").replace("bread", "cake"), "utf-8")
    (Path(folder) / "finished.json").unlink()  # what is finished is left alone
    assert main([*command, str(moved)]) == 2
    assert "the items of the tasks changed" in capsys.readouterr().err


def test_a_folder_of_a_run_keeps_its_data_dir(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(tmp_path), "--data-dir", str(DATA)]) == 2
    err = capsys.readouterr().err
    assert "--data-dir of no use" in err and "change data_dir in its config.yaml" in err


def test_tasks_of_the_command_replace_those_of_the_config(config: Path) -> None:
    (found,) = changed(config, {"tasks": ["hellaswag", "errata_safety"]})
    assert found.tasks == ["hellaswag", "p1_truthfulqa", "p1_toxigen"]
    assert found == load_config(config).model_copy(update={"tasks": found.tasks})
    with pytest.raises(BadInput, match="no protocol 'papr'"):
        changed(config, {"tasks": ["p1_mmlu:papr"]})


def test_absent_data_are_told_before_the_model_is_loaded(config: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"DIR/truthfulqa/mc_task\.jsonl"):
        start(load_config(config).model_copy(update={"model": "no/such/model"}), tmp_path)
