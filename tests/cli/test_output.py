"""Facts go to stdout, everything else to stderr."""

import json
import math

import pytest

from errata.cli.options import layer_range, settings
from errata.cli.output import duration, emit, progress, table
from errata.errors import BadInput


def test_json_is_one_document_without_nan(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"a": math.nan, "b": [1, -math.inf, {"c": (0.5,)}], 3: "Å"})
    out = capsys.readouterr().out
    assert json.loads(out) == {"a": None, "b": [1, None, {"c": [0.5]}], "3": "Å"} and "Å" in out


def test_tables_in_a_pipe_are_tab_separated(capsys: pytest.CaptureFixture[str]) -> None:
    table(("x", "y"), [("1", "[bold]")])
    assert capsys.readouterr().out == "x\ty\n1\t[bold]\n"


def test_progress_stays_off_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as bar:
        for i in range(4):
            bar("work", i, 3)
    assert capsys.readouterr().out == ""


def test_progress_in_lines_estimates_the_rest(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("errata.cli.output.time.monotonic", lambda: now[0])
    with progress() as bar:
        for i in range(1, 5):
            now[0] += 8.0
            bar("work", i, 4)
    assert capsys.readouterr().err == "work: 3 of 4, about 5.3 s left\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (9.9, "9.9 s"), (59.4, "59 s"), (185, "3 min 5 s"), (7800, "2 h 10 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_settings_are_yaml_values() -> None:
    assert settings(["layer=3", "layers=[1, 2]", "name=a b", "clamp=.5"]) == {
        "layer": 3,
        "layers": [1, 2],
        "name": "a b",
        "clamp": 0.5,
    }
    assert settings(None) == {}


@pytest.mark.parametrize("pair", ["layer", "=3", "layers=[1"])
def test_settings_that_are_none(pair: str) -> None:
    with pytest.raises(BadInput, match="--set"):
        settings([pair])


def test_layer_ranges() -> None:
    assert layer_range("3") == (3,)
    assert layer_range("5-7, 1,6") == (1, 5, 6, 7)


@pytest.mark.parametrize("text", ["", "a", "3-", "-3", "5-3", "1,,2", "²"])
def test_layer_ranges_that_are_none(text: str) -> None:
    with pytest.raises(BadInput, match="--layers"):
        layer_range(text)
