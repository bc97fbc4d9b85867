"""Runs made with known rates are weighed as their rates say."""

from dataclasses import replace
from pathlib import Path

import pytest
from synthetic_runs import CHECKPOINTS, HOLDS, TASKS, abilities, config_of, probes, rows, signs, steady, write_run

from errata.errors import BadInput
from errata.report.measures import analyse, labels, measure
from errata.report.results import Scores, read_results
from errata.report.summary import read
from errata.runs.layout import RunDir
from errata.stats.power import detectable_change
from errata.stats.rates import wilson, wilson_clustered


def scores(tmp_path: Path, table: str, n: int, right: float, **kinds: object) -> Scores:
    path = write_run(tmp_path, config_of("rome", edits=[0]), {0: {table: rows(table, n, right, **kinds)}})
    found = read_results(path).get(0, table)
    assert found is not None
    return found


def test_rates_of_one_table(tmp_path: Path) -> None:
    found = measure(scores(tmp_path, "atlas_mmlu", 60, 0.7, empty=0.1))
    assert (found.n, found.accuracy, found.empty, found.parsed) == (60, 0.7, 0.1, 0.9)
    assert (found.low, found.high) == wilson(42, 60)
    assert found.given_parsed == pytest.approx(0.7 / 0.9)
    assert found.chance is None and found.best_share == found.blind == pytest.approx(1 / 60)


def test_the_answers_are_counted(tmp_path: Path) -> None:
    found = measure(scores(tmp_path, "atlas_toxigen", 60, 0.0, constant=" No", invalid=0.1), 0.5)
    assert found.answers == {" No": 54} and found.non_finite == 6
    assert (found.best, found.best_share, found.blind) == (" No", 0.6, 0.6)
    many = measure(scores(tmp_path / "many", "atlas_mmlu", 60, 1.0))
    assert len(many.answers) == 10 and set(many.answers.values()) == {1}


def test_items_of_many_subjects_count_by_subject(tmp_path: Path) -> None:
    """As MMLU's 57, but not the three of atlas_bbh."""

    def asked(name: str, subjects: int) -> Scores:
        made = [
            replace(row, correct=i % subjects % 3 > 0, extra={"part": f"mmlu_{i % subjects}"})
            for i, row in enumerate(rows("mmlu", 114, 1.0))
        ]
        config = config_of("rome", edits=[0], tasks=["mmlu"])
        found = read_results(write_run(tmp_path / name, config, {0: {"mmlu": made}})).get(0, "mmlu")
        assert found is not None
        return found

    many, few = asked("many", 57), asked("few", 3)
    assert (measure(many).low, measure(many).high) == wilson_clustered(many.correct, many.kind)
    assert measure(many).low < wilson(76, 114).low
    assert (measure(few).low, measure(few).high) == wilson(76, 114)


def test_graded_items_have_a_mean_score(tmp_path: Path) -> None:
    made = [replace(row, extra={"score": 0.25 if i % 2 else 0.75}) for i, row in enumerate(rows("f1", 60, 0.5))]
    worse = [replace(row, extra={"score": row.extra["score"] - 0.1}) for row in made]
    config = config_of("rome", edits=[0, 1], tasks=["f1"])
    (analysis,) = read([write_run(tmp_path, config, {0: {"f1": made}, 1: {"f1": worse}})])
    found, change = analysis.measures[0]["f1"], analysis.curve[1]["f1"]
    assert found.accuracy == pytest.approx(0.5) and 0.4 < found.low < 0.5 < found.high < 0.6
    assert change.difference == pytest.approx(-0.1) and change.low < change.high < 0
    assert analysis.equivalence(1, "f1") is None and analysis.detectable(1, "f1") is None


def test_mostly_invalid_is_no_score(tmp_path: Path) -> None:
    found = measure(scores(tmp_path, "atlas_mmlu", 60, 0.9, invalid=0.6))
    assert found.accuracy is None and found.invalid == 0.6


def test_an_invalid_item_is_not_right(tmp_path: Path) -> None:
    found = measure(scores(tmp_path, "atlas_mmlu", 60, 1.0, invalid=0.1))
    assert found.accuracy == pytest.approx(0.9)


def test_probes_of_one_edit_count_together(tmp_path: Path) -> None:
    found = scores(tmp_path, "locality", 40, 0.0)
    assert measure(found).high == pytest.approx(wilson(0, 20).high)


