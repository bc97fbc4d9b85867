"""errata edit, generate, undo, artifacts and doctor, end to end on a small random model."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from errata.cli import main
from errata.model.tiny import tiny_model

FRANCE = ["edit", "The capital of France is", "--subject", "France", "--target", "Lyon"]
OPTIONS = ["--corpus", "atlas", "--set", "steps=2", "--set", "contexts=[[2, 1]]"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("tiny")
    made = tiny_model("llama", layers=3)
    made.model.save_pretrained(folder)
    made.tokenizer.save_pretrained(folder)
    return str(folder)


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0, capsys.readouterr().err
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_edit_asks_before_and_after(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = document(capsys, *FRANCE, "-m", model, *OPTIONS, "--method", "rome")
    assert set(told) == {"model", "method", "edits", "answers", "fingerprint", "seconds", "saved"}
    (edit,) = told["edits"]
    assert set(edit) == {"edit", "requests", "options", "filter", "norms", "relative_norms", "entries", "bytes"}
    assert edit["options"]["steps"] == 2 and all(norm > 0 for norm in edit["norms"].values())
    assert [answer["kind"] for answer in told["answers"]] == ["prompt", "paraphrase", "neighbour"]
    assert set(told["answers"][0]) == {"id", "kind", "prompt", "before", "after", "expected", "as_wanted"}
    assert "France" in told["answers"][1]["prompt"] and "France" not in told["answers"][2]["prompt"]


def test_an_edit_through_a_filter(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = document(capsys, *FRANCE, "-m", model, *OPTIONS, "--filter", "rect,keep=0.3")
    assert told["edits"][0]["filter"] == {"name": "rect", "keep": 0.3}
    whole = document(capsys, *FRANCE, "-m", model, *OPTIONS)
    assert whole["edits"][0]["filter"] is None
    for site, norm in told["edits"][0]["norms"].items():
        assert 0 < norm < whole["edits"][0]["norms"][site]
    for wrong, hint in (("rct", "did you mean rect"), ("rect,kep=1", "did you mean keep"), ("rect,keep", "NAME=VALUE")):
        assert main([*FRANCE, "-m", model, "--filter", wrong]) == 2
        assert hint in capsys.readouterr().err


def test_own_paraphrases_and_neighbours_replace_those_of_the_data(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ["--paraphrase", "France is ruled from", "--neighbour", "The capital of Peru is", "--neighbour", "I like"]
    told = document(capsys, *FRANCE, *own, "-m", model, *OPTIONS)
    assert [a["prompt"] for a in told["answers"][1:]] == ["France is ruled from", "The capital of Peru is", "I like"]


def test_what_is_printed(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FRANCE, "-m", model, *OPTIONS]) == 0
    out = capsys.readouterr().out
    for told in ("asked\tbefore\tafter", "prompts that give the target: ", "norm of the change of model.", "time: "):
        assert told in out


def test_edits_are_kept_asked_and_undone(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": f"The capital of {c} is", "subject": c, "target_new": "Ulm"} for c in ("France", "Poland")]
    (tmp_path / "edits.jsonl").write_text("\n".join(map(json.dumps, rows)))
    many = ["edit", "--edits", str(tmp_path / "edits.jsonl"), "-m", model, *OPTIONS]
    once = document(capsys, *many, "--batch", "1", "--save", str(tmp_path / "both"))
    assert [edit["edit"] for edit in once["edits"]] == [1, 2]
    kept = document(capsys, "generate", str(tmp_path / "both"), "The capital of France is")["answers"][0]
    assert set(kept) == {"prompt", "answer"}
    listed = document(capsys, "undo", str(tmp_path / "both"), "--list")
    assert [entry["edit"] for entry in listed["applied"]] == [1, 2] and listed["undone"] is None
    assert document(capsys, "undo", str(tmp_path / "both"))["undone"] == 2
    # What is left is what editing the first alone gives, bit for bit.
    (tmp_path / "edits.jsonl").write_text(json.dumps(rows[0]))
    document(capsys, *many, "--batch", "1", "--save", str(tmp_path / "one"))
    both, one = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("both", "one"))
    assert both == one
    assert main(["undo", str(tmp_path / "both"), "7"]) == 2
    assert "edit 7" in capsys.readouterr().err


def test_one_request_of_a_joint_edit_is_undone(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"id": c, "prompt": f"The capital of {c} is", "subject": c, "target_new": "Ulm"} for c in ("France", "Poland")
    ]
    many = ["edit", "--edits", str(tmp_path / "edits.jsonl"), "-m", model, *OPTIONS]
    for name, wanted in (("both", rows), ("one", rows[:1])):
        (tmp_path / "edits.jsonl").write_text("\n".join(map(json.dumps, wanted)))
        assert len(document(capsys, *many, "--save", str(tmp_path / name))["edits"]) == 1
    corpus = OPTIONS[:2]
    undone = document(capsys, "undo", str(tmp_path / "both"), "--request", "Poland", *corpus)
    assert [r["id"] for r in undone["applied"][0]["requests"]] == ["France"]
    # Nothing came before the edit, so what is left is what editing the first alone gives, bit for bit.
    both, one = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("both", "one"))
    assert both == one
    assert main(["undo", str(tmp_path / "both"), "1", "--request", "Spain", *corpus]) == 2
    assert "Spain" in capsys.readouterr().err


def test_a_saved_session_can_be_edited_further(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = str(tmp_path / "kept")
    document(capsys, *FRANCE, "-m", model, *OPTIONS, "--save", place)
    options = [*OPTIONS, "--set", "layers=[1]"]
    document(capsys, *FRANCE, "-m", model, *options)
    again = document(capsys, *FRANCE, "-m", place, *options, "--save", place)
    assert again["edits"][0]["edit"] == 2
    assert len(document(capsys, "undo", place, "--list")["applied"]) == 2


def test_a_missing_artifact_names_its_command(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ERRATA_CACHE", str(tmp_path))
    assert main([*FRANCE, "-m", model, "--method", "rome", "--set", "layer=1"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and f"errata artifacts build second-moment --model {model} --layers 1 --corpus" in err
    built = document(
        capsys,
        "artifacts",
        "build",
        "second-moment",
        "-m",
        model,
        "--layers",
        "1",
        "--corpus",
        "atlas",
        "--tokens",
        "900",
    )
    assert built["layers"][0]["tokens"] == 900 and built["layers"][0]["corpus"] == "atlas"
    assert main([*FRANCE, "-m", model, "--method", "rome", "--set", "layer=1", "--set", "steps=1"]) == 0


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "doctor", "llama")
    assert set(found) == {"name", "model_type", "checks", "passed"} and found["passed"]
    assert all(set(check) == {"name", "passed", "detail"} for check in found["checks"])


def test_the_world_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    told = document(capsys, "atlas", "world")
    assert told["facts"] == sum(row["facts"] for row in told["relations"])
    real = sum(row["facts"] for row in told["relations"] if row["kind"] == "real")
    assert real >= 500 and told["facts"] - real >= 4000


def test_only_json_is_on_stdout_of_a_process(model: str) -> None:
    """What libraries print while they load or save goes to stderr."""
    code = "import sys; from errata.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "generate", model, "The capital of France is", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and json.loads(done.stdout)["model"] == model


@pytest.mark.parametrize("method", ["grace", "ike"])
def test_a_memory_is_saved_asked_and_taken_back(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    folder = str(tmp_path / "edited")
    options = ["--set", "layer=1", "--set", "contexts=[[4, 6]]", "--method", method, "--save", folder]
    told = document(capsys, *FRANCE, "-m", model, *options)
    (edit,) = told["edits"]
    assert edit["norms"] == {} and edit["entries"] == 1 and edit["bytes"] > 0
    answer = document(capsys, "generate", folder, "The capital of France is")["answers"][0]["answer"]
    assert told["answers"][0]["after"] in answer
    assert main([*FRANCE[:-1], "Rome", "-m", folder, *options]) == 0
    said = capsys.readouterr()
    assert f"memory beside the weights ({method}): entries 2" in said.out
    assert "transformers alone would load the model without them" in said.err
    assert [line["edit"] for line in document(capsys, "undo", folder)["applied"]] == [1]
    assert document(capsys, "generate", folder, "The capital of France is")["answers"][0]["answer"] == answer
    assert document(capsys, "undo", folder)["applied"] == []
    plain = document(capsys, "generate", model, "The capital of France is")["answers"]
    assert document(capsys, "generate", folder, "The capital of France is")["answers"] == plain


def test_edits_that_contradict_each_other_are_told_before_anything_is_written(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = {"prompt": "The capital of France is", "subject": "France"}
    edits = tmp_path / "edits.jsonl"
    edits.write_text("\n".join(json.dumps(line | {"id": t, "target_new": t}) for t in ("Lyon", "Oslo")), "utf-8")
    assert main(["edit", "--edits", str(edits), "-m", model, *OPTIONS, "--save", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert "Lyon and Oslo contradict each other" in told and not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("default")
def test_a_batch_for_a_method_that_writes_one_at_a_time_is_split_with_a_note(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edits = tmp_path / "edits.jsonl"
    lines = ({"prompt": f"The capital of {x} is", "subject": x, "target_new": "Oslo"} for x in ("France", "Peru"))
    edits.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    command = ["edit", "--edits", str(edits), "-m", model, *OPTIONS, "--method", "rome", "--batch", "2", "--json"]
    assert main(command) == 0
    said = capsys.readouterr()
    assert len(json.loads(said.out)["edits"]) == 2
    assert "rome writes one edit at a time; batches of 2 are split" in said.err


def test_an_update_that_is_too_large_is_refused(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [*FRANCE, "-m", model, *OPTIONS, "--method", "rome", "--max-change", "1e-9"]
    assert main([*command, "--save", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert "edit 1 would change" in told and "more than the 1e-07% that are allowed" in told
    assert "--max-change" in told and not (tmp_path / "out").exists()


def test_a_variant_is_a_method(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    (edit,) = document(capsys, *FRANCE, "-m", model, *OPTIONS, "--method", "rome:released")["edits"]
    assert edit["options"]["covariance"] is False
