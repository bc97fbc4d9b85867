"""Configs are checked key by key; the folder's name follows from what decides the numbers."""

from pathlib import Path
from typing import Any

import pytest

from errata.errors import BadInput
from errata.runs.config import (
    ChatTemplate,
    Resolved,
    RunConfig,
    each_run,
    load_config,
    load_configs,
    parse_config,
    read_resolved,
    run_name,
    to_yaml,
)
from errata.runs.layout import RunDir

BASE: dict[str, Any] = {"model": "atlas", "method": "rome", "data": "atlas", "edits": [10, 1, 10]}


def _file(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "run.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_checkpoints_are_sorted_and_the_unedited_model_is_always_among_them() -> None:
    assert parse_config(BASE).edits == [0, 1, 10]


def test_a_variant_is_a_preset() -> None:
    config = parse_config({**BASE, "method": "rome:released"})
    assert config == parse_config({**BASE, "preset": "released"}) and config.method == "rome"


def test_tasks_named_twice_are_run_once() -> None:
    assert parse_config({**BASE, "tasks": ["b", "a", "b"]}).tasks == ["b", "a"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"taks": []}, ["run.yaml", "'taks'", "tasks"]),
        ({"second_moment": {"corpsu": "x"}}, ["second_moment.corpsu", "corpus"]),
        ({"colour": 1}, ["'colour'", "known keys", "probe_limit"]),
        ({"batch": 0}, ["batch", "found 0"]),
        ({"edits": [3, -1]}, ["edits", "negative"]),
        ({"edits": []}, ["edits"]),
        ({"edits": "ten"}, ["edits", "'ten'"]),
        ({"limit": 0}, ["limit", "found 0"]),
        ({"edits": {"to": 10, "counts": 3}}, ["edits", "'counts'", "did you mean count"]),
        ({"edits": {"till": 10, "to": 3, "count": 3}}, ["edits", "'till'", "from, to, count, spacing"]),
        ({"edits": {"from": 5, "to": 5, "count": 3}}, ["edits", "`to` is 5", "more than `from`"]),
        ({"setting": "singel"}, ["setting", "'single'", "found 'singel'"]),
        ({"setting": "single", "stop_at_collapse": True}, ["stop_at_collapse", "sequential"]),
        ({"chat_template": "yes"}, ["chat_template", "auto, true or false", "found 'yes'"]),
        ({"chat_template": {"edit": True}}, ["chat_template.edit", "edits"]),
        ({"engine": "vlm"}, ["engine", "'local' or 'vllm'", "found 'vlm'"]),
    ],
)
def test_wrong_values_are_named(change: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(BadInput) as caught:
        parse_config({**BASE, **change}, "run.yaml")
    assert all(word in str(caught.value) for word in words), caught.value


def test_missing_keys_are_all_named() -> None:
    with pytest.raises(BadInput, match=r"'method' is missing.*'edits' is missing"):
        parse_config({"model": "atlas", "data": "atlas"})


@pytest.mark.parametrize("text", ["", "- model: atlas", "just words", "model: [", "\tmodel: atlas"])
def test_files_that_are_not_configs(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadInput, match=r"run\.yaml"):
        load_config(_file(tmp_path, text))


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"absent\.yaml"):
        load_config(tmp_path / "absent.yaml")


def test_yaml_gives_what_the_keys_give(tmp_path: Path) -> None:
    text = "model: atlas\nmethod: rome\ndata: atlas\nedits: [1, 10]\noptions: {layer: 2}\n"
    assert load_config(_file(tmp_path, text)) == RunConfig(**{**BASE, "options": {"layer": 2}})


def test_the_name_tells_what_and_the_hash_tells_which() -> None:
    config = parse_config({**BASE, "model": "EleutherAI/pythia-1b", "data": "data/my edits.jsonl"})
    name = run_name(config)
    assert name.startswith("rome-pythia-1b-my-edits-") and len(name.rpartition("-")[2]) == 8
    assert run_name(config.model_copy(update={"seed": 1})) != name
    assert run_name(parse_config(config.model_dump())) == name


