"""Sweeps on a real Ray cluster, and through submitit on this machine: a worker is killed in the middle.

They need the extras `ray` and `slurm`: make test-cluster
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from tiny_world import OPTIONS, MakeConfig, content

from errata.errors import BadInput, Interrupted
from errata.runs.clusters import RayCluster, Slurm
from errata.runs.config import RunConfig, run_name
from errata.runs.executors import Executor, Here
from errata.runs.jobs import Job, Needs
from errata.runs.layout import RunDir, is_finished
from errata.runs.ledger import read_ledger
from errata.runs.lock import locked
from errata.runs.sweep import run_sweep

STEPS = {**OPTIONS["rome"], "steps": 40, "loss_stop": 0.0}
"""Slow enough that a worker is met between two edits."""
MISSING = [name for name in ("ray", "submitit") if find_spec(name) is None]
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(MISSING), reason="make test-cluster"),
]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A Ray cluster of its own: head and workers in processes of this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder:  # its sockets need a short path
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}"]
        command += ["--num-cpus=2", "--node-ip-address=127.0.0.1", "--include-dashboard=false", f"--temp-dir={folder}"]
        # Ray would give its workers what the machine has to spare; here they are all there is to wait for.
        # A token that another cluster has left in the home folder is none of its business.
        settings = {**os.environ, "RAY_worker_niceness": "0", "RAY_AUTH_MODE": "disabled"}
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=settings, start_new_session=True) as head:
            try:
                _await_port(port)
                yield f"127.0.0.1:{port}"
            finally:
                head.send_signal(signal.SIGTERM)
                try:
                    head.wait(30)
                finally:
                    if head.poll() is None:
                        os.killpg(head.pid, signal.SIGKILL)


def _await_port(port: int) -> None:
    for _ in range(120):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.5)
    raise AssertionError("no Ray cluster after a minute")


@pytest.fixture
def configs(make_config: MakeConfig) -> list[RunConfig]:
    """One that is long enough to be met in the middle, and another."""
    long = make_config(options=STEPS, edits=[2, 4], probe_limit=1)
    return [long, make_config(method="memit", edits=[2], batch=2, probe_limit=1)]


def _kill_in_the_middle(run: RunDir, killed: list[int]) -> None:
    """As soon as the run has an edit and its worker lives, kill that."""
    while not killed:
        if read_ledger(run.ledger) and run.owner.exists() and not is_finished(run):
            pid = int(json.loads(run.owner.read_text())["pid"])
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
        time.sleep(0.01)


def check(executor: Executor, configs: list[RunConfig], tmp_path: Path) -> None:
    """A worker is killed in the middle; nothing is lost, and every bit is as on one machine."""
    expected = [content(outcome.run.path) for outcome in run_sweep(configs, tmp_path / "alone", Here())]
    killed: list[int] = []
    run = RunDir(tmp_path / "cluster" / run_name(configs[0]))
    threading.Thread(target=_kill_in_the_middle, args=(run, killed), daemon=True).start()
    outcomes = run_sweep(configs, tmp_path / "cluster", executor, needs=lambda config: Needs(1, 200_000_000))
    assert killed and killed[0] != os.getpid()
    assert [(outcome.status, outcome.error) for outcome in outcomes] == [("finished", None)] * 2
    assert [outcome.attempts for outcome in outcomes] == [2, 1]
    assert outcomes[0].log is not None and outcomes[0].log.read_text().count("\nfinished\n") == 1
    assert [content(outcome.run.path) for outcome in outcomes] == expected


def test_a_ray_worker_is_killed_and_nothing_is_lost(address: str, configs: list[RunConfig], tmp_path: Path) -> None:
    check(RayCluster(address), configs, tmp_path)


def test_a_slurm_worker_is_killed_and_nothing_is_lost(configs: list[RunConfig], tmp_path: Path) -> None:
    check(Slurm(tmp_path / "submitit", {"timeout_min": 10}, cluster="local"), configs, tmp_path)


@pytest.mark.parametrize("name", ["ray", "slurm"])
def test_ctrl_c_ends_the_workers(address: str, configs: list[RunConfig], tmp_path: Path, name: str) -> None:
    executor: Executor = RayCluster(address) if name == "ray" else Slurm(tmp_path / "submitit", cluster="local")
    run = RunDir(tmp_path / run_name(configs[0]))

    def stop(what: str, done: int, total: int) -> None:
        if read_ledger(run.ledger):
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="Repeat the command"):
        run_sweep(configs[:1], tmp_path, executor, stop)
    with locked(run):  # its worker is gone
        pass
    assert not is_finished(run)


def test_a_config_that_cannot_be_fails_on_a_cluster_as_here(
    address: str, make_config: MakeConfig, tmp_path: Path
) -> None:
    for executor in (RayCluster(address), Slurm(tmp_path / "submitit", cluster="local")):
        (outcome,) = run_sweep([make_config(edits=[99])], tmp_path, executor)
        assert (outcome.status, outcome.attempts) == ("failed", 1)
        assert isinstance(outcome.error, BadInput) and "asks for 99" in str(outcome.error)


def test_what_fits_on_no_machine_is_told(address: str, make_config: MakeConfig, tmp_path: Path) -> None:
    executor = RayCluster(address)
    with pytest.warns(UserWarning, match=r"no machine .* gpus=1.*waits for one"):
        executor.submit(Job(make_config(), tmp_path / "runs", tmp_path, Needs(gpus=1)))
    assert executor.wait(None) == []
    executor.stop()


def test_no_cluster_there(make_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no Ray cluster can be reached at 127\.0\.0\.1:1: .*refused"):
        run_sweep([make_config()], tmp_path, RayCluster("127.0.0.1:1"))
    with pytest.raises(BadInput, match="no Slurm on this machine"):
        run_sweep([make_config()], tmp_path, Slurm(tmp_path / "submitit"))


def test_what_slurm_is_asked_for(make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As sbatch reads it, by an sbatch that keeps the script and runs nothing."""
    script, programs = tmp_path / "script", tmp_path / "bin"
    programs.mkdir()
    for name, lines in {"sbatch": f'cp "$1" {script}\necho Submitted batch job 12', "srun": "exit 1"}.items():
        (programs / name).write_text(f"#!/bin/sh\n{lines}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    job = Job(make_config(), tmp_path / "runs", tmp_path, Needs(threads=2, memory=2 * 1024**3 + 1, gpus=1))
    Slurm(tmp_path / "submitit", {"partition": "gpu", "account": "me"}).submit(job)
    asked = {line.removeprefix("#SBATCH --") for line in script.read_text().splitlines() if line.startswith("#SBATCH")}
    assert {"cpus-per-task=2", "mem=3GB", "gpus-per-node=1", "partition=gpu", "account=me", "time=1440"} <= asked
    Slurm(tmp_path / "submitit", {"timeout_min": 7, "mem_gb": 9}).submit(job)
    assert "--time=7\n" in script.read_text() and "--mem=9GB" in script.read_text()
    with pytest.raises(BadInput, match="timeout_min"):
        Slurm(tmp_path / "submitit", {"timeout_min": "an hour"}).submit(job)
