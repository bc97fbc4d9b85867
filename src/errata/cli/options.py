"""Options that several commands share, and how their text becomes values."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from errata.errors import BadInput
from errata.registry import check_filter
from errata.yamls import read_yaml

Model = Annotated[str, typer.Option("--model", "-m", help="`atlas`, a folder, or a name on the Hugging Face hub.")]
Method = Annotated[
    str, typer.Option("--method", help="Editing method, or its variant NAME:released; see `errata list methods`.")
]
Device = Annotated[
    str | None,
    typer.Option(help="cpu, cuda, cuda:1, mps, or auto for all GPUs together; a GPU if there is one when not given."),
]
Dtype = Annotated[str | None, typer.Option(help="float32, bfloat16 or float16; the checkpoint's own when not given.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="Hyperparameter of the method, NAME=VALUE; repeatable.")
]
Corpus = Annotated[
    str | None,
    typer.Option(
        help="Text for second moments: a file, one document a line, or `atlas`. Default: atlas for atlas models."
    ),
]
Filter = Annotated[
    str | None,
    typer.Option(
        "--filter", help="What clips updates, NAME or NAME,OPTION=VALUE, such as rect,keep=0.4; `errata list filters`."
    ),
]
DataDir = Annotated[
    str | None,
    typer.Option(
        help="Where benchmarks read their rows: a folder with one folder for each (docs/benchmarks.md), `atlas` for "
        "the package's miniatures, or `hub`. Default: atlas for atlas models, else hub."
    ),
]
Margin = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help='Loss of ability that "no harm" excludes: 0.05 is five points. Default: 0.05 on atlas, 0.02 elsewhere.',
    ),
]
OutFolder = Annotated[Path | None, typer.Option("--out", "-o", help="Folder to write to.")]


def settings(pairs: Sequence[str] | None) -> dict[str, Any]:
    """NAME=VALUE pairs as a dict, values read as YAML: 3 is a number, [4, 5] a list, true a truth."""
    return dict(_setting(pair) for pair in pairs or ())


def filter_setting(text: str | None) -> dict[str, Any] | None:
    """`rect,keep=0.4` as {"name": "rect", "keep": 0.4}. BadInput for a filter or an option that does not exist."""
    if text is None:
        return None
    name, options = named_setting(text, "--filter")
    return check_filter({"name": name, **options})


def named_setting(text: str, option: str) -> tuple[str, dict[str, Any]]:
    """`memit,history=true` as ("memit", {"history": True}). option: what the text was given to, for the error."""
    name, *pairs = text.split(",")
    return name.strip(), dict(_setting(pair, option) for pair in pairs)


def _setting(pair: str, option: str = "--set") -> tuple[str, Any]:
    name, equals, text = pair.partition("=")
    if not (equals and name.strip()):
        raise BadInput(f"{option} takes NAME=VALUE, such as --set layer=3 or --filter rect,keep=0.4; found {pair!r}.")
    try:
        return name.strip(), read_yaml(text)
    except yaml.YAMLError as error:
        raise BadInput(f"{option} {pair}: {text!r} is not a YAML value: {error}") from error


def layer_range(text: str) -> tuple[int, ...]:
    """Layers from `3`, `4-8` or `1,3,5-7`, sorted, each once.

    Raises BadInput for anything else.
    """
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise BadInput(f"--layers takes numbers and ranges, such as 3 or 4-8 or 1,3,5-7; found {text!r}.")
        found.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(found))