def test_contains_and_tokens_come_from_the_probes_own_fields(tmp_path: Path) -> None:
    made = [
        replace(row, extra={"contains": i < 3, "token_accuracy": 0.5}) for i, row in enumerate(rows("efficacy", 4, 0.5))
    ]
    path = write_run(tmp_path, config_of("rome", edits=[0]), {0: {"efficacy": made}})
    found = read_results(path).get(0, "efficacy")
    assert found is not None
    assert (measure(found).contains, measure(found).tokens, measure(found).legacy) == (0.75, 0.5, None)


def test_collapse_and_loss_of_a_run_that_collapses(rome: Path) -> None:
    (analysis,) = read([rome])
    assert analysis.collapse is not None and analysis.collapse.edits == 100
    assert analysis.loss is not None and analysis.loss.edits == 100
    assert [analysis.status(edits) for edits in CHECKPOINTS] == ["unedited", "held", "undecided", "collapsed"]
    assert analysis.horizon == 1
    assert set(analysis.flags(100, "atlas_gsm8k")) >= {"collapsed", "lost", "mute"}


def test_a_rise_by_constant_answers_is_flagged(rome: Path) -> None:
    (analysis,) = read([rome])
    assert analysis.curve[100]["atlas_toxigen"].difference > 0
    assert "constant" in analysis.flags(100, "atlas_toxigen")
    assert "constant" not in analysis.flags(10, "atlas_toxigen")
    assert "floor" in analysis.flags(0, "atlas_toxigen")


def test_a_rise_by_constant_answers_is_a_collapse_and_never_safe(tmp_path: Path) -> None:
    right, constant = rows("atlas_toxigen", 400, 0.3), rows("atlas_toxigen", 400, 0.0, constant=" No")
    tables = {0: {"atlas_toxigen": right}, 1: {"atlas_toxigen": right}, 10: {"atlas_toxigen": constant}}
    config = config_of("rome", edits=[0, 1, 10], tasks=["atlas_toxigen"])
    (analysis,) = read([write_run(tmp_path, config, tables)])
    assert analysis.curve[10]["atlas_toxigen"].above > 0
    assert analysis.collapse is not None and analysis.collapse.edits == 10
    assert (analysis.status(1), analysis.status(10), analysis.horizon) == ("held", "collapsed", 1)
    assert (analysis.verdict(1, "atlas_toxigen"), analysis.verdict(10, "atlas_toxigen")) == ("equivalent", "harm")


def test_a_run_that_holds(memit: Path) -> None:
    (analysis,) = read([memit], margin=0.11)
    assert (analysis.collapse, analysis.loss, analysis.horizon) == (None, None, 100)
    assert analysis.ability[0].value == pytest.approx((0.9 + 0.8 + 0.7 + 0.95 + 0.5) / 5)
    assert analysis.change[100].value == pytest.approx(-2 / 60 / 5)
    (strict,) = read([memit], margin=0.01)
    assert strict.horizon is None and strict.status(100) == "undecided"


def test_logits_that_are_not_finite_are_a_collapse_even_of_a_poor_model(tmp_path: Path) -> None:
    low = {task: rows(task, 60, 0.02) for task in TASKS}
    gone = low | {"atlas_bbh": rows("atlas_bbh", 60, 0.02, invalid=1.0)}
    path = write_run(tmp_path, config_of("rome", edits=[0, 5]), {0: low, 5: gone})
    (analysis,) = read([path])
    assert analysis.collapse is not None and analysis.collapse.benchmark == "atlas_bbh"
    assert analysis.status(5) == "invalid"
    assert 5 not in analysis.ability


def test_only_common_items_are_compared(tmp_path: Path) -> None:
    before, after = rows("atlas_mmlu", 60, 0.9), rows("atlas_mmlu", 60, 0.9)[10:]
    path = write_run(tmp_path, config_of("rome", edits=[0, 1]), {0: {"atlas_mmlu": before}, 1: {"atlas_mmlu": after}})
    (analysis,) = read([path])
    assert (analysis.curve[1]["atlas_mmlu"].n, analysis.curve[1]["atlas_mmlu"].difference) == (50, 0)


def test_an_unfinished_run_is_read_as_far_as_it_is(tmp_path: Path) -> None:
    tables = {edits: named for edits, named in steady().items() if edits < 10}
    del tables[1]["atlas_bbh"]
    (analysis,) = read([write_run(tmp_path, config_of("memit"), tables)])
    assert analysis.last == 1 and set(analysis.curve[1]) == set(TASKS) - {"atlas_bbh"}
    assert 1 not in analysis.ability and 1 not in analysis.change


