"""YAML as its users read it: 5e-4 is a number, which PyYAML, after YAML 1.1, takes for text."""

import re
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML is untyped
    """A safe loader that knows YAML 1.2's floats."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_yaml(text: str) -> Any:
    """The value in a text. Raises yaml.YAMLError."""
    return yaml.load(text, _Loader)  # a safe loader
