"""The ledger survives a torn last line, and nothing else."""

from pathlib import Path

import pytest

from errata.errors import BadInput
from errata.runs.ledger import Entry, Ledger, read_ledger


def _entry(batch: int) -> Entry:
    return Entry(
        batch=batch,
        edits=batch,
        status="applied",
        requests=(f"r{batch}",),
        method="rome",
        norms={"model.layers.1.mlp.down_proj": 0.5},
        losses=(0.25,),
        details=({"contexts": [[1, 2]]},),
        fingerprint="ab",
    )


def test_what_is_appended_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    ledger.append(_entry(1))
    ledger.append(Entry(0, 0, "skipped", ("x",), "rome", reason="no subject"))
    assert Ledger(path).entries == read_ledger(path) == ledger.entries == [_entry(1), ledger.entries[1]]
    assert Ledger(path).batches == [_entry(1)]


@pytest.mark.parametrize("kept", [0, 1, 20, -1])
def test_a_torn_last_line_is_dropped_and_written_anew(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "ledger.jsonl"
    Ledger(path).append(_entry(1))
    first = path.read_bytes()
    Ledger(path).append(_entry(2))
    torn = path.read_bytes()[len(first) :][:kept]
    path.write_bytes(first + torn)
    assert read_ledger(path) == [_entry(1)]
    assert path.read_bytes() == first + torn
    Ledger(path).append(_entry(2))
    assert read_ledger(path) == [_entry(1), _entry(2)]


@pytest.mark.parametrize("line", ["{", '{"batch": 1}', '{"batch": 1, "colour": 2}', "[]"])
def test_any_other_damage_is_named_with_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "ledger.jsonl"
    Ledger(path).append(_entry(1))
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(BadInput, match=r"ledger\.jsonl:2"):
        Ledger(path)


def test_what_is_not_finite_becomes_null(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    Ledger(path).append(Entry(1, 1, "diverged", ("a",), "rome", losses=(float("nan"), float("inf"), 1.0)))
    assert read_ledger(path)[0].losses == (None, None, 1.0)
