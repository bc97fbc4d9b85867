"""Published prompts that the harness ships with its own tasks, so that they are neither copied nor fetched."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from errata.registry import read_task


@cache
def task_file(path: str) -> Mapping[str, Any]:
    """A YAML of the harness' tasks, such as "gsm8k/gsm8k-cot.yaml", its functions as text."""
    return read_task(files("lm_eval").joinpath("tasks").joinpath(path))


def exemplars(path: str) -> list[dict[str, str]]:
    """The exemplars in such a file, in order."""
    return list(task_file(path)["fewshot_config"]["samples"])
