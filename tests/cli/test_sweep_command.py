"""errata sweep from the command line, on a small random model."""

import json
from pathlib import Path

import pytest
import yaml

from errata.cli import main
from errata.model.tiny import tiny_model
from errata.runs.executors import Here


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs of a tiny model, and one of a file of edits that is not there; worked on in this process."""
    made = tiny_model("llama", layers=3)
    made.model.save_pretrained(tmp_path / "model")
    made.tokenizer.save_pretrained(tmp_path / "model")
    sweep = {
        "model": str(tmp_path / "model"),
        "options": {"layer": 1, "steps": 1, "contexts": [[4, 4]]},
        "edits": [1],
        "probe_limit": 2,
        "second_moment": {"corpus": "atlas"},
        "grid": {"method": ["rome", "grace"], "data": ["atlas", "nowhere.jsonl"]},
        "exclude": [{"method": "grace", "data": "nowhere.jsonl"}],
    }
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep, sort_keys=False))
    monkeypatch.setattr("errata.runs.executors.Processes", lambda *_: Here())
    monkeypatch.chdir(tmp_path)
    return tmp_path / "sweep.yaml"


def test_a_sweep_with_a_failure_before_it_and_after(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", str(file), "--dry-run", "--json"]) == 0
    before = json.loads(capsys.readouterr().out)
    assert [run["state"] for run in before["runs"]] == ["to do"] * 3
    assert before["seconds"] > 0 and before["memory"] > 0 and before["disk"] > 0 and before["disk_free"] > 0
    assert not Path("runs").exists()

    assert main(["sweep", str(file), "--retries", "0", "--json"]) == 1
    out, err = capsys.readouterr()
    runs = json.loads(out)["runs"]
    assert [run["status"] for run in runs] == ["finished", "failed", "finished"]
    assert "nowhere.jsonl" in runs[1]["error"] and runs[1]["config"]["data"] == "nowhere.jsonl"
    assert "3 runs: 2 finished, 1 failed" in err and "failed: rome-model-nowhere" in err

    assert main(["sweep", str(file), "--dry-run"]) == 0
    out, err = capsys.readouterr()
    assert [line.split("\t")[1] for line in out.splitlines()] == ["state", "finished", "to do", "finished"]
    assert "measured" in out and "3 runs; about" in err

    assert main(["sweep", str(file), "--retries", "0"]) == 1
    out, err = capsys.readouterr()
    assert [line.split("\t")[1] for line in out.splitlines()] == ["status", "kept", "failed", "kept"]
    assert "2 kept, 1 failed" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--executor", "ray"], "install.py --extra ray"),
        (["--executor", "slurm"], "install.py --extra slurm"),
        (["--tracker", "wandb"], "install.py --extra wandb"),
    ],
)
def test_an_extra_that_is_not_installed(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    for name in ("ray", "submitit", "wandb"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    assert main(["sweep", str(file), *arguments]) == 2
    assert words in capsys.readouterr().err


def test_an_option_of_slurm_without_a_value(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", str(file), "--executor", "slurm", "--slurm", "partition"]) == 2
    assert "NAME=VALUE" in capsys.readouterr().err
