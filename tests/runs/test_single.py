"""The single setting: every batch on the unedited weights, measured, and undone."""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_world import MakeConfig

from errata.errors import ErrataError
from errata.model.loading import load
from errata.records import Record, read_records
from errata.runs.checkpoint import read_update
from errata.runs.layout import RunDir
from errata.runs.ledger import read_ledger
from errata.runs.runner import start
from errata.update.session import EditSession


def test_each_batch_is_alone_in_the_model(tmp_path: Path, make_config: MakeConfig) -> None:
    config = make_config(setting="single", edits=[3])
    run = RunDir(start(config, tmp_path))
    assert run.checkpoints() == [0, 1, 2, 3]
    session = EditSession(load(config.model))
    for entry in read_ledger(run.ledger):
        session.apply(read_update(run.update(entry.batch)))
        assert session.fingerprint() == entry.fingerprint
        session.undo()
        rows = [row for file in run.tables(entry.edits).values() for row in read_records(file)]
        assert {row.edit for row in rows} == {entry.edits - 1}
        assert set(run.tables(entry.edits)) == {"efficacy", "generalization", "locality"}
        drift = json.loads(run.health(entry.edits).read_text())["norm_drift"]
        assert len(drift) == 1 and next(iter(drift.values())) != 1


def test_the_first_batch_is_that_of_the_sequential_setting_and_the_second_is_not(
    tmp_path: Path, make_config: MakeConfig
) -> None:
    alone, after = (
        RunDir(start(make_config(setting=setting, edits=[2]), tmp_path)) for setting in ("single", "sequential")
    )
    first, second = ([read_update(run.update(batch)) for run in (alone, after)] for batch in (1, 2))
    (site,) = first[0].sites
    assert torch.equal(first[0].dense(site), first[1].dense(site))
    assert not torch.equal(second[0].dense(site), second[1].dense(site))
    # Made again on the unedited model, with nothing carried on from the first edit.
    assert read_records(alone.table(2, "efficacy"))[0].edit == 1


def test_the_unedited_model_is_asked_all_that_any_batch_will_be(tmp_path: Path, make_config: MakeConfig) -> None:
    run = RunDir(start(make_config(setting="single", edits=[4], method="memit", batch=3, probe_limit=1), tmp_path))
    assert run.checkpoints() == [0, 3, 4]
    assert [len(entry.requests) for entry in read_ledger(run.ledger)] == [3, 1]
    asked = {edits: {row.item for row in read_records(run.table(edits, "efficacy"))} for edits in (0, 3, 4)}
    assert asked[0] == asked[3] | asked[4] and asked[4] == {"italy"} and asked[3] <= {"france", "germany", "spain"}


def test_nothing_is_carried_on(tmp_path: Path, make_config: MakeConfig) -> None:
    run = RunDir(start(make_config(setting="single", edits=[2], method="memit"), tmp_path))
    assert not any(entry.carries for entry in read_ledger(run.ledger)) and not run.state(1).exists()
    again = RunDir(start(make_config(setting="single", edits=[2], method="grace"), tmp_path))
    assert [entry.entries for entry in read_ledger(again.ledger)] == [1, 1]


def test_a_missing_table_is_measured_with_its_own_batch_alone(tmp_path: Path, make_config: MakeConfig) -> None:
    run = RunDir(start(make_config(setting="single", edits=[3]), tmp_path))
    before = run.table(2, "efficacy").read_bytes()
    run.table(2, "efficacy").unlink()
    written: list[Path] = []
    start(run.path, on_write=written.append)
    assert set(written) == {run.table(2, "efficacy")} and run.table(2, "efficacy").read_bytes() == before


def test_a_batch_that_cannot_be_reproduced_is_noticed(tmp_path: Path, make_config: MakeConfig) -> None:
    run = RunDir(start(make_config(setting="single", edits=[2]), tmp_path))
    run.ledger.write_text(run.ledger.read_text().replace('"fingerprint": "', '"fingerprint": "0', 1))
    run.health(1).unlink()
    with pytest.raises(ErrataError, match="batch 1 the weights are not those of the ledger"):
        start(run.path)


def test_rows_of_abilities_say_whose_model_answered(
    tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def evaluate(lm: object, tasks: Sequence[str], *rest: Any, **given: bool) -> dict[str, list[Record]]:
        return {tasks[0]: [Record(tasks[0], "1", True, True, False, False, "x", "x", "x")]}

    stand_in = SimpleNamespace(evaluate=evaluate, check_tasks=lambda *_: {}, answering=lambda *_, **kept: nullcontext())
    monkeypatch.setitem(__import__("sys").modules, "errata.capability.harness", stand_in)
    run = RunDir(start(make_config(setting="single", edits=[2], tasks=["a"]), tmp_path))
    assert [read_records(run.table(edits, "a"))[0].edit for edits in (0, 1, 2)] == [None, 0, 1]
    plain = RunDir(start(make_config(edits=[1], tasks=["a"]), tmp_path))
    assert read_records(plain.table(1, "a"))[0].edit is None
