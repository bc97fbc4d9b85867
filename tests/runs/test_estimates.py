"""What runs will take: sizes from files, times from finished runs or in proportion, what is done subtracted."""

import json
import math
from pathlib import Path

import pytest
from tiny_world import MakeConfig

from errata.errors import ErrataError
from errata.model.loading import load
from errata.runs.config import parse_config, run_name
from errata.runs.estimates import ATLAS, GB, SECONDS_AN_EDIT, Planner, experience
from errata.runs.jobs import Needs
from errata.runs.layout import RunDir
from errata.runs.machine import free_memory, gpus
from errata.runs.runner import start
from errata.runs.sizes import model_size

BASE = {"model": "atlas", "method": "rome", "data": "atlas", "edits": [100], "device": "cpu"}


def test_the_size_of_a_model_is_read_from_its_files(world: Path) -> None:
    for name in ("atlas", str(world / "model")):
        model = load(name, device="cpu")
        size = model_size(name)
        assert size.parameters == sum(parameter.numel() for parameter in model.model.parameters())
        assert size.bytes == 4 and (size.width, size.inner) == tuple(model.weight(model.site(0)).shape)


def test_or_from_its_name() -> None:
    assert model_size("meta-llama/Llama-2-7b-hf").parameters == 7_000_000_000
    assert model_size("EleutherAI/pythia-1.4b").parameters == 1_400_000_000
    assert model_size("EleutherAI/pythia-70m").parameters == 70_000_000
    assert model_size("gpt2-xl").parameters is None and model_size("no such/model").parameters is None


def test_times_are_in_proportion_to_parameters_and_to_edits(tmp_path: Path) -> None:
    config = parse_config({**BASE, "model": "org/toy-527m", "probe_limit": 1, "retention_limit": 0})
    longer = config.model_copy(update={"edits": [0, 200]})
    one, two = (Planner(tmp_path).estimate(c).seconds for c in (config, longer))
    assert one is not None and two is not None
    assert math.isclose(two - one, 100 * SECONDS_AN_EDIT["rome"] * 527_000_000 / ATLAS)
    assert Planner(tmp_path).estimate(config.model_copy(update={"model": "gpt2-xl"})).seconds is None


def test_memory_grows_by_the_weights_and_the_second_moment(tmp_path: Path) -> None:
    grace, rome = (Planner(tmp_path).estimate(parse_config({**BASE, "method": m})).memory for m in ("grace", "rome"))
    size = model_size("atlas")
    assert rome is not None and grace is not None and size.parameters is not None
    assert rome - grace == (3 * 8 + 4) * size.inner**2
    assert grace > 4 * size.parameters + 0.5 * GB


@pytest.mark.parametrize(("name", "seconds"), [("llama-2-7b", 991), ("gpt2-xl-1.56b", 491)])
def test_on_a_gpu_the_published_times_are_met(tmp_path: Path, name: str, seconds: float) -> None:
    """Table 8 of arXiv 2410.18785: seconds of 100 edits by ROME."""
    config = parse_config({**BASE, "model": name, "device": "cuda", "probe_limit": 1})
    twice = config.model_copy(update={"edits": [0, 200]})
    one, two = (Planner(tmp_path, gpus=1).estimate(c).seconds for c in (config, twice))
    assert one is not None and two is not None
    assert math.isclose(two - one, seconds, rel_tol=0.1)


def test_finished_runs_tell_of_others_and_take_nothing_more(tmp_path: Path, make_config: MakeConfig) -> None:
    done, other = make_config(edits=[1], probe_limit=1), make_config(edits=[2], probe_limit=1)
    run = RunDir(start(done, tmp_path))
    told = json.loads(run.costs.read_text())
    known = experience(tmp_path)
    assert known.steps[done.model, "rome:"]["edit"] == tuple(told["steps"]["edit"])
    assert Planner(tmp_path).estimate(done).seconds == 0
    found = Planner(tmp_path).estimate(other)
    assert found.measured and found.memory == told["memory"]["process"]
    assert not Planner(tmp_path / "elsewhere").estimate(other).measured


def test_what_a_stopped_run_has_done_is_not_counted(tmp_path: Path, make_config: MakeConfig) -> None:
    config = make_config(edits=[1, 3], probe_limit=1)
    run, before = RunDir(tmp_path / run_name(config)), Planner(tmp_path).estimate(config).seconds

    def full(path: Path) -> None:
        if path == run.update(2):
            raise OSError(28, "No space left on device")

    with pytest.raises(ErrataError):
        start(config, tmp_path, on_write=full)
    after = Planner(tmp_path).estimate(config).seconds
    assert before is not None and after is not None and after < before


def test_needs_are_as_told_or_as_estimated(tmp_path: Path) -> None:
    config = parse_config(BASE)
    assert Planner(tmp_path).needs(config) == Needs(1, Planner(tmp_path).estimate(config).memory or 0, 0)
    assert Planner(tmp_path, threads=2, gpus=1, memory=7).needs(config) == Needs(2, 7, 0)  # device: cpu
    assert Planner(tmp_path, gpus=2).needs(config.model_copy(update={"device": None})).gpus == 2


def test_a_container_has_less_memory_than_its_machine(tmp_path: Path) -> None:
    assert free_memory(tmp_path) > 0
    (tmp_path / "memory.current").write_text("300\n")
    (tmp_path / "memory.max").write_text("1000\n")
    assert free_memory(tmp_path) == 700
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(tmp_path) > 1000


def test_the_gpus_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0, GPU-8f")
    assert gpus() == ["0", "GPU-8f"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus() == []
