"""What is imported is declared, what is declared is pinned, and the wheel holds the data."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import errata

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
MODULE_OF = {
    "huggingface-hub": "huggingface_hub",
    "pyyaml": "yaml",
    "vl-convert-python": "vl_convert",
    "lm-eval": "lm_eval",
    "mlflow-skinny": "mlflow",
    "sentence-transformers": "sentence_transformers",
}


BY_NAME = {"mlflow", "ray", "submitit", "trackio", "wandb", "accelerate"}
"""Imported by `import_module`; the last one by transformers, for models on several GPUs."""


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!~\[ ]", line)[0].lower() for line in requirements}


def test_every_import_is_declared_and_every_declaration_used() -> None:
    found: set[str] = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
    outside = found - set(sys.stdlib_module_names) - {"errata", "_typeshed"}
    extras = [line for name, extra in PROJECT["optional-dependencies"].items() if name != "dev" for line in extra]
    declared = {MODULE_OF.get(name, name) for name in names(PROJECT["dependencies"] + extras)}
    assert outside | BY_NAME == declared


def test_everything_declared_is_pinned() -> None:
    pinned = {name.replace("_", "-") for name in names((ROOT / "constraints.txt").read_text("utf-8").split())}
    # vLLM fixes older versions of what is pinned here: it has an environment of its own.
    extras = [extra for name, extra in PROJECT["optional-dependencies"].items() if name != "vllm"]
    wanted = [*PROJECT["dependencies"], *(line for extra in extras for line in extra)]
    assert names(wanted) <= pinned


def test_pins_name_no_build_of_torch() -> None:
    """A local suffix such as +cpu would make the pins useless on a machine with a GPU."""
    assert "+" not in (ROOT / "constraints.txt").read_text("utf-8")


def test_the_version_is_in_one_place() -> None:
    assert PROJECT["dynamic"] == ["version"] and "version" not in PROJECT
    assert re.fullmatch(r"\d+\.\d+\.\d+", errata.__version__)


def test_public_names_are_there_and_listed() -> None:
    assert sorted(errata.__all__) == errata.__all__ == dir(errata)
    for name in errata.__all__:
        assert getattr(errata, name) is getattr(errata, name)
    public = set(errata._HOMES) | {"__version__"}
    assert public == set(errata.__all__)
