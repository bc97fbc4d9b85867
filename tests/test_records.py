"""Records survive the disk, and a file of records is whole or absent."""

import math
from pathlib import Path

import pytest

from errata import records
from errata.errors import BadInput
from errata.records import SCHEMA, Record, read_records, read_table, write_records

FULL = Record(
    "efficacy", "17", True, True, False, False, " Lyon.", "lyon", "Lyon", True, -0.25, -3.5, True, 4, {"é": [1, None]}
)
BARE = Record("atlas_mmlu", "a/1", False, False, True, True, "", None, " B")


def test_round_trip_of_every_field(tmp_path: Path) -> None:
    write_records(tmp_path / "deep" / "x.parquet", [FULL, BARE])
    assert read_records(tmp_path / "deep" / "x.parquet") == [FULL, BARE]


def test_nan_survives(tmp_path: Path) -> None:
    write_records(tmp_path / "x.parquet", [Record("t", "1", False, True, False, True, "", None, "", logp_new=math.nan)])
    (row,) = read_records(tmp_path / "x.parquet")
    assert row.logp_new is not None and math.isnan(row.logp_new)


def test_no_rows_and_several_files(tmp_path: Path) -> None:
    write_records(tmp_path / "a.parquet", [])
    write_records(tmp_path / "b.parquet", [FULL])
    table = read_table([tmp_path / "a.parquet", tmp_path / "b.parquet"])
    assert table.schema.equals(SCHEMA) and table.num_rows == 1
    assert read_records([]) == []


def test_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_records(tmp_path / name, [FULL, BARE])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_failure_leaves_the_old_file_and_no_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.parquet"
    write_records(path, [FULL])

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(records.os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_records(path, [BARE])
    assert read_records(path) == [FULL] and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"PAR1 torn", b"not parquet at all"])
def test_a_torn_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(BadInput, match=r"x\.parquet"):
        read_records(tmp_path / "x.parquet")


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        read_records(tmp_path / "x.parquet")
