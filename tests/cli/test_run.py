"""errata run and report from the command line, on a small random model."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from errata.cli import main
from errata.cli.demo import recipes
from errata.cli.run import changed
from errata.errors import BadInput
from errata.model.tiny import tiny_model
from errata.runs.config import load_config


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("configs")
    made = tiny_model("llama", layers=3)
    made.model.save_pretrained(folder / "model")
    made.tokenizer.save_pretrained(folder / "model")
    paths = []
    for method, options in (("rome", {"layer": 1}), ("memit", {"layers": [1]}), ("grace", {"layer": 1})):
        options |= {"steps": 1, "contexts": [[4, 4]]}
        config = {"model": str(folder / "model"), "method": method, "options": options, "data": "atlas", "edits": [1]}
        config |= {"probe_limit": 2, "second_moment": {"corpus": "atlas"}}
        (folder / f"{method}.yaml").write_text(yaml.safe_dump(config))
        paths.append(folder / f"{method}.yaml")
    return paths


def test_runs_then_a_report(configs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["run", *map(str, configs), "--root", str(tmp_path / "runs"), "--workers", "1"]
    assert main(command) == 0, capsys.readouterr().err
    folders = capsys.readouterr().out.split()
    assert [Path(folder).name.split("-")[0] for folder in folders] == ["rome", "memit", "grace"]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    assert before and main(command) == 0
    assert capsys.readouterr().out.split() == folders
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")} == before
    assert main(["report", *folders, "-o", str(tmp_path / "report"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"report", "headline", "sentences", "runs"} <= set(told) and Path(told["report"]).is_file()


def test_one_file_of_several_orders_is_a_run_each(
    configs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = yaml.safe_load(configs[0].read_text()) | {"edits": [0], "seeds": [3, 4]}
    (tmp_path / "orders.yaml").write_text(yaml.safe_dump(values))
    command = ["run", str(tmp_path / "orders.yaml"), "--root", str(tmp_path / "runs"), "--workers", "1"]
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert "2 runs, one for each order" in err
    assert [load_config(Path(folder)).seed for folder in out.split()] == [3, 4]


def test_a_key_that_does_not_exist(configs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "wrong.yaml").write_text(configs[0].read_text() + "batches: 3\n")
    assert main(["run", str(tmp_path / "wrong.yaml"), "--root", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "'batches'" in err and "batch" in err


def test_an_engine_for_a_config_and_not_for_a_run_of_another(configs: list[Path], tmp_path: Path) -> None:
    (served,) = changed(configs[0], {"engine": "vllm"})
    assert served.engine == "vllm"
    assert served.model_copy(update={"engine": "local"}) == load_config(configs[0])
    with pytest.raises(BadInput, match="--engine of no use"):
        changed(tmp_path, {"engine": "vllm"})


def test_a_root_that_cannot_be_written(configs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(configs[0]), "--root", str(configs[0])]) == 2
    assert str(configs[0]) in capsys.readouterr().err


def test_the_demo_compares_methods_on_the_same_edits() -> None:
    configs = [load_config(path) for path in recipes()]
    assert [(c.method, c.preset) for c in configs] == [("rome", "released"), ("rome", None), ("memit", None)]
    first, *others = configs
    assert all(
        first.model_dump(exclude={"method", "preset"}) == c.model_dump(exclude={"method", "preset"}) for c in others
    )
    assert first.edits[:4] == [0, 1, 10, 100] and first.limit is not None and first.limit >= 60


def test_a_report_opens_only_before_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    from errata.cli import demo

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert demo.has_desktop()
    monkeypatch.setenv("CI", "1")
    assert not demo.has_desktop()
