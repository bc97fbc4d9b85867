"""errata train from the command line, then an edit and a run with what was learned."""

import json
from pathlib import Path

import pytest
import yaml

from errata.cli import main
from errata.testing import tiny_model

OPTIONS = ("--set", "layers=[1, 2]", "--set", "rank=4", "--set", "validate_every=2", "--set", "step_size=0.01")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and a file of six edits."""
    path = tmp_path_factory.mktemp("train")
    made = tiny_model("llama", layers=3, width=16)
    made.model.save_pretrained(path / "model")
    made.tokenizer.save_pretrained(path / "model")
    rows = [
        {"prompt": f"The capital of {name} is", "subject": name, "target_new": "Lyon"}
        for name in ("France", "Spain", "Italy", "Norway", "Chile", "Peru")
    ]
    (path / "edits.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def train(folder: Path, *more: str) -> int:
    return main(
        ["train", "mend", "--model", str(folder / "model"), "--edits", str(folder / "edits.jsonl"), *OPTIONS, *more]
    )


def test_train_then_edit_and_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ERRATA_CACHE", str(tmp_path / "cache"))
    edit = ["edit", "The capital of France is", "--subject", "France", "--target", "Lyon", "--method", "mend"]
    edit += ["--model", str(folder / "model"), *OPTIONS, "--json"]
    assert main(edit) == 2
    err = capsys.readouterr().err
    assert f"errata train mend --model {folder / 'model'} --edits FILE --set 'layers=[1, 2]' --set 'rank=4'" in err
    assert train(folder, "--steps", "3", "--json") == 0, capsys.readouterr().err
    told = json.loads(capsys.readouterr().out)
    assert Path(told["path"]).is_file() and told["edits"].endswith("edits.jsonl, edits 4 to 6")
    assert (told["trained"], told["validated"], told["steps"]) == (2, 1, 3)
    assert main(edit) == 0, capsys.readouterr().err
    (made,) = json.loads(capsys.readouterr().out)["edits"]
    assert len(made["norms"]) == 6 and made["options"]["rank"] == 4
    options = {"layers": [1, 2], "rank": 4, "accumulate": False}
    config = {"model": str(folder / "model"), "method": "mend", "data": str(folder / "edits.jsonl"), "edits": [2]}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({**config, "options": options, "probe_limit": 1}))
    assert main(["run", str(tmp_path / "run.yaml"), "--root", str(tmp_path / "runs")]) == 0, capsys.readouterr().err
    (run,) = (tmp_path / "runs").iterdir()
    described = json.loads((run / "artifacts.json").read_text())
    assert described["mend"]["provenance"]["steps"] == 3 and described["mend"]["sha256"]
    assert train(folder, "--steps", "4") == 0
    capsys.readouterr()
    assert main(["run", str(run)]) == 0  # finished, so left alone
    (run / "finished.json").unlink()
    assert main(["run", str(run)]) == 2
    assert "begun with another mend" in capsys.readouterr().err


def test_the_table_shows_every_validation(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ERRATA_CACHE", str(tmp_path))
    assert train(folder, "--steps", "3", "--held-out", "0") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("\t") == ["step", "loss", "edit", "locality", "success"]
    assert [line.split("\t")[0] for line in lines[1:4]] == ["0", "2", "3"]
    assert str(tmp_path) in lines[-1]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--held-out", "6"), "leaves nothing to learn from"),
        (("--set", "steps=0"), "must be positive"),
        (("--set", "speed=1"), "no option of mend is called 'speed'"),
    ],
)
def test_wrong_options_are_one_message(
    folder: Path, more: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(folder, *more) == 2
    assert message in capsys.readouterr().err


def test_a_method_that_learns_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "rome", "--model", str(folder / "model"), "--edits", str(folder / "edits.jsonl")]
    assert main(command) == 2
    assert "rome learns nothing beforehand" in capsys.readouterr().err
