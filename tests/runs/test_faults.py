"""What may go wrong on the way: nothing is lost, nothing counted twice, and every bit is as if nothing had happened.

The long ones, on a real clock, disk and processes: make test-faults. Deaths at each single write: test_recovery.py.
"""

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_world import MakeConfig, content

from errata.errors import RunInUse
from errata.runs.config import RunConfig, run_name
from errata.runs.executors import Processes
from errata.runs.layout import RunDir, is_finished
from errata.runs.ledger import read_ledger
from errata.runs.lock import locked
from errata.runs.runner import start
from errata.runs.sweep import run_sweep

pytestmark = [
    pytest.mark.fault,
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(sys.platform != "linux", reason="needs SIGKILL, namespaces and LD_PRELOAD"),
]
PRELOADED = ["errata.runs.runner", "transformers.models.llama.modeling_llama", "errata.testing"]
KILLS = 50
IN_USE = 3
"""Exit code of a process that was refused."""


@pytest.fixture(params=["memit", "grace"])
def config(request: pytest.FixtureRequest, make_config: MakeConfig) -> RunConfig:
    """A method that writes weights and carries a state, and one that writes a memory and a state."""
    return make_config(method=request.param, edits=[1, 2, 4], probe_limit=2)


def _work(config: RunConfig, root: Path, cache: str) -> None:
    os.environ["ERRATA_CACHE"] = cache
    torch.set_num_threads(1)
    try:
        start(config, root)
    except RunInUse:
        sys.exit(IN_USE)


def _begin(config: RunConfig, root: Path) -> ForkServerProcess:
    """A run in a process of its own, forked from one that has the libraries loaded."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_work, args=(config, root, os.environ["ERRATA_CACHE"]))
    process.start()
    return process


def test_killed_at_random_moments(tmp_path: Path, config: RunConfig) -> None:
    """Fifty times, the same run again and again until it has come to its end, then another one."""
    whole = tmp_path / "whole"
    _begin(config, whole).join()  # the first one waits for the libraries
    shutil.rmtree(whole)
    began = time.monotonic()
    _begin(config, whole).join()
    duration = time.monotonic() - began
    expected = content(whole / run_name(config))
    moments, kills, ends, met = random.Random(0), 0, 0, set()
    while kills < KILLS:
        run = RunDir(tmp_path / f"killed-{ends}" / run_name(config))
        process = _begin(config, run.path.parent)
        process.join(moments.uniform(0, duration))
        if process.is_alive():
            process.kill()
            process.join()
            kills += 1
            met.add(len(read_ledger(run.ledger)))
        else:
            assert content(run.path) == expected
            ends += 1
    assert 0 in met and len(met) > 1  # before the first batch was recorded, and after
    start(config, run.path.parent)
    assert content(run.path) == expected


def test_files_are_removed(tmp_path: Path, config: RunConfig) -> None:
    """Any of them: checkpoints, updates, states, the ledger, the config."""
    run = RunDir(start(config, tmp_path))
    expected, chance = content(run.path), random.Random(0)
    files = [path for path in run.path.rglob("*") if path.is_file() and path not in (run.lock, run.costs)]
    for share in [0.1, 0.3, 0.5, 1.0] * 3:
        for file in files:
            if chance.random() < share:
                file.unlink()
        start(config, tmp_path)
        assert content(run.path) == expected


def test_two_processes_in_the_same_folder(tmp_path: Path, config: RunConfig) -> None:
    expected = content(start(config, tmp_path / "alone"))
    for second in range(5):
        run = RunDir(tmp_path / str(second) / run_name(config))
        first = _begin(config, run.path.parent)
        while not (run.owner.exists() and run.owner.stat().st_size and len(read_ledger(run.ledger)) >= second % 4):
            assert first.is_alive()
        assert first.pid is not None
        os.kill(first.pid, signal.SIGSTOP)  # so that it is still in the middle when the other one comes
        with pytest.raises(RunInUse, match=f"process {first.pid}"), locked(run):
            pass
        intruder = _begin(config, run.path.parent)
        intruder.join()
        assert intruder.exitcode == IN_USE
        os.kill(first.pid, signal.SIGCONT)
        first.join()
        assert first.exitcode == 0
        assert content(run.path) == expected


DISK = """
    import subprocess, sys
    from pathlib import Path
    from errata.errors import ErrataError
    from errata.runs.config import parse_config
    from errata.runs.runner import start
    import json, shutil, torch

    torch.set_num_threads(1)
    config, disk, out = parse_config(json.loads(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3])
    for size in map(int, sys.argv[4:]):
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", disk], check=True)
        try:
            start(config, disk)
            print("room enough")
        except ErrataError as error:
            print(error)
        subprocess.run(["mount", "-o", "remount,size=100m", disk], check=True)
        shutil.copytree(start(config, disk), out / str(size))
        subprocess.run(["umount", disk], check=True)
