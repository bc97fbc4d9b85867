"""Killed at any write and started again, a run ends as if nothing had happened."""

import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_world import MakeConfig, content

from errata.runs.config import RunConfig, load_configs, run_name
from errata.runs.executors import Here
from errata.runs.ledger import read_ledger
from errata.runs.runner import start
from errata.runs.sweep import run_sweep

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL and forks")
PRELOADED = ["errata.runs.runner", "transformers.models.llama.modeling_llama", "errata.testing"]


class Count:
    """Counts the moments around writes; kills the process at the one numbered `fatal`, from 1."""

    def __init__(self, fatal: int | None = None) -> None:
        self.seen = 0
        self.files: list[str] = []
        self._fatal = fatal

    def __call__(self, path: Path) -> None:
        self.seen += 1
        self.files.append(path.name)
        if self.seen == self._fatal:
            os.kill(os.getpid(), signal.SIGKILL)


def run_and_die(config: RunConfig, root: Path, cache: str, fatal: int) -> None:
    """In a process of its own, forked from one that has the libraries loaded."""
    os.environ["ERRATA_CACHE"] = cache
    torch.set_num_threads(1)
    start(config, root, on_write=Count(fatal))


def kill(config: RunConfig, root: Path, fatal: int) -> int | None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=run_and_die, args=(config, root, os.environ["ERRATA_CACHE"], fatal))
    process.start()
    process.join()
    return process.exitcode


def undisturbed(config: RunConfig, root: Path) -> tuple[dict[str, Any], Count]:
    moments = Count()
    return content(start(config, root, on_write=moments)), moments


def check(config: RunConfig, tmp_path: Path, fatal: list[int], expected: dict[str, Any]) -> None:
    for moment in fatal:
        root = tmp_path / f"killed-{moment}"
        assert kill(config, root, moment) == -signal.SIGKILL
        assert content(start(config, root)) == expected, f"killed at moment {moment}"


def test_killed_within_the_first_write_of_each_file(tmp_path: Path, make_config: MakeConfig) -> None:
    config = make_config(edits=[1], probe_limit=1)
    expected, moments = undisturbed(config, tmp_path)
    names = list(dict.fromkeys(moments.files))
    assert {"config.yaml", "artifacts.json", "ledger.jsonl", "00001.safetensors", "health.json"} <= set(names)
    # The second moment of a write: the file is complete but not in place, the ledger's line half written.
    check(config, tmp_path, [moments.files.index(name) + 2 for name in names], expected)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("method", ["rome", "memit", "grace"])
def test_killed_at_every_moment(tmp_path: Path, make_config: MakeConfig, method: str) -> None:
    config = make_config(method=method, edits=[1, 3], batch=2 if method == "memit" else 1, probe_limit=2)
    expected, moments = undisturbed(config, tmp_path)
    check(config, tmp_path, list(range(1, moments.seen + 1)), expected)


@pytest.mark.parametrize(("method", "batch"), [("memit", 2), ("grace", 1)])
def test_killed_again_and_again(tmp_path: Path, make_config: MakeConfig, method: str, batch: int) -> None:
    config = make_config(method=method, edits=[2 * batch], batch=batch, probe_limit=1)
    expected, _ = undisturbed(config, tmp_path)
    root = tmp_path / "killed"
    kills = 0
    while kill(config, root, 10 + kills % 3) == -signal.SIGKILL:  # a batch is nine moments
        kills += 1
    (folder,) = root.iterdir()
    assert kills >= 3
    assert content(folder) == expected


def test_an_update_that_was_not_recorded_is_computed_anew(tmp_path: Path, make_config: MakeConfig) -> None:
    config = make_config(edits=[2], probe_limit=1)
    expected, moments = undisturbed(config, tmp_path)
    assert kill(config, tmp_path / "killed", moments.files.index("ledger.jsonl") + 2) == -signal.SIGKILL
    (folder,) = (tmp_path / "killed").iterdir()
    assert (folder / "updates" / "00001.safetensors").exists() and not read_ledger(folder / "ledger.jsonl")
    assert content(start(config, tmp_path / "killed")) == expected


@pytest.mark.parametrize(("method", "batch"), [("rome", 1), ("grace", 1)])
def test_single_edits_killed_again_and_again(tmp_path: Path, make_config: MakeConfig, method: str, batch: int) -> None:
    config = make_config(method=method, setting="single", edits=[2 * batch], batch=batch, probe_limit=1)
    expected, _ = undisturbed(config, tmp_path)
    root = tmp_path / "killed"
    kills = 0
    while kill(config, root, 11 + kills % 3) == -signal.SIGKILL:
        kills += 1
    (folder,) = root.iterdir()
    assert kills >= 3
    assert content(folder) == expected


def run_orders(file: Path, root: Path, cache: str) -> None:
    """In a process of its own, one order after the other; it kills itself within the second one."""
    os.environ["ERRATA_CACHE"] = cache
    second = load_configs(file)[1]

    def die(what: str, done: int, total: int) -> None:
        if list((root / run_name(second)).glob("updates/*.safetensors")):
            os.kill(os.getpid(), signal.SIGKILL)

    run_sweep([file], root, Here(), die)


def test_several_orders_killed_within_the_second(tmp_path: Path, make_config: MakeConfig) -> None:
    values = make_config(edits=[2], probe_limit=1).model_dump(mode="json", exclude={"seed"})
    file = tmp_path / "orders.yaml"
    file.write_text(yaml.safe_dump({**values, "seeds": [0, 1, 2]}))
    expected = [content(ended.run.path) for ended in run_sweep([file], tmp_path / "whole", Here())]
    assert len({run["config"]["data_sha256"] for run in expected}) == 3
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=run_orders, args=(file, tmp_path / "killed", os.environ["ERRATA_CACHE"]))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL and len(list((tmp_path / "killed").iterdir())) == 2
    again = run_sweep([file], tmp_path / "killed", Here())
    assert [content(ended.run.path) for ended in again] == expected
