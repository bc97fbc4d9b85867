"""A run that keeps hidden states of lower layers gives the numbers of one that does not, killed on the way or not."""

import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_world import MakeConfig

from errata.errors import BadInput
from errata.runs.config import RunConfig, run_name
from errata.runs.layout import RunDir
from errata.runs.runner import start

HIGHER = {"layer": 1, "steps": 2, "contexts": [[2, 2]], "ridge": 0.1}


@pytest.fixture
def asked(make_config: MakeConfig) -> Any:
    """Config of ROME in the second of two layers, scored by a task, with such `lower_states`."""

    def make(lower_states: str | None) -> RunConfig:
        task = {"tasks": ["atlas_toxigen"], "limit": 3, "data_dir": "atlas", "probe_limit": 1}
        return make_config(options=HIGHER, edits=[1], lower_states=lower_states, **task)

    return make


def scores(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("scores/*/*"))}


def die_at_the_task(config: RunConfig, root: Path) -> None:
    def watch(path: Path) -> None:
        if path.name == "atlas_toxigen.parquet" and path.parent.name == "00001":
            os.kill(os.getpid(), signal.SIGKILL)

    start(config, root, on_write=watch)


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL and forks")
def test_the_same_scores_in_memory_on_disk_and_killed(tmp_path: Path, asked: Any) -> None:
    expected = scores(start(asked(None), tmp_path / "plain"))
    assert "scores/00001/atlas_toxigen.parquet" in expected
    assert scores(start(asked("memory:0.1"), tmp_path / "memory")) == expected
    config = asked("disk:0.1")
    process = multiprocessing.get_context("fork").Process(target=die_at_the_task, args=(config, tmp_path / "disk"))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    run = RunDir(tmp_path / "disk" / run_name(config))
    assert list(run.lower.glob("*.safetensors")), "nothing was kept"
    assert scores(start(config, tmp_path / "disk")) == expected
    assert not run.lower.exists(), "what was kept outlives the run"


def test_it_renames_no_folder(asked: Any) -> None:
    assert run_name(asked("disk:2")) == run_name(asked(None))


def test_where_nothing_stays_below_the_edits_it_is_refused(tmp_path: Path, make_config: MakeConfig) -> None:
    with pytest.raises(BadInput, match="rome may write layer 0"):
        start(make_config(lower_states="memory:1"), tmp_path)
    with pytest.raises(BadInput, match="grace keeps a memory"):
        start(make_config(method="grace", lower_states="memory:1"), tmp_path)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"lower_states": "disk"}, "give memory:GIB or disk:GIB"),
        ({"lower_states": {"on": "disk"}}, "gib' is missing"),
        ({"lower_states": "disk:1", "engine": "vllm"}, "lower_states is of the engine local"),
        ({"prefix_cache": -1}, "prefix_cache"),
    ],
)
def test_slips_are_named(make_config: MakeConfig, keys: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        make_config(**keys)
