"""Published prompts that the harness ships with its own tasks, so that they are neither copied nor fetched."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import yaml


@cache
def task_file(path: str) -> Mapping[str, Any]:
    """A YAML of the harness' tasks, such as "gsm8k/gsm8k-cot.yaml", its functions as text."""
    content = files("lm_eval").joinpath("tasks").joinpath(path).read_text("utf-8")
    fields: Mapping[str, Any] = yaml.load(content, _Loader)
    return fields


def exemplars(path: str) -> list[dict[str, str]]:
    """The exemplars in such a file, in order."""
    return list(task_file(path)["fewshot_config"]["samples"])


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """A safe loader to which `!function module.name` is text."""


_Loader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))
