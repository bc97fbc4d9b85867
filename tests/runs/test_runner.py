"""Runs of a tiny model, with real ROME and MEMIT and with methods that misbehave."""

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
import yaml
from tiny_world import MakeConfig, rows, save_model, write_rows

from errata.artifacts.store import Artifacts, Need
from errata.editors.base import EditResult, Progress, State
from errata.errors import BadInput, Diverged, ErrataError, Interrupted, MissingArtifact, RunInUse
from errata.keyvalue.filters import Held
from errata.model.editable import EditableModel
from errata.model.loading import load
from errata.records import Record, read_records
from errata.registry import load_filter
from errata.runs.checkpoint import read_state, read_update
from errata.runs.config import read_resolved, run_name
from errata.runs.layout import RunDir, is_finished
from errata.runs.ledger import read_ledger
from errata.runs.lock import locked
from errata.runs.runner import start
from errata.types import EditRequest
from errata.update.delta import WeightDelta
from errata.update.session import EditSession


def test_every_checkpoint_is_measured_and_the_ledger_tells_the_weights(tmp_path: Path, make_config: MakeConfig) -> None:
    config = make_config()
    run = RunDir(start(config, tmp_path))
    assert run.path == tmp_path / run_name(config)
    assert run.checkpoints() == [0, 1, 3]
    assert set(run.tables(0)) == set(run.tables(1)) == {"efficacy", "generalization", "locality"}
    assert set(run.tables(3)) == {*run.tables(1), "retention"}
    assert all(run.health(edits).exists() for edits in (0, 1, 3))
    entries = read_ledger(run.ledger)
    assert [(e.batch, e.edits, e.status, e.requests) for e in entries] == [
        (1, 1, "applied", ("france",)),
        (2, 2, "applied", ("germany",)),
        (3, 3, "applied", ("spain",)),
    ]
    assert all(e.losses[0] and e.relative_norms and e.details[0]["contexts"] for e in entries)
    session = EditSession(load(config.model))
    assert session.fingerprint() == read_resolved(run).model_fingerprint
    for entry in entries:
        session.apply(read_update(run.update(entry.batch)))
        assert session.fingerprint() == entry.fingerprint


@pytest.mark.parametrize("method", ["grace", "ike"])
def test_a_run_of_memories_tells_their_size(tmp_path: Path, make_config: MakeConfig, method: str) -> None:
    config = make_config(method=method)
    run = RunDir(start(config, tmp_path))
    entries = read_ledger(run.ledger)
    assert [(e.status, e.entries, e.norms) for e in entries] == [("applied", 1, {})] * 3
    assert all(entry.bytes > 0 for entry in entries) and not run.artifacts.exists()
    session = EditSession(load(config.model))
    for entry in entries:
        session.apply(read_update(run.update(entry.batch)))
        assert session.fingerprint() == entry.fingerprint
    assert set(run.tables(3)) == {"efficacy", "generalization", "locality", "retention"}


def test_the_resolved_config_names_every_hyperparameter(tmp_path: Path, make_config: MakeConfig) -> None:
    resolved = read_resolved(RunDir(start(make_config(edits=[0], seed=7), tmp_path)))
    assert {"layer": 0, "steps": 2, "seed": 7, "kl": 0.0625}.items() <= resolved.editor.items()
    assert resolved.versions["torch"] == torch.__version__ and resolved.versions["threads"] == "1"


def test_unedited_rows_pair_with_those_of_every_checkpoint(tmp_path: Path, make_config: MakeConfig) -> None:
    run = RunDir(start(make_config(), tmp_path))
    before = {row.item: row for row in read_records(run.table(0, "locality"))}
    assert all(row.correct for row in before.values() if not row.empty)
    for row in read_records(run.table(3, "locality")):
        assert row.gold == before[row.item].gold
    assert {r.item for r in read_records(run.table(3, "efficacy"))} <= {
        r.item for r in read_records(run.table(0, "efficacy"))
    }


def test_a_finished_run_is_left_alone(tmp_path: Path, make_config: MakeConfig) -> None:
    start(make_config(), tmp_path)
    written: list[Path] = []
    start(make_config(), tmp_path, on_write=written.append)
    assert not written


