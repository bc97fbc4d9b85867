"""Which edits a run makes: in what order, without those that are known, and the same ones when it goes on."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from tiny_world import MakeConfig, rows

from errata.model.editable import EditableModel
from errata.model.tiny import tiny_model
from errata.runs import selection
from errata.runs.config import RunConfig, parse_config, run_name
from errata.runs.layout import RunDir
from errata.runs.ledger import read_ledger
from errata.runs.runner import start
from errata.runs.selection import KNOWN, read_known, select
from errata.runs.setup import prepare
from errata.types import EditCase, EditRequest

Asked = list[str]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Ids that the model was asked; it knows Spain and every case whose number is a multiple of three."""
    ids: Asked = []

    def answered(model: EditableModel, cases: Sequence[EditCase]) -> list[bool]:
        ids.extend(case.request.id for case in cases)
        return [name == "spain" or (name.isdecimal() and int(name) % 3 == 0) for name in ids[-len(cases) :] if cases]

    monkeypatch.setattr(selection, "answered", answered)
    return ids


def case(n: int, prompt: str = "The capital of Land is", group: str = "") -> EditCase:
    return EditCase(EditRequest(str(n), f"{n} {prompt}", "Land", "Lyon"), group=group)


def order(config: RunConfig) -> list[str]:
    return [case.request.id for case in prepare(config).cases]


def test_the_first_ones_or_a_seeded_choice(make_config: MakeConfig) -> None:
    file = [row["id"] for row in rows()]
    assert order(make_config()) == order(make_config(select="first", seed=5)) == file[:3]
    seeded = {seed: order(make_config(select="seeded", seed=seed)) for seed in (0, 5)}
    assert seeded[0] != file[:3] and seeded[5] == order(make_config(seed=5)) != file[:3]


def test_what_is_known_is_left_out_and_asked_only_as_far_as_needed(asked: Asked) -> None:
    model = tiny_model("llama", layers=1)
    kept, skipped = select(model, [case(n) for n in range(200)], 50, None)
    assert [c.request.id for c in kept] == [str(n) for n in range(75) if n % 3]
    assert skipped == [(str(n), KNOWN) for n in range(0, 74, 3)]
    assert asked == [str(n) for n in range(128)]  # two lots of 64


def test_nothing_is_asked_without_a_prefilter_or_twice(asked: Asked) -> None:
    model = tiny_model("llama", layers=1)
    cases = [case(n) for n in range(10)]
    assert len(select(model, cases, 10)[0]) == 10
    kept, skipped = select(model, cases, 10, ["4"])
    assert len(kept) == 9 and skipped == [("4", KNOWN)] and not asked


def test_a_group_goes_with_its_member_that_cannot_be_made_but_not_with_one_that_is_known(asked: Asked) -> None:
    model = tiny_model("llama", layers=1)
    long = case(2, "very " * 3000 + "far from Land is", "g")
    cases = [case(1, group="g"), long, case(3, group="h"), case(4, group="h"), case(5)]
    kept, skipped = select(model, cases, 5, None)
    assert [c.request.id for c in kept] == ["4", "5"] and "2" not in asked
    assert skipped[0] == ("1", "belongs together with edit 2, which cannot be made")
    assert "tokens" in skipped[1][1] and skipped[2] == ("3", KNOWN)


def test_a_run_goes_on_with_the_edits_it_began_with(tmp_path: Path, make_config: MakeConfig, asked: Asked) -> None:
    config = make_config(prefilter=True, probe_limit=1)
    run = RunDir(start(config, tmp_path))
    skipped, *batches = read_ledger(run.ledger)
    assert (skipped.requests, skipped.reason) == (("spain",), KNOWN)
    assert [entry.requests for entry in batches] == [("france",), ("germany",), ("italy",)]
    assert read_known(run) == ["spain"] and set(asked) == {"france", "germany", "spain", "italy"}
    asked.clear()
    assert start(config, tmp_path) == run.path and not asked
    run.known.write_text(json.dumps({"edits": []}))
    with pytest.raises(Exception, match="the edits changed"):
        start(config, tmp_path)


def test_an_unfinished_beginning_knows_what_was_known(tmp_path: Path, make_config: MakeConfig, asked: Asked) -> None:
    config = make_config(prefilter=True, edits=[0], probe_limit=1)

    class Stopped(Exception):
        pass

    def stop(path: Path) -> None:
        if path.name == "config.yaml":
            raise Stopped

    with pytest.raises(Stopped):
        start(config, tmp_path, on_write=stop)
    run = RunDir(tmp_path / run_name(config))
    assert run.known.exists() and not run.config.exists()
    asked.clear()
    start(config, tmp_path)
    assert not asked and run.config.exists()


def test_a_run_without_prefilter_writes_nothing_of_it(tmp_path: Path, make_config: MakeConfig) -> None:
    run = RunDir(start(make_config(edits=[0], probe_limit=1), tmp_path))
    assert read_known(run) is None


def test_keys_of_the_selection_name_a_run_only_where_they_are_used() -> None:
    base = {"model": "atlas", "method": "rome", "data": "atlas", "edits": [1]}
    assert run_name(parse_config(base)) == "rome-atlas-atlas-04a19467"
    assert run_name(parse_config(base | {"select": None, "prefilter": False})) == run_name(parse_config(base))
    changed = [base | change for change in ({"prefilter": True}, {"select": "first"}, {"select": "seeded"})]
    assert len({run_name(parse_config(values)) for values in (base, *changed)}) == 4
