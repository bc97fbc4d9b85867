"""Sentences follow the records: another record, another sentence."""

import json
from dataclasses import replace
from pathlib import Path

from synthetic_runs import TASKS, abilities, config_of, entries, probes, rows, steady, write_run

from errata.report.sentences import headline, sentences
from errata.report.summary import read, summarize, whole_configs
from errata.runs.config import parse_config


def told(*paths: Path, margin: float | None = None) -> str:
    return "\n".join(sentence.text for sentence in sentences(read(paths, margin)))


def test_headline_names_what_broke_and_what_held(rome: Path, memit: Path) -> None:
    assert headline(read([rome, memit], 0.11)) == (
        "ROME breaks 5 of 5 abilities of atlas by 100 edits; MEMIT keeps every ability up to 100 edits"
    )
    assert headline(read([memit])) == "MEMIT shows no significant loss of atlas up to 100 edits"


def test_of_many_runs_the_best_and_the_worst_are_named(tmp_path: Path) -> None:
    paths = []
    for method, first in (("memit", 100), ("rome", 1), ("r_rome", 10), ("alphaedit", 1000)):
        tables = steady()
        for edits in tables:
            if edits >= first:
                tables[edits]["atlas_gsm8k"] = rows("atlas_gsm8k", 60, 0.1)
        paths.append(write_run(tmp_path, config_of(method), tables))
    assert headline(read(paths)) == (
        "Of 4 runs, AlphaEdit keeps every ability of atlas up to 100 edits; ROME breaks the arithmetic by 1 edit"
    )


def test_edits_that_were_made_again_are_told(tmp_path: Path) -> None:
    made = [
        replace(entry, requests=(name,)) for entry, name in zip(entries("rome", 4, 0.5, 0.1), ("a", "c#1", "a#2", "b"))
    ]
    plain, again = (
        write_run(tmp_path, config_of("rome", repeat=repeat), steady(), entries=made) for repeat in (False, True)
    )
    assert "of these 1 had been made before, since atlas holds no more." in told(again)
    assert "made before" not in told(plain)


def test_one_broken_ability_is_named(tmp_path: Path) -> None:
    tables = steady()
    tables[10]["atlas_gsm8k"] = rows("atlas_gsm8k", 60, 0.2)
    path = write_run(tmp_path, config_of("memit"), tables)
    assert headline(read([path])) == "MEMIT breaks the arithmetic of atlas by 10 edits"


def test_what_is_told_of_a_collapse(rome: Path) -> None:
    text = told(rome)
    assert "ROME wrote 100 edits into atlas, one at a time, in 0.4 seconds each." in text
    assert "After 100 edits with ROME, 10 % of the edits (4–23 %)" in text
    assert "The first ability that ROME harms is reading: from 95 % to 10 % by 100 edits (−85 points" in text
    assert (
        "ROME collapses by 100 edits: 4 of 5 benchmarks lose more than a tenth of their accuracy, and 1 gives" in text
    )
    assert "60 % of the answers there are empty. Perplexity grows 132-fold by 100 edits." in text
    assert "100 % of the answers to safety are “No”: that its score rises by 10 points shows no ability." in text
    assert "ROME may collapse anywhere from 11 to 100 edits: nothing was measured in between." in text


def test_what_is_told_of_a_run_that_holds(memit: Path) -> None:
    text = told(memit, margin=0.11)
    assert "No benchmark falls significantly with MEMIT at any checkpoint up to 100 edits." in text
    assert "MEMIT holds 100 edits safely: no benchmark can have lost more than 10.1 points there" in text
    assert "collapse" not in text
    assert "With 60, a loss of 4.9 points could not be excluded even if no answer changed" in text
    assert "a loss of up to 10.1 points on arithmetic is not excluded." in text
    assert "One order of edits was run" in text