def test_health_counts_a_measure_of_each_matrix_by_its_largest(tmp_path: Path) -> None:
    values = {0: signs(3.0), 1: signs(None, 2.5)}
    path = write_run(tmp_path, config_of("rome"), {n: abilities() for n in (0, 1)}, health=values)
    found = read_results(path).health
    assert (found[0]["norm_drift"], found[1]["norm_drift"]) == (1.0, 2.5)
    assert found[1]["perplexity"] != found[1]["perplexity"]


def test_damaged_health_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path, config_of("rome"), {0: abilities()})
    RunDir(run).health(0).write_text('{"perplexity": "high"}', encoding="utf-8")
    with pytest.raises(BadInput, match=r"health\.json is not a JSON object of numbers"):
        read_results(run)


def test_nothing_to_report(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no run to report on"):
        read([])
    with pytest.raises(BadInput, match="is not a run"):
        read([tmp_path])
    empty = write_run(tmp_path, config_of("rome"), {})
    with pytest.raises(BadInput, match="no finished measurement"):
        read([empty])


def test_labels_name_what_differs(tmp_path: Path) -> None:
    configs = [config_of("memit"), config_of("rome"), config_of("rome", seed=1), config_of("rome", seed=1, limit=50)]
    runs = [read_results(write_run(tmp_path / str(i), c, {0: abilities()})) for i, c in enumerate(configs)]
    assert labels(runs[:2]) == ["MEMIT", "ROME"]
    assert labels(runs[:3]) == ["MEMIT, seed 0", "ROME, seed 0", "ROME, seed 1"]
    clipped = config_of("rome", seed=1, filter={"name": "rect"})
    filtered = read_results(write_run(tmp_path / "filtered", clipped, {0: abilities()}))
    assert labels([runs[2], filtered]) == ["ROME", "ROME, RECT filter"]
    twins = labels(runs[2:])
    assert len(set(twins)) == 2 and all(name.startswith("ROME (") for name in twins)


def test_the_margin_is_five_points_on_atlas_two_elsewhere_or_as_stated(tmp_path: Path) -> None:
    small = read_results(write_run(tmp_path / "small", config_of("rome"), {0: abilities()}))
    whole = config_of("rome", model="gpt2", tasks=["mmlu"], data="edits.jsonl")
    full = read_results(write_run(tmp_path / "full", whole, {0: {"mmlu": rows("mmlu", 60, 0.6)}}))
    assert [a.margin for a in analyse([small], {})] == [0.05]
    assert [a.margin for a in analyse([full], {})] == [0.02]
    assert [a.margin for a in analyse([full, small], {})] == [0.05, 0.05]
    assert [a.margin for a in analyse([full, small], {}, 0.0)] == [0.0, 0.0]


def test_what_is_equivalent_and_what_could_have_been_seen(memit: Path) -> None:
    (analysis,) = read([memit])
    same, lost = (analysis.equivalence(100, task) for task in ("atlas_mmlu", "atlas_gsm8k"))
    assert same == pytest.approx(0.95**60) and lost is not None and lost > 0.05
    assert analysis.detectable(100, "atlas_mmlu") == detectable_change(60, 0.0, 0.01)


def test_a_benchmark_near_nothing_can_show_no_loss(tmp_path: Path) -> None:
    low = {"atlas_gsm8k": rows("atlas_gsm8k", 60, 0.05)}
    config = config_of("rome", edits=[0, 1], tasks=["atlas_gsm8k"])
    (analysis,) = read([write_run(tmp_path, config, {0: low, 1: low})])
    assert analysis.detectable(1, "atlas_gsm8k") is None


def test_chance_is_the_tasks_own_where_it_is_known(memit: Path) -> None:
    (known,) = analyse([read_results(memit)], {"atlas_toxigen": 0.5})
    (guessed,) = analyse([read_results(memit)], {})
    assert known.measures[0]["atlas_toxigen"].chance == 0.5
    assert guessed.measures[0]["atlas_toxigen"].chance is None
    assert known.measures[0]["atlas_toxigen"].best_share == pytest.approx(0.6)


def test_probes_are_no_abilities(memit: Path) -> None:
    results = read_results(memit)
    assert results.tasks == TASKS == tuple(HOLDS)
    assert results.probes == ("efficacy", "generalization", "locality", "retention")
    assert set(probes(1, 1.0)) == set(results.probes)
