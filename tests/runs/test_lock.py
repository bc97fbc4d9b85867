"""One process at a time; a dead one holds nothing."""

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from errata.errors import RunInUse
from errata.runs.layout import RunDir
from errata.runs.lock import locked

HOLD = """
    import sys, time
    from pathlib import Path
    from errata.runs.layout import RunDir
    from errata.runs.lock import locked
    with locked(RunDir(Path(sys.argv[1]))):
        print("held", flush=True)
        time.sleep(60)
"""


def test_a_run_in_use_names_process_and_host_until_that_process_dies(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    command = [sys.executable, "-c", textwrap.dedent(HOLD), str(run.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None and other.stdout.readline() == "held\n"
            with pytest.raises(RunInUse, match=f"process {other.pid} on {socket.gethostname()}"), locked(run):
                pass
        finally:
            other.kill()
    assert run.owner.exists()
    with locked(run):
        assert str(os.getpid()) in run.owner.read_text()
    assert not run.owner.exists()


def test_the_same_process_cannot_enter_twice(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    with locked(run), pytest.raises(RunInUse, match=str(os.getpid())), locked(run):
        pass
    with locked(run):
        pass


def test_a_run_that_never_began_leaves_no_folder(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    with locked(run):
        assert run.lock.exists()
    assert not run.path.exists()
    with locked(run):
        run.config.touch()
    assert {file.name for file in run.path.iterdir()} >= {"config.yaml"}