def test_another_engine_runs_while_a_checkpoints_tasks_are_answered(
    tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from errata.capability import harness, vllm
    from errata.capability.local import ErrataLM

    events: list[str] = []

    @contextmanager
    def served(model: EditableModel) -> Iterator[ErrataLM]:
        events.append("start")
        yield ErrataLM(model)
        events.append("stop")

    def evaluate(lm: ErrataLM, tasks: Sequence[str], *_: object, **__: object) -> dict[str, list[Record]]:
        assert isinstance(lm, ErrataLM)
        events.extend(tasks)
        return {task: [] for task in tasks}

    monkeypatch.setattr(vllm, "check_engine", lambda method, mergeable: events.append("check"))
    monkeypatch.setattr(vllm, "version", lambda: "0.32.0")
    monkeypatch.setattr(vllm, "served", served)
    monkeypatch.setattr(harness, "evaluate", evaluate)
    config = make_config(edits=[1], tasks=["atlas_mmlu", "atlas_reading"], engine="vllm")
    run = RunDir(start(config, tmp_path))
    checkpoint = ["start", "atlas_mmlu", "atlas_reading", "stop"]
    assert events == ["check", *checkpoint, *checkpoint]
    assert read_resolved(run).versions["vllm"] == "0.32.0" and read_resolved(run).config.engine == "vllm"
    events.clear()
    run.table(1, "atlas_reading").unlink()
    start(run.path)
    assert events == ["check", "start", "atlas_reading", "stop"]


@pytest.mark.parametrize("method", ["grace", "ike"])
def test_memories_are_refused_to_vllm_at_the_start(tmp_path: Path, make_config: MakeConfig, method: str) -> None:
    with pytest.raises(BadInput, match=f"edits by {method} are a memory"):
        start(make_config(method=method, engine="vllm"), tmp_path)
    assert not list(tmp_path.glob("*/config.yaml"))


def test_a_collapsed_run_goes_no_further(
    tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("errata.runs.scoring.given_up", lambda kept, edit: len(kept) > 0)
    config = make_config(stop_at_collapse=True)
    run = RunDir(start(config, tmp_path))
    assert run.checkpoints() == [0] and not read_ledger(run.ledger)
    monkeypatch.setattr("errata.runs.scoring.given_up", lambda kept, edit: max(edit) < 1)
    start(config, tmp_path)
    assert run.checkpoints() == [0, 1] and len(read_ledger(run.ledger)) == 1
    written: list[Path] = []
    start(config, tmp_path, on_write=written.append)
    assert not written


@pytest.mark.parametrize("filter", ["rect", "prune"])
def test_a_run_writes_what_the_filter_left_and_goes_on_with_it(
    tmp_path: Path, make_config: MakeConfig, filter: str
) -> None:
    plain = RunDir(start(make_config(edits=[1]), tmp_path))
    config = make_config(filter=filter)
    whole = RunDir(start(config, tmp_path / "whole"))
    (site,) = read_update(plain.update(1)).sites
    before = load(config.model).weight(site)
    change = read_update(plain.update(1)).sites[site]
    clipped = load_filter(filter)(change, Held(before, before))  # type: ignore[misc]
    expected = WeightDelta({site: clipped}).dense(site)
    assert torch.equal(read_update(whole.update(1)).dense(site), expected)
    assert not torch.equal(expected, read_update(plain.update(1)).dense(site)) or filter == "prune"
    # Cut back to the first checkpoint and started again, it ends with the same bits.
    lines = whole.ledger.read_text().splitlines(keepends=True)
    whole.ledger.write_text(lines[0])
    last = whole.update(3).read_bytes()
    whole.update(3).unlink()
    start(whole.path)
    assert whole.update(3).read_bytes() == last
    assert read_ledger(whole.ledger)[2].fingerprint == json.loads(lines[2])["fingerprint"]


def test_a_deleted_table_is_measured_again(tmp_path: Path, make_config: MakeConfig) -> None:
    run = RunDir(start(make_config(), tmp_path))
    for file in (run.table(1, "locality"), run.health(1)):
        before = file.read_bytes()
        file.unlink()
        written: list[Path] = []
        start(run.path, on_write=written.append)
        assert set(written) == {file} and file.read_bytes() == before


def test_a_moved_folder_goes_on_where_it_is(tmp_path: Path, make_config: MakeConfig) -> None:
    moved = start(make_config(edits=[1]), tmp_path).rename(tmp_path / "elsewhere")
    RunDir(moved).health(1).unlink()
    assert start(moved, tmp_path / "unused") == moved
    assert RunDir(moved).health(1).exists() and not (tmp_path / "unused").exists()


def test_batches_end_at_checkpoints(tmp_path: Path, make_config: MakeConfig) -> None:
    run = RunDir(start(make_config(method="memit", edits=[1, 4], batch=2), tmp_path))
    assert [len(entry.requests) for entry in read_ledger(run.ledger)] == [1, 2, 1]


def test_a_method_that_writes_one_at_a_time_gets_one_at_a_time(tmp_path: Path, make_config: MakeConfig) -> None:
    with pytest.warns(UserWarning, match="rome writes one edit at a time; batches of 2 are split"):
        run = RunDir(start(make_config(edits=[2], batch=2), tmp_path))
    assert [len(entry.requests) for entry in read_ledger(run.ledger)] == [1, 1]
    assert read_resolved(run).config.batch == 1


def test_states_are_kept_at_checkpoints_and_at_the_end(tmp_path: Path, make_config: MakeConfig) -> None:
    run = RunDir(start(make_config(method="memit", edits=[2, 4]), tmp_path))
    assert [run.state(batch).exists() for batch in (1, 2, 3, 4)] == [False, True, False, True]


def test_the_seed_decides_and_nothing_else(tmp_path: Path, make_config: MakeConfig) -> None:
    def last(root: str, seed: int) -> Any:
        torch.rand(3)  # the state of the process must not matter
        return read_ledger(RunDir(start(make_config(edits=[2], seed=seed), tmp_path / root)).ledger)[-1].fingerprint

    assert last("a", 0) == last("b", 0) != last("c", 1)


# Requests and data


def _data(tmp_path: Path, content: list[dict[str, Any]]) -> str:
    return str(write_rows(tmp_path / "edits.jsonl", content))


def test_requests_that_cannot_be_located_are_skipped(tmp_path: Path, make_config: MakeConfig) -> None:
    content = rows()
    content[1]["prompt"] = f"{'very ' * 300} far from Germany is"
    config = make_config(data=_data(tmp_path, content), edits=[1, 4])
    run = RunDir(start(config, tmp_path))
    skipped, *batches = read_ledger(run.ledger)
    assert (skipped.batch, skipped.status, skipped.requests) == (0, "skipped", ("germany",))
    assert skipped.reason is not None and "tokens" in skipped.reason
    assert [entry.requests[0] for entry in batches] == ["france", "spain", "italy"]
    assert run.checkpoints() == [0, 1, 3]
    start(config, tmp_path)
    assert len(read_ledger(run.ledger)) == 4


def test_an_edit_that_contradicts_an_earlier_one_is_skipped(tmp_path: Path, make_config: MakeConfig) -> None:
    content = rows()
    content.insert(1, content[0] | {"id": "again", "target_new": content[1]["target_new"]})
    run = RunDir(start(make_config(data=_data(tmp_path, content), edits=[2]), tmp_path))
    skipped, *batches = read_ledger(run.ledger)
    assert skipped.requests == ("again",) and skipped.reason and skipped.reason.startswith("contradicts edit france")
    assert [entry.requests[0] for entry in batches] == ["france", "germany"]


def test_too_few_edits(tmp_path: Path, make_config: MakeConfig) -> None:
    with pytest.raises(BadInput, match="holds 4 edits and `edits` asks for 10"):
        start(make_config(edits=[10]), tmp_path)
    assert not list(tmp_path.iterdir())


def test_data_that_changed_since(tmp_path: Path, make_config: MakeConfig) -> None:
    content = rows()
    config = make_config(data=_data(tmp_path, content), edits=[1])
    start(config, tmp_path)
    content[0]["target_new"] = "Nice"
    _data(tmp_path, content)
    with pytest.raises(BadInput, match="the edits changed since"):
        start(config, tmp_path)


def test_a_model_that_changed_since(tmp_path: Path, make_config: MakeConfig) -> None:
    save_model(tmp_path / "model")
    config = make_config(model=str(tmp_path / "model"), edits=[1])
    start(config, tmp_path)
    model = load(config.model)
    model.write(model.site(0), 2 * model.weight(model.site(0)))
    model.model.save_pretrained(tmp_path / "model")
    with pytest.raises(BadInput, match="the weights of the model changed since"):
        start(config, tmp_path)


def test_an_unedited_model_that_gives_nan(tmp_path: Path, make_config: MakeConfig) -> None:
    save_model(tmp_path / "model")
    model = load(str(tmp_path / "model"))
    model.write(model.site(0), torch.full_like(model.weight(model.site(0)), torch.nan))
    model.model.save_pretrained(tmp_path / "model")
    with pytest.raises(BadInput, match="NaN or infinite logits before any edit"):
        start(make_config(model=str(tmp_path / "model")), tmp_path / "runs")
    assert not list((tmp_path / "runs").iterdir())


# Methods and artifacts


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"method": "rmoe", "options": {}}, "rome"),
        ({"options": {"layr": 1}}, "layer"),
        ({"preset": "relaesed"}, "released"),
    ],
)
def test_what_the_method_cannot_do(tmp_path: Path, make_config: MakeConfig, change: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        start(make_config(**change), tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_a_corpus_the_missing_artifact_names_the_command(
    tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ERRATA_CACHE", str(tmp_path / "cache"))
    with pytest.raises(MissingArtifact, match="errata artifacts build second-moment"):
        start(make_config(second_moment=None), tmp_path)


def test_other_second_moments_than_the_run_began_with(
    tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ERRATA_CACHE", str(tmp_path / "cache"))
    run = RunDir(start(make_config(edits=[1]), tmp_path))
    described = json.loads(run.artifacts.read_text())
    described["second-moment of layer 0"]["sha256"] = "another"
    run.artifacts.write_text(json.dumps(described))
    with pytest.raises(BadInput, match="second-moment of layer 0"):
        start(run.path)


@dataclass(frozen=True)
class Misbehaving:
    """Adds `scale` everywhere at one site; for the request `victim` does what `fault` says instead."""

    name: ClassVar[str] = "misbehaving"
    paper: ClassVar[str] = "none"
    batch: ClassVar[bool] = True

    site: str = "model.layers.0.mlp.down_proj"
    scale: float = 0.01
    fault: str = ""
    victim: str = "germany"

    def needs(self, model: EditableModel) -> tuple[Need, ...]:
        return ()

    def edit(
        self,
        model: EditableModel,
        requests: Sequence[EditRequest],
        state: State,
        artifacts: Artifacts,
        progress: Progress | None = None,
    ) -> EditResult:
        change = torch.full_like(model.weight(self.site), self.scale)
        if self.victim in [request.id for request in requests]:
            if self.fault == "refuses":
                raise BadInput("no such subject")
            if self.fault == "diverges":
                raise Diverged("the loss became NaN at step 3")
            if self.fault == "singular":
                torch.linalg.cholesky(-torch.eye(2))
            if self.fault == "nan":
                change[0, 0] = torch.nan
        count = state.get("count", torch.zeros(1)) + len(requests)
        return EditResult(WeightDelta({self.site: change}), {"count": count})


@pytest.fixture
def misbehaving(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> MakeConfig:
    monkeypatch.setattr("errata.editing.load_editor", lambda name, **options: Misbehaving(**options))
    for module in ("errata.editing", "errata.runs.setup"):
        monkeypatch.setattr(f"{module}.check_options", lambda name, options: None)

    def make(**changes: Any) -> Any:
        return make_config(**{"method": "misbehaving", "second_moment": None, **changes})

    return make


@pytest.mark.parametrize(
    ("fault", "status", "reason"),
    [
        ("refuses", "skipped", "no such subject"),
        ("diverges", "diverged", "NaN at step 3"),
        ("singular", "diverged", "positive-definite"),
        ("nan", "diverged", "model.layers.0.mlp.down_proj"),
    ],
)
def test_a_batch_that_fails_is_recorded_and_the_run_goes_on(
    tmp_path: Path, misbehaving: MakeConfig, fault: str, status: str, reason: str
) -> None:
    config = misbehaving(options={"fault": fault})
    run = RunDir(start(config, tmp_path))
    first, failed, third = read_ledger(run.ledger)
    assert (failed.status, failed.edits, failed.requests) == (status, 2, ("germany",))
    assert failed.reason is not None and reason in failed.reason
    assert failed.fingerprint == first.fingerprint != third.fingerprint
    assert [run.update(batch).exists() for batch in (1, 2, 3)] == [True, False, True]
    assert run.checkpoints() == [0, 1, 3]
    run.health(3).unlink()
    written: list[Path] = []
    start(config, tmp_path, on_write=written.append)
    assert set(written) == {run.health(3)}


def test_a_method_that_refuses_the_first_batch_is_wrong_from_the_start(tmp_path: Path, misbehaving: MakeConfig) -> None:
    with pytest.raises(BadInput, match="no such subject"):
        start(misbehaving(options={"fault": "refuses", "victim": "france"}), tmp_path)


def test_the_state_reaches_the_next_batch_past_one_that_failed(tmp_path: Path, misbehaving: MakeConfig) -> None:
    run = RunDir(start(misbehaving(options={"fault": "nan"}), tmp_path))
    assert read_state(run.state(3))["count"].item() == 2
    assert [entry.carries for entry in read_ledger(run.ledger)] == [True, False, True]


def test_a_state_that_is_lost_is_computed_again(tmp_path: Path, misbehaving: MakeConfig) -> None:
    config = misbehaving(edits=[2])

    def stop(path: Path) -> None:
        if path.name == "00002.safetensors":
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        start(config, tmp_path, on_write=stop)
    run = RunDir(tmp_path / run_name(config))
    run.state(1).unlink()
    assert start(config, tmp_path) == run.path
    undisturbed = read_ledger(RunDir(start(config, tmp_path / "undisturbed")).ledger)
    assert [e.fingerprint for e in read_ledger(run.ledger)] == [e.fingerprint for e in undisturbed]


def test_a_model_that_editing_makes_useless_is_scored_as_invalid(tmp_path: Path, misbehaving: MakeConfig) -> None:
    run = RunDir(start(misbehaving(options={"site": "lm_head", "scale": 3e38}), tmp_path))
    assert read_ledger(run.ledger)[0].status == "applied"
    assert all(row.invalid and not row.correct for row in read_records(run.table(1, "efficacy")))
    assert not any(row.invalid for row in read_records(run.table(0, "efficacy")))
    assert json.loads(run.health(1).read_text())["perplexity"] is None


# Tasks


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int | None, int]]:
    """Stands in for the harness; lists what it was asked for."""
    asked: list[tuple[str, int | None, int]] = []

    def evaluate(
        lm: object, tasks: Sequence[str], limit: int | None, seed: int, progress: Progress, *_: object, **given: bool
    ) -> dict[str, list[Record]]:
        assert not given["chat"]
        asked.extend((task, limit, seed) for task in tasks)
        progress(tasks[0], 1, 1)
        row = Record(tasks[0], "1", True, True, False, False, "x", "x", "x")
        return {task: [row] for task in tasks}

    def check_tasks(tasks: Sequence[str], data_dir: str | None) -> dict[str, str]:
        if "typo" in tasks:
            raise BadInput("no task is called 'typo'")
        return {}

    stand_in = SimpleNamespace(
        evaluate=evaluate, check_tasks=check_tasks, answering=lambda model, engine, **kept: nullcontext(model)
    )
    monkeypatch.setitem(sys.modules, "errata.capability.harness", stand_in)
    return asked


def test_each_task_is_a_file_at_every_checkpoint(
    tmp_path: Path, make_config: MakeConfig, harness: list[tuple[str, int | None, int]]
) -> None:
    config = make_config(edits=[1], tasks=["b", "a"], limit=5, seed=3)
    run = RunDir(start(config, tmp_path))
    assert {"a", "b"} < set(run.tables(0)) and {"a", "b"} < set(run.tables(1))
    assert harness == [("b", 5, 3), ("a", 5, 3)] * 2
    run.table(1, "a").unlink()
    start(config, tmp_path)
    assert harness[4:] == [("a", 5, 3)]


@pytest.mark.usefixtures("harness")
def test_a_wrong_task_is_told_before_anything_is_done(tmp_path: Path, make_config: MakeConfig) -> None:
    with pytest.raises(BadInput, match="typo"):
        start(make_config(tasks=["a", "typo"]), tmp_path)
    assert not list(tmp_path.iterdir())


# Stopping


def test_ctrl_c_names_the_command_and_the_run_goes_on_to_the_same_end(tmp_path: Path, make_config: MakeConfig) -> None:
    config = make_config()
    expected = read_ledger(RunDir(start(config, tmp_path / "undisturbed")).ledger)[-1].fingerprint

    def impatient(what: str, done: int, total: int) -> None:
        if list(tmp_path.glob("stopped/*/updates/00002.safetensors")):
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match=r"errata run .*stopped"):
        start(config, tmp_path / "stopped", impatient)
    run = RunDir(start(config, tmp_path / "stopped"))
    assert read_ledger(run.ledger)[-1].fingerprint == expected
    assert not run.owner.exists()


def test_a_full_disk_names_the_folder_and_keeps_what_is_done(tmp_path: Path, make_config: MakeConfig) -> None:
    config = make_config(edits=[1], probe_limit=1)
    run = RunDir(tmp_path / run_name(config))

    def full(path: Path) -> None:
        if path == run.table(1, "efficacy"):
            raise OSError(28, "No space left on device")

    with pytest.raises(ErrataError, match=r"cannot write efficacy\.parquet in .*00001: No space left"):
        start(config, tmp_path, on_write=full)
    assert not run.table(1, "efficacy").exists() and run.table(0, "efficacy").exists()
    assert start(config, tmp_path) == run.path and run.table(1, "efficacy").exists()


def test_a_root_that_is_a_file(tmp_path: Path, make_config: MakeConfig) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(ErrataError, match=r"cannot write run\.lock in .*runs"):
        start(make_config(), tmp_path / "runs")


def test_a_run_in_use(tmp_path: Path, make_config: MakeConfig) -> None:
    with locked(RunDir(tmp_path / run_name(make_config()))), pytest.raises(RunInUse):
        start(make_config(), tmp_path)


@pytest.mark.parametrize("setting", ["sequential", "single"])
@pytest.mark.parametrize("removed", ["updates/00002.safetensors", "state/*.safetensors", "updates", "scores/00001"])
def test_what_was_removed_is_computed_again(
    tmp_path: Path, make_config: MakeConfig, removed: str, setting: str
) -> None:
    """MEMIT's state of batch 2 is long gone when its update is missed: it is reached from an earlier one."""
    config = make_config(method="memit", edits=[1, 4], batch=1, probe_limit=1, setting=setting)
    run = RunDir(start(config, tmp_path))
    before = {path: path.read_bytes() for path in run.path.rglob("*.*") if path != run.costs and path.is_file()}
    for path in run.path.glob(removed):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert setting == "single" or not is_finished(run)
    start(config, tmp_path)
    assert is_finished(run)
    assert {path: path.read_bytes() for path in before} == before


def test_weights_that_cannot_be_reproduced_are_noticed(tmp_path: Path, make_config: MakeConfig) -> None:
    run = RunDir(start(make_config(edits=[1]), tmp_path))
    run.ledger.write_text(run.ledger.read_text().replace('"fingerprint": "', '"fingerprint": "0'))
    with pytest.raises(ErrataError, match="not those of the ledger"):
        start(run.path)


def test_another_environment_is_told(tmp_path: Path, make_config: MakeConfig) -> None:
    run = RunDir(start(make_config(edits=[0]), tmp_path))
    values = yaml.safe_load(run.config.read_text())
    values["versions"]["torch"] = "1.0"
    run.config.write_text(yaml.safe_dump(values))
    with pytest.warns(UserWarning, match="torch 1.0 -> "):
        start(run.path)
