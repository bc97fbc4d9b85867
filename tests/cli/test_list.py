"""errata list, and the registry behind it."""

import json
from dataclasses import fields
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import yaml

from errata import registry
from errata.cli import main
from errata.editors import presets
from errata.errors import BadInput

KEYS = {
    "methods": {field.name for field in fields(registry.EditorInfo)},
    "filters": {"name", "home", "paper", "summary", "options"},
    "models": {"name", "kind", "summary"},
    "tasks": {"name", "summary", "shots", "kind", "chance"},
    "datasets": {"name", "summary"},
}


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    assert main(["list", *arguments, "--json"]) == 0
    document: dict[str, object] = json.loads(capsys.readouterr().out)
    return document


@pytest.mark.parametrize("kind", KEYS)
def test_keys_are_stable(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    items = listed(capsys, kind)[kind]
    assert isinstance(items, list) and items
    assert all(set(item) == KEYS[kind] for item in items)


@pytest.mark.parametrize("kind", KEYS)
def test_the_table_has_a_line_for_each(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    items = listed(capsys, kind)[kind]
    assert isinstance(items, list)
    assert main(["list", kind]) == 0
    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()[1:]] == [i["name"] for i in items]


def test_what_ships_is_found() -> None:
    assert {"rome", "r_rome", "memit"} <= registry.editors().keys()
    assert {"atlas_mmlu", "atlas_bbh", "atlas_gsm8k", "atlas_reading", "atlas_toxigen"} <= registry.tasks().keys()
    assert {"atlas", "counterfact", "zsre"} <= registry.datasets().keys()
    assert {"atlas", "llama", "gpt2"} <= registry.models().keys()


@pytest.mark.parametrize("name", registry.editors())
def test_what_the_source_says_is_what_the_class_says(name: str) -> None:
    info = registry.editors()[name]
    kind = registry.editor_class(name)
    for name in ("name", "paper", "family", "batch", "beforehand", "writes", "mergeable"):
        assert getattr(info, name) == getattr(kind, name)
    assert info.released == getattr(kind, "released", None)
    assert [option.name for option in info.options] == [f.name for f in fields(kind)]  # type: ignore[arg-type]


def test_one_method_shows_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    options = listed(capsys, "methods", "memit")["options"]
    assert isinstance(options, list)
    assert {"name": "history", "type": "bool", "default": "False"} in options


def test_unknown_names_and_options_are_refused() -> None:
    with pytest.raises(BadInput, match="did you mean memit"):
        registry.editor_class("memmit")
    with pytest.raises(BadInput, match="did you mean steps"):
        registry.load_editor("rome", layer=1, step=3)
    with pytest.raises(BadInput, match="layer"):
        registry.load_editor("rome")


def test_options_from_yaml_become_what_the_method_takes() -> None:
    assert registry.load_editor("memit", layers=[1, 2]) == registry.load_editor("memit", layers=(1, 2))


def test_a_word_is_not_a_number() -> None:
    with pytest.raises(BadInput, match=r"ft got lr=fast, which should be float\. See: errata list methods ft"):
        registry.load_editor("ft", layer=1, lr="fast")


def test_methods_of_other_packages_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("theirs", "errata.editors.rome:Rome", registry.ENTRY_POINTS)
    monkeypatch.setattr(
        "importlib.metadata.entry_points", lambda group: [point] if group == registry.ENTRY_POINTS else []
    )
    registry.editors.cache_clear()
    try:
        assert registry.load_editor("theirs", layer=1) == registry.load_editor("rome", layer=1)
    finally:
        registry.editors.cache_clear()


def test_tasks_say_what_the_harness_will_read() -> None:
    for info in registry.tasks().values():
        assert info.summary and info.kind in ("multiple_choice", "generate_until", "loglikelihood")
        assert info.shots is not None and info.shots >= 0 and (info.chance is None or 0 < info.chance < 1)


def test_a_variant_is_a_method_that_says_so_and_a_preset_that_differs() -> None:
    for name, info in registry.editors().items():
        file = Path(presets.__file__).parent / f"{name}.yaml"
        table = yaml.safe_load(file.read_text("utf-8"))
        held = any("released" in entry for entry in table.values() if isinstance(entry, dict)) or "base" in table
        assert bool(info.released) == held, name


def test_names_of_variants() -> None:
    assert registry.split_variant("rome") == ("rome", None)
    assert registry.split_variant("rome:released") == ("rome", "released")
    for name, words in (("rmoe:released", "rome"), ("rome:relaesed", "released"), ("alphaedit:released", "has none")):
        with pytest.raises(BadInput, match=words):
            registry.split_variant(name)