def test_a_filter_is_named_alone_or_with_its_options() -> None:
    alone, stated = (parse_config({**BASE, "filter": f}) for f in ("rect", {"name": "rect", "keep": 0.2}))
    assert alone.filter == {"name": "rect", "keep": 0.4} and stated.filter == {"name": "rect", "keep": 0.2}
    assert run_name(alone).startswith("rome-rect-atlas-atlas-")
    assert len({run_name(parse_config(BASE)), run_name(alone), run_name(stated)}) == 3
    for wrong in ("rct", {"name": "rect", "kept": 1}, 3):
        with pytest.raises(BadInput, match="filter"):
            parse_config({**BASE, "filter": wrong})


def test_a_given_name_changes_the_words_and_not_the_hash() -> None:
    config = parse_config(BASE)
    named = config.model_copy(update={"name": "first try"})
    assert run_name(named) == f"first-try-{run_name(config).rpartition('-')[2]}"


def _resolved() -> Resolved:
    return Resolved(
        config=parse_config(BASE),
        editor={"layers": [1, 2], "lr": 0.5},
        model_fingerprint="ab",
        data_sha256="cd",
        cases=10,
        versions={"torch": "2.13"},
    )


def test_a_run_folder_serves_as_its_config(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(to_yaml(_resolved()), encoding="utf-8")
    assert read_resolved(RunDir(tmp_path)) == _resolved()
    assert load_config(tmp_path) == parse_config(BASE)


def test_a_damaged_run_config_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("config: {model: atlas}\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"config\.yaml cannot be read"):
        read_resolved(RunDir(tmp_path))


def test_edits_by_a_schedule_are_a_list_like_any_other() -> None:
    config = parse_config({**BASE, "edits": {"to": 100, "count": 3}})
    assert config.edits == [0, 1, 10, 100]
    assert run_name(config) == run_name(parse_config({**BASE, "edits": [1, 10, 100]}))


def test_a_chat_template_is_chosen_for_both_or_for_each() -> None:
    assert parse_config(BASE).chat_template == ChatTemplate(edits="auto", probes="auto")
    assert parse_config({**BASE, "chat_template": False}).chat_template == ChatTemplate(edits=False, probes=False)
    chosen = parse_config({**BASE, "chat_template": {"edits": True}}).chat_template
    assert [chosen.settled(present).probes for present in (True, False)] == [True, False]
    assert chosen.settled(False).edits is True


def test_later_keys_rename_a_folder_only_when_they_say_something() -> None:
    assert run_name(parse_config(BASE)) == "rome-atlas-atlas-a390bd58"  # as it was before there were any
    later = {"setting": "single", "retention_limit": 5, "chat_template": True}
    assert (
        len(
            {run_name(parse_config({**BASE, key: value})) for key, value in later.items()}
            | {run_name(parse_config(BASE))}
        )
        == 4
    )


def test_several_orders_in_one_file_are_a_run_each(tmp_path: Path) -> None:
    file = _file(tmp_path, "model: atlas\nmethod: rome\ndata: atlas\nedits: [1]\nseeds: [2, 0, 2]\n")
    configs = load_configs(file)
    assert [config.seed for config in configs] == [2, 0] and len({run_name(config) for config in configs}) == 2
    one = parse_config({**BASE, "seed": 5})
    assert each_run([one, file]) == [one, *configs]
    with pytest.raises(BadInput, match=f"2 runs.*errata run {file}"):
        load_config(file)


@pytest.mark.parametrize("lines", ["seeds: 3", "seeds: []", "seeds: [1]\nseed: 2"])
def test_seeds_are_a_list_and_no_seed(tmp_path: Path, lines: str) -> None:
    with pytest.raises(BadInput, match=r"seeds is .*\[0, 1, 2\]"):
        load_configs(_file(tmp_path, f"model: atlas\nmethod: rome\ndata: atlas\nedits: [1]\n{lines}\n"))
    with pytest.raises(BadInput, match=r"seed: .*found 'a'"):
        load_configs(_file(tmp_path, "model: atlas\nmethod: rome\ndata: atlas\nedits: [1]\nseeds: [a]\n"))


def test_the_local_engine_leaves_the_folders_name_as_it_was() -> None:
    config = parse_config(BASE)
    assert run_name(config) == "rome-atlas-atlas-a390bd58"
    assert run_name(config.model_copy(update={"engine": "vllm"})) != run_name(config)
