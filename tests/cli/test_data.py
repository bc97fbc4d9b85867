"""errata data: one form for every layout, and what is wrong with a file."""

import json
from pathlib import Path
from typing import Any

import pytest

from errata.cli import main
from errata.data.cases import read_cases
from errata.model.tiny import tiny_model
from errata.probes import edits

FRANCE = {"prompt": "The capital of France is", "subject": "France", "target_new": "Lyon"}
ZSRE = {
    "subject": "Ada Lim",
    "src": "What does Ada Lim play?",
    "rephrase": "Which instrument is Ada Lim's?",
    "alt": "drum",
    "answers": ["lute"],
    "loc": "nq question: how many moons has mars",
    "loc_ans": "two",
}


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8")
    return path


def document(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["data", *arguments, "--json"]) == code, capsys.readouterr().err
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_what_is_converted_is_the_same_edits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = write(tmp_path / "zsre.jsonl", ZSRE, {**ZSRE, "alt": ""}, FRANCE), tmp_path / "out.jsonl"
    told = document(capsys, "convert", str(source), str(out))
    assert told == {
        "out": str(out),
        "edits": 2,
        "records": 3,
        "layouts": {"zsre": 2, "plain": 1},
        "empty": [f"{source}:2"],
        "faults": [],
    }
    assert read_cases(out) == read_cases(source)
    assert json.loads(out.read_text().splitlines()[1]) == {"id": "3", **FRANCE}


def test_a_selection_is_frozen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = write(tmp_path / "in.jsonl", *({**FRANCE, "id": i} for i in range(20))), tmp_path / "out.jsonl"
    assert main(["data", "convert", str(source), str(out), "--limit", "5", "--seed", "3"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(out)
    assert read_cases(out) == read_cases(source, limit=5, seed=3)
    assert main(["data", "convert", "atlas", str(out), "--limit", "3"]) == 0
    assert read_cases(out) == read_cases("atlas", 3)


def test_a_fault_stops_unless_it_may_be_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "zsre.jsonl", ZSRE, {**ZSRE, "subject": "Bo"}, "{", FRANCE)
    out = write(tmp_path / "out.jsonl", "before")
    assert main(["data", "convert", str(source), str(out)]) == 2
    err = capsys.readouterr().err
    assert "zsre.jsonl:2: " in err and "--skip" in err and out.read_text() == "before\n"
    assert [path.name for path in tmp_path.glob(".*")] == []
    told = document(capsys, "convert", str(source), str(out), "--skip")
    assert told["edits"] == 2 and [fault.partition(": ")[0] for fault in told["faults"]] == [
        f"{source}:2",
        f"{source}:3",
    ]
    assert len(read_cases(out)) == 2
    assert main(["data", "convert", str(source), str(out), "--skip"]) == 0
    assert "left out: 2" in capsys.readouterr().out


@pytest.mark.parametrize("out", ["out.csv", "in.jsonl"])
def test_where_it_cannot_be_written(tmp_path: Path, out: str, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "in.jsonl", FRANCE)
    assert main(["data", "convert", str(source), str(tmp_path / out)]) == 2
    assert out in capsys.readouterr().err and read_cases(source)


def test_a_file_without_edits_makes_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "zsre.jsonl", {**ZSRE, "alt": ""})
    assert main(["data", "convert", str(source), str(tmp_path / "out.jsonl")]) == 2
    assert "holds no edits" in capsys.readouterr().err and not (tmp_path / "out.jsonl").exists()


def test_check_counts_and_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "in.jsonl", FRANCE, {**FRANCE, "target_new": "Nice"}, FRANCE, {**FRANCE, "id": "1"}, ZSRE)
    told = document(capsys, "check", str(source), code=1)
    assert told["layouts"] == {"plain": 4, "zsre": 1} and told["records"] == 5 and told["edits"] == 4
    assert told["lacking"] == {"target_true": 3, "paraphrases": 3, "neighbours": 3, "portability": 4}
    assert told["probes"] == {"paraphrases": 1, "neighbours": 1, "portability": 0} and told["portability"] == {}
    (pair,) = told["contradictions"]
    assert pair == {
        "prompt": FRANCE["prompt"],
        "first": {"id": "1", "source": f"{source}:1", "target_new": "Lyon"},
        "later": {"id": "2", "source": f"{source}:2", "target_new": "Nice"},
    }
    assert [each["later"]["id"] for each in told["repetitions"]] == ["3"]
    (fault,) = told["faults"]
    assert fault.startswith(f"{source}:4: id '1' was used at {source}:1")
    assert main(["data", "check", str(source)]) == 1
    out, err = capsys.readouterr()
    assert "edits\t4\n" in out and "layout: zsre (1 records)" in out
    assert f"cannot be used: {source}:4" in err and f"'Lyon' ({source}:1), then 'Nice' ({source}:2)" in err


def test_a_fault_behind_which_nothing_is_read_is_listed_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in.csv").write_text('prompt,subject,target_new\na France b,France,Lyon\na France b,France,"Lyon\n')
    told = document(capsys, "check", str(tmp_path / "in.csv"), code=1)
    assert told["edits"] == 1 and "not valid CSV" in told["faults"][0]


def test_only_the_first_of_many_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "in.jsonl", FRANCE, *["{"] * 12)
    assert main(["data", "check", str(source)]) == 1
    err = capsys.readouterr().err
    assert err.count("cannot be used: ") == 11 and "and 2 more" in err


def test_check_of_the_embedded_edits(capsys: pytest.CaptureFixture[str]) -> None:
    told = document(capsys, "check", "atlas")
    assert told["records"] is None and told["edits"] > 1000 and not told["faults"]
    assert told["lacking"]["paraphrases"] == 0


def test_check_with_a_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tiny_model("llama", layers=1)
    made.model.save_pretrained(tmp_path / "model")
    made.tokenizer.save_pretrained(tmp_path / "model")
    monkeypatch.setattr(edits, "same", lambda answer, *golds: "Lyon" in golds)  # it knows Lyon alone
    long = {"prompt": f"{'very ' * 3000} far from Spain is", "subject": "Spain", "target_new": "Lyon"}
    oslo = {"prompt": "The capital of Norway is", "subject": "Norway", "target_new": "Oslo"}
    source = write(tmp_path / "in.jsonl", FRANCE, long, oslo, {**FRANCE, "target_new": "Nice"})
    told = document(capsys, "check", str(source), "--model", str(tmp_path / "model"))
    assert told["known"] == [{"id": "1", "source": f"{source}:1"}] and told["usable"] == 1
    assert [each["id"] for each in told["unfit"]] == ["2", "4"]
    assert "tokens" in told["unfit"][0]["reason"] and "contradicts edit 1" in told["unfit"][1]["reason"]
    assert main(["data", "check", str(source), "--model", str(tmp_path / "model")]) == 0
    assert "left to edit\t1\n" in capsys.readouterr().out
