"""What a run's folder holds, as a report reads it: kinds of probes, and batches that were each alone in the model."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic_runs import config_of, entries, rows, signs, write_run

from errata.cli.report import report as command
from errata.records import Record
from errata.report.measures import measure
from errata.report.results import read_results
from errata.report.summary import read, summarize
from errata.stats.rates import wilson


def kinds(table: str, shares: Mapping[str, float], n: int = 20) -> list[Record]:
    """n rows of each kind, of which a share is right."""
    made = [(kind, row) for kind, right in shares.items() for row in rows(table, n, right)]
    return [replace(row, item=f"{row.item}/{kind}", extra={"kind": kind}) for kind, row in made]


def test_kinds_are_shown_apart_and_random_edits_stand_for_retention(tmp_path: Path) -> None:
    tables = {
        0: {"efficacy": rows("efficacy", 20, 0.0)},
        10: {
            "efficacy": rows("efficacy", 20, 1.0),
            "retention": kinds("retention", {"first": 0.1, "random": 0.5, "last": 0.9}),
            "portability": kinds("portability", {"two_hop": 0.0, "alias": 0.5, "one_hop": 0.25}),
        },
    }
    found = read_results(write_run(tmp_path, config_of("rome", edits=[10], tasks=[]), tables))
    assert found.probes == (
        *("efficacy", "retention", "retention/first", "retention/last"),
        *("portability", "portability/alias", "portability/one_hop", "portability/two_hop"),
    )
    assert not found.tasks
    shares = {name: measure(scores).accuracy for name, scores in found.scores[10].items()}
    assert shares["retention"] == 0.5 and (shares["retention/first"], shares["retention/last"]) == (0.1, 0.9)
    assert shares["portability"] == pytest.approx(0.25) and shares["portability/alias"] == 0.5


def test_rows_without_kinds_are_read_as_before(tmp_path: Path) -> None:
    tables = {1: {"retention": rows("retention", 20, 0.5), "portability": rows("portability", 20, 0.5)}}
    found = read_results(write_run(tmp_path, config_of("rome", edits=[1], tasks=[]), tables))
    assert found.probes == ("retention", "portability")


@pytest.fixture
def singles(tmp_path: Path) -> Path:
    """Twenty edits each alone: the seventh takes the ability away, the others change nothing."""
    config = config_of("rome", edits=[20], tasks=["atlas_mmlu"], setting="single")
    whole = {"atlas_mmlu": rows("atlas_mmlu", 60, 0.9), "efficacy": rows("efficacy", 20, 0.0)}
    tables = {0: whole}
    for n in range(1, 21):
        ability = rows("atlas_mmlu", 60, 0.0 if n == 7 else 0.9)
        own = replace(rows("efficacy", 20, 0.0)[n - 1], correct=n > 5, edit=n - 1)
        tables[n] = {"atlas_mmlu": [replace(row, edit=n - 1) for row in ability], "efficacy": [own]}
    health = {n: signs(50.0 if n == 7 else 3.0, 1.1) for n in range(1, 21)} | {0: signs(3.0)}
    return write_run(tmp_path, config, tables, health=health, entries=entries("rome", 20, 0.5, 0.1))


def test_single_edits_are_one_checkpoint_with_one_edit(singles: Path) -> None:
    found = read_results(singles)
    assert found.checkpoints == (0, 1) and len(found.singles) == 20
    assert measure(found.scores[1]["efficacy"]).accuracy == 0.75
    assert found.health[1]["perplexity"] == 50.0


def test_an_item_that_many_models_were_asked_is_one_item(singles: Path) -> None:
    (analysis,) = read([singles])
    ability, change = analysis.get(1, "atlas_mmlu"), analysis.curve[1]["atlas_mmlu"]
    assert ability is not None and ability.n == 20 * 60
    assert change.difference == pytest.approx(-0.9 / 20) and change.effective <= 60 * 1.1
    alone = wilson(0.855 * 60, 60)
    assert ability.high - ability.low > 0.8 * (alone.high - alone.low)
    assert change.p > 0.01, "54 items that broke once each are not 54 items that broke"


def test_the_worst_single_edit_is_named(singles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = summarize([singles])
    texts = " ".join(sentence["text"] for sentence in told["sentences"])
    assert "wrote 20 edits of atlas" not in texts and "20 edits" in texts and "each on the unedited weights" in texts
    assert "r7 costs most" in texts and "After 1 edit with" in texts
    assert told["runs"][0]["setting"] == "single" and told["runs"][0]["ledger"]["applied"] == 20
    command([singles], out=tmp_path / "report", json=True)
    assert json.loads(capsys.readouterr().out)["runs"]
    lines = (tmp_path / "report" / "report-files" / "singles.csv").read_text().splitlines()
    assert lines[0].startswith("run,requests,ability") and ",r7,-0.9," in lines[1] and len(lines) == 21


def test_an_unfinished_run_of_single_edits_says_so(singles: Path) -> None:
    for folder in (singles / "scores").iterdir():
        if int(folder.name) > 15:
            for file in folder.glob("*.parquet"):
                file.unlink()
    texts = [sentence["text"] for sentence in summarize([singles])["sentences"]]
    assert "ROME is not finished: 5 edits are still to be made and measured." in texts