"""


def test_the_disk_is_full(tmp_path: Path, config: RunConfig) -> None:
    """A real file system that is too small, then made larger."""
    whole = start(config, tmp_path / "whole")
    size = sum(-(-path.stat().st_size // 4096) * 4 for path in whole.rglob("*") if path.is_file())
    sizes = sorted({random.Random(seed).randrange(8, size) // 4 * 4 for seed in range(10)})
    (tmp_path / "disk").mkdir()
    namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*namespace, "mount", "-t", "tmpfs", "tmpfs", tmp_path / "disk"], check=False).returncode:
        pytest.skip("this system lets nobody mount a disk of their own")
    command = [*namespace, sys.executable, "-c", textwrap.dedent(DISK), config.model_dump_json()]
    command += [str(tmp_path / "disk"), str(tmp_path / "out"), *map(str, sizes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert len(said) == len(sizes) and all("cannot write" in line and "No space left" in line for line in said), said
    for folder in (tmp_path / "out").iterdir():
        assert content(folder) == content(whole)


CLOCK = """
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <sys/time.h>
    #include <time.h>

    static long jump(void) {  /* up to ten years, there and back */
        static unsigned state = 1;
        state = state * 1103515245u + 12345u;
        return (long)(state >> 4) % 630000000L - 315000000L;
    }
    int clock_gettime(clockid_t clock, struct timespec *now) {
        int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
        int code = real(clock, now);
        if (clock == CLOCK_REALTIME) now->tv_sec += jump();
        return code;
    }
    int gettimeofday(struct timeval *now, void *zone) {
        struct timespec exact;
        int code = clock_gettime(CLOCK_REALTIME, &exact);
        now->tv_sec = exact.tv_sec;
        now->tv_usec = exact.tv_nsec / 1000;
        return code;
    }
    time_t time(time_t *result) {
        struct timespec exact;
        clock_gettime(CLOCK_REALTIME, &exact);
        if (result) *result = exact.tv_sec;
        return exact.tv_sec;
    }
"""
SWEEP = """
    import json, sys, time
    from errata.runs.config import parse_config
    from errata.runs.executors import Processes
    from errata.runs.sweep import run_sweep

    if __name__ == "__main__":
        moments = [time.time() for _ in range(100)]
        outcomes = run_sweep([parse_config(values) for values in json.loads(sys.argv[1])], sys.argv[2], Processes(2))
        print(json.dumps({"jumps": max(moments) - min(moments), "status": [o.status for o in outcomes]}))
"""


def _await_free(run: RunDir) -> None:
    """Until no worker holds the run."""
    for _ in range(600):
        with suppress(RunInUse), locked(run):
            return
        time.sleep(0.1)
    raise AssertionError(f"a worker of the killed sweep still holds {run.path}")


def _sweep_command(tmp_path: Path, configs: list[RunConfig], root: Path) -> list[str]:
    script = tmp_path / "sweep.py"
    script.write_text(textwrap.dedent(SWEEP))
    return [sys.executable, str(script), json.dumps([config.model_dump(mode="json") for config in configs]), str(root)]


def test_the_clock_jumps(tmp_path: Path, config: RunConfig) -> None:
    """Every look at the time of day gives another year, in the sweep and in its workers."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    (tmp_path / "clock.c").write_text(textwrap.dedent(CLOCK))
    library = tmp_path / "clock.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, tmp_path / "clock.c", "-ldl"], check=True)
    command = _sweep_command(tmp_path, [config], tmp_path / "jumping")
    done = subprocess.run(
        command, env={**os.environ, "LD_PRELOAD": str(library)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["jumps"] > 10**7 and told["status"] == ["finished"]
    assert content(tmp_path / "jumping" / run_name(config)) == content(start(config, tmp_path / "steady"))


def test_a_killed_sweep_takes_its_workers_along_and_goes_on(tmp_path: Path, config: RunConfig) -> None:
    configs = [config.model_copy(update={"seed": seed}) for seed in (1, 2)]
    runs = [RunDir(tmp_path / "runs" / run_name(config)) for config in configs]
    command = _sweep_command(tmp_path, configs, tmp_path / "runs")
    for batches in (1, 2, 3):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as sweep:
            while not any(len(read_ledger(run.ledger)) >= batches for run in runs):
                assert sweep.poll() is None
                time.sleep(0.005)
            sweep.send_signal(signal.SIGKILL)
        for run in runs:
            _await_free(run)
    outcomes = run_sweep(configs, tmp_path / "runs", Processes(2))
    assert all(is_finished(outcome.run) and outcome.error is None for outcome in outcomes)
    for config, run in zip(configs, runs, strict=True):
        assert content(run.path) == content(start(config, tmp_path / "alone"))
