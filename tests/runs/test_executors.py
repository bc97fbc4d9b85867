"""Runs in processes of their own: results, errors, and Ctrl-C."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest
from tiny_world import OPTIONS, MakeConfig

from errata.errors import BadInput, Interrupted
from errata.runs.config import run_name
from errata.runs.executors import Here, Processes
from errata.runs.layout import RunDir
from errata.runs.ledger import read_ledger
from errata.runs.sweep import raise_failures, run_sweep


def test_a_run_that_fails_stops_no_other(tmp_path: Path, make_config: MakeConfig) -> None:
    good, bad = make_config(edits=[1], probe_limit=1), make_config(edits=[99])
    seen: dict[str, tuple[int, int]] = {}
    failed, finished = run_sweep(
        [bad, good], tmp_path, Processes(2), lambda what, done, total: seen.update({what: (done, total)})
    )
    with pytest.raises(BadInput, match="asks for 99"):
        raise_failures([failed, finished])
    assert (failed.status, failed.attempts) == ("failed", 1)
    assert failed.log is not None and "asks for 99" in failed.log.read_text()
    run = RunDir(tmp_path / run_name(good))
    assert finished.run == run and finished.status == "finished" and run.checkpoints() == [0, 1]
    assert seen["runs"] == (2, 2)
    done, total = seen[f"{run.path.name} (seconds)"]
    assert done == total
    (alone,) = run_sweep([good, good], tmp_path / "alone", Here())
    assert read_ledger(alone.run.ledger)[-1].fingerprint == read_ledger(run.ledger)[-1].fingerprint


@pytest.mark.skipif(os.name == "nt", reason="sends a signal")
def test_ctrl_c_ends_all_processes_and_leaves_no_lock(tmp_path: Path, make_config: MakeConfig) -> None:
    endless = {**OPTIONS["rome"], "steps": 10**6, "loss_stop": 0.0}
    configs = [make_config(options=endless, edits=[1], seed=seed, probe_limit=1) for seed in (1, 2)]
    editing: set[str] = set()

    def interrupt(what: str, done: int, total: int) -> None:
        editing.update(run.path.name for run in map(RunDir, tmp_path.glob("rome*")) if run.health(0).exists())
        if len(editing) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match="Repeat the command"):
        run_sweep(configs, tmp_path, Processes(2), interrupt)
    assert not multiprocessing.active_children()
    for run in map(RunDir, tmp_path.glob("rome*")):
        assert run.health(0).exists() and not run.owner.exists() and not read_ledger(run.ledger)
