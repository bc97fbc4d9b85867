"""YAML's numbers."""

import pytest

from errata.yamls import read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [("5e-4", 5e-4), ("12e6", 12e6), ("1E5", 1e5), (".5e+1", 5.0), ("-2.e3", -2000.0), ("3", 3), ("true", True)],
)
def test_numbers(text: str, value: object) -> None:
    assert read_yaml(text) == value and type(read_yaml(text)) is type(value)


@pytest.mark.parametrize("text", ["e5", "5e", "5e-4x", "fe1"])
def test_what_is_no_number(text: str) -> None:
    assert read_yaml(text) == text