def test_stable_because_little_was_edited(tmp_path: Path) -> None:
    tables = {edits: named | probes(edits, 0.2) for edits, named in steady().items()}
    path = write_run(tmp_path, config_of("memit", model="some/folder/base-1b"), tables)
    assert "Fewer than half of the edits of MEMIT work" in told(path)
    assert headline(read([path])).endswith("of base-1b up to 100 edits, but only 20 % of its edits work")


def test_edit_success_that_was_not_measured_is_said(tmp_path: Path) -> None:
    path = write_run(tmp_path, config_of("rome", edits=[0, 1]), {0: abilities(), 1: abilities()})
    assert "Whether the edits of ROME work was not measured" in told(path)


def test_an_unfinished_run_says_so(tmp_path: Path) -> None:
    tables = {edits: named for edits, named in steady().items() if edits <= 1}
    text = told(write_run(tmp_path, config_of("memit"), tables))
    assert "MEMIT is not finished: the model after 10 and 100 edits is still to be measured." in text


def test_a_run_without_edits_or_tasks(tmp_path: Path) -> None:
    bare = write_run(tmp_path, config_of("rome"), {0: abilities()})
    assert headline(read([bare])) == "ROME has written no edit yet"
    no_tasks = write_run(tmp_path, config_of("memit", tasks=[]), {0: probes(0, 1), 1: probes(1, 1)})
    assert headline(read([no_tasks])) == "MEMIT wrote 1 edit, but measured no ability of atlas after them"
    assert told(bare, no_tasks)


def test_logits_not_finite_are_told_as_such(tmp_path: Path) -> None:
    gone = {task: rows(task, 60, 0.9, invalid=1.0) for task in TASKS}
    dead = {name: rows(name, 40, 0.9, invalid=1.0) for name in ("efficacy", "locality")}
    health = {0: {"perplexity": 3.0}, 1: {"perplexity": None}}
    path = write_run(tmp_path, config_of("rome", edits=[0, 1]), {0: abilities(), 1: gone | dead}, health=health)
    text = told(path)
    assert "ROME collapses by 1 edit: 5 of 5 benchmarks are lost, and world knowledge has logits that are" in text
    assert "none of the edits (the logits are not finite) give the new answer" in text


def test_diverged_updates_are_told(tmp_path: Path) -> None:
    from dataclasses import replace

    log = entries("rome", 100, 0.5, 0.1)
    log[50:] = [replace(entry, status="diverged") for entry in log[50:]]
    text = told(write_run(tmp_path, config_of("rome"), steady(), entries=log))
    assert "in 0.5 seconds each; of these 50 diverged." in text


def test_document_has_stable_keys_and_is_json(rome: Path, memit: Path) -> None:
    document = summarize([rome, memit], 0.11)
    assert list(document) == ["headline", "sentences", "margin", "runs", "orders"]
    assert list(document["runs"][0]) == [
        *(
            "label",
            "folder",
            "model",
            "method",
            "data",
            "setting",
            "batch",
            "seed",
            "limit",
            "edits",
            "checkpoints",
            "status",
        ),
        *("safe_horizon", "first_loss", "collapse", "ability", "ability_change", "measures", "health", "ledger"),
    ]
    first, second = document["runs"]
    assert first["collapse"]["edits"] == 100 and first["collapse"]["p_holm"] < 1e-4
    assert second["collapse"] is None and second["safe_horizon"] == 100
    assert first["measures"]["100"]["atlas_toxigen"]["flags"] == ["constant", "floor"]
    assert first["measures"]["0"]["atlas_mmlu"]["change"] is None
    assert json.loads(json.dumps(document)) == document


def test_the_whole_benchmark_is_the_same_config_without_a_limit(rome: Path) -> None:
    ((name, values),) = whole_configs(read([rome])).items()
    assert name == f"{rome.name}-whole.yaml"
    assert parse_config(values) == config_of("rome", limit=None)


def test_a_run_of_all_items_needs_no_further_command(tmp_path: Path) -> None:
    path = write_run(tmp_path, config_of("rome", limit=None), steady())
    assert whole_configs(read([path])) == {}
    assert "60 items, all it has" in told(path)
