"""How large a model is, without loading it. No torch here."""

import json
import re
import struct
from collections import Counter
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path

from errata.atlas import MODELS, model_path

STORED = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I32": 4, "I8": 1, "U8": 1}
"""Bytes of a number by its name in safetensors."""
ITEMSIZE = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Size:
    """parameters: how many, or None if the model is not on this machine and its name does not tell. bytes: of one
    parameter. width, inner: of the residual stream and inside the MLP, 0 if unknown."""

    parameters: int | None
    bytes: int = 4
    width: int = 0
    inner: int = 0


@cache
def model_size(name: str) -> Size:
    """From the headers of a model's files, from its config, or from a name such as Llama-2-7b."""
    folder = model_path(name) if name in MODELS else Path(name).expanduser()
    if not folder.is_dir():
        folder = _cached(name)
    config = json.loads((folder / "config.json").read_text("utf-8")) if (folder / "config.json").exists() else {}
    width = config.get("hidden_size") or config.get("n_embd") or 0
    inner = config.get("intermediate_size") or config.get("ffn_dim") or config.get("n_inner") or 4 * width
    counted: Counter[int] = Counter()
    for file in folder.glob("*.safetensors"):
        counted.update(_parameters(file))
    if counted:
        return Size(counted.total(), counted.most_common(1)[0][0], width, inner)
    told = re.search(r"(\d+(?:\.\d+)?)([bm])(?![a-z])", name.lower())
    scale = {"b": 1e9, "m": 1e6}
    parameters = round(float(told[1]) * scale[told[2]]) if told else None
    return Size(parameters, ITEMSIZE.get(str(config.get("dtype")), 2), width, inner)


def _cached(name: str) -> Path:
    """The folder of a hub model in the hub's local cache; one that does not exist for others."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        file = try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        file = None
    return Path(file).parent if isinstance(file, str) else Path("no such folder")


def _parameters(file: Path) -> Counter[int]:
    """Bytes of a parameter -> how many parameters, of a safetensors file: a length, then JSON of that length."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    counted: Counter[int] = Counter()
    for name, tensor in header.items():
        if name != "__metadata__":
            counted[STORED.get(tensor["dtype"], 2)] += prod(tensor["shape"])
    return counted
