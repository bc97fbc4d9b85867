"""Models by name: the embedded ones, local folders, and the hub's (cached unless a download is allowed)."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging
from transformers.utils.hub import cached_file

from errata.errors import BadInput
from errata.model.architecture import architecture, check_config
from errata.model.editable import EditableModel
from errata.model.tokens import encode, pad

SPREAD = "auto"
"""The device that is all GPUs together."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load(
    name_or_path: str, device: str | None = None, dtype: str | None = None, allow_download: bool | None = None
) -> EditableModel:
    """A model ready to be edited.

    name_or_path: "atlas" or "atlas-...", a folder in Hugging Face layout (a saved session too, with
    its edits), or a hub name. device: a GPU if there is one, by default; "auto" spreads the layers over all
    GPUs. dtype: float32, bfloat16 or float16; the checkpoint's by default. allow_download: by default whether
    ERRATA_DOWNLOAD is 1; otherwise only the hub's local cache is read.
    BadInput if there is no such model, or it gives NaN; UnsupportedModel for a family without a row.
    """
    options: dict[str, Any] = {"local_files_only": not _downloads(allow_download)}
    path = resolve(name_or_path)
    written, _ = _fetch(name_or_path, PreTrainedConfig.get_config_dict, path, **options)
    # Before AutoConfig, whose own complaint about an unknown family names no way out.
    row = architecture(str(written.get("model_type")))
    check_config(row, _fetch(name_or_path, AutoConfig.from_pretrained, path, **options), name_or_path)
    tokenizer = _fetch(name_or_path, AutoTokenizer.from_pretrained, path, **options)
    # Weights in pickles run code when they are read.
    options |= {"use_safetensors": True, "dtype": _dtype(dtype)}
    spread = {"device_map": "auto"} if device == SPREAD else {}
    with quiet():
        model = _fetch(name_or_path, AutoModelForCausalLM.from_pretrained, path, **options, **spread)
    if spread:
        _check_room(model, name_or_path)
    editable = EditableModel(model if spread else model.to(_device(device)), tokenizer, name_or_path)
    if (Path(path) / "errata.json").exists():
        from errata.update.storage import load_patches

        editable.attach(load_patches(Path(path)))
    else:
        _check_finite(editable)
    return editable


def weights_digest(name_or_path: str) -> str:
    """SHA-256 (hex) of a model's configuration and weights as they are on disk, without loading it.

    BadInput if there is no such model, or its weights are in several files.
    """
    path, running = resolve(name_or_path), hashlib.sha256()
    for name in ("config.json", "model.safetensors"):
        file = _fetch(name_or_path, cached_file, path, filename=name, local_files_only=not _downloads(None))
        running.update(Path(file).read_bytes())
    return running.hexdigest()


def resolve(name_or_path: str) -> str:
    """The folder of an embedded or local model, or the hub name as it is."""
    if name_or_path == "atlas" or name_or_path.startswith("atlas-"):
        from errata.atlas import model_path

        return str(model_path(name_or_path))
    folder = Path(name_or_path).expanduser()
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise BadInput(f"{folder} is a folder without config.json; give one in Hugging Face layout.")
    return str(folder) if folder.is_dir() else name_or_path


def _fetch(name: str, read: Any, path: str, **options: Any) -> Any:
    try:
        return read(path, **options)
    except (OSError, ValueError) as error:
        raise BadInput(
            f"no model {name!r} can be loaded: it is not an embedded model (`errata list models`), nor a folder "
            "with config, tokenizer and safetensors, nor in the hub's local cache. "
            f"ERRATA_DOWNLOAD=1 allows a download. ({str(error).strip().splitlines()[0]})"
        ) from error


def _downloads(allowed: bool | None) -> bool:
    return os.environ.get("ERRATA_DOWNLOAD") == "1" if allowed is None else allowed


def _dtype(name: str | None) -> torch.dtype | str:
    if name is not None and name not in DTYPES:
        raise BadInput(f"no dtype {name!r}; choose from {', '.join(DTYPES)}.")
    return "auto" if name is None else DTYPES[name]


def _device(name: str | None) -> torch.device:
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise BadInput(f"no device {name!r} here; cpu always is. ({str(error).splitlines()[0]})") from error
    return device


def _check_room(model: PreTrainedModel, name: str) -> None:
    """BadInput where a part of a spread model was left outside the GPUs, out of reach of editing."""
    if any(parameter.is_meta for parameter in model.parameters()):
        raise BadInput(f"{name} does not fit into the GPUs of this machine. Use more of them, or dtype: bfloat16.")


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bars, which would break the lines of ours."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _check_finite(model: EditableModel) -> None:
    batch = pad([encode(model.tokenizer, "The capital of France is")], model.pad_id)
    if not model.logits(batch).isfinite().all():
        raise BadInput(
            f"{model.name} gives NaN or infinite logits before any edit: its weights are damaged, or "
            f"{model.dtype} is too narrow for it. Try --dtype float32, or load another copy."
        )
