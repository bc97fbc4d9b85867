"""Files come into being whole or not at all."""

import os
import signal
from pathlib import Path

import pytest

from errata.errors import BadInput, ErrataError
from errata.runs.layout import RunDir, append_line, atomic, held_interrupt, open_run, write_json


def test_a_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "scores" / "a.parquet"
    with atomic(target) as draft:
        draft.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


def test_a_failing_block_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    write_json(target, 1)
    with pytest.raises(ZeroDivisionError), atomic(target) as draft:
        draft.write_text("half")
        raise ZeroDivisionError
    assert target.read_text() == "1\n"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_names_the_folder(tmp_path: Path) -> None:
    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    for write in (lambda: write_json(tmp_path / "a", 1, full), lambda: append_line(tmp_path / "b", "x", full)):
        with pytest.raises(ErrataError, match=f"(?s){tmp_path}.*No space left"):
            write()
    assert not (tmp_path / "a").exists()


def test_an_unwritable_place_names_the_folder(tmp_path: Path) -> None:
    (tmp_path / "scores").write_text("a file where a folder should be")
    with pytest.raises(ErrataError, match=r"cannot write a\.json in .*scores"):
        write_json(tmp_path / "scores" / "a.json", 1)


def test_the_hook_sees_a_file_before_when_written_and_in_place(tmp_path: Path) -> None:
    target, seen = tmp_path / "a", []
    write_json(target, 1, lambda path: seen.append((path.exists(), bool(list(tmp_path.glob(".*.tmp"))))))
    assert seen == [(False, False), (False, True), (True, False)]


def test_ctrl_c_waits_for_the_file(tmp_path: Path) -> None:
    target = tmp_path / "a"
    with pytest.raises(KeyboardInterrupt), atomic(target) as draft:
        os.kill(os.getpid(), signal.SIGINT)
        draft.write_text("whole")
    assert target.read_text() == "whole"


def test_the_handler_of_ctrl_c_is_given_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with held_interrupt():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_checkpoints_and_tables_are_those_that_are_complete(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    for edits, name in ((10, "b"), (10, "a"), (0, "a"), (100, "a")):
        with atomic(run.table(edits, name)) as draft:
            draft.touch()
    run.table(1, "a").parent.mkdir()
    run.table(1, "a").with_name(".a.parquet.tmp").touch()
    assert run.checkpoints() == [0, 10, 100]
    assert list(run.tables(10)) == ["a", "b"]
    run.remove_drafts()
    assert not list(run.table(1, "a").parent.iterdir())


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds no config"):
        open_run(tmp_path)
    with pytest.raises(BadInput, match="no such folder"):
        open_run(tmp_path / "absent")
