"""Updates and session folders on disk: safetensors only, and nothing half written looks finished."""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from errata.errors import BadInput
from errata.update.delta import LowRank, WeightDelta

LEDGER = "errata.json"
"""The file that makes a model folder a saved session."""


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes named tensors atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, unfinished)
    unfinished.replace(path)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Named tensors of a file. BadInput if it is absent or damaged."""
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{path} cannot be read ({error}); restore it from a copy or edit again.") from error
    return tensors


def save_update(path: Path, update: WeightDelta) -> None:
    """Writes an update: `SITE/left` and `SITE/right` for factors, `SITE/dense` for a dense change."""
    tensors: dict[str, Tensor] = {}
    for site, change in update.sites.items():
        if isinstance(change, LowRank):
            tensors |= {f"{site}/left": change.left, f"{site}/right": change.right}
        else:
            tensors[f"{site}/dense"] = change
    save_tensors(path, tensors)


def load_update(path: Path) -> WeightDelta:
    """Reads what `save_update` wrote; sites in alphabetical order."""
    tensors = load_tensors(path)
    sites = sorted({name.rpartition("/")[0] for name in tensors})
    return WeightDelta(
        {
            site: tensors[f"{site}/dense"]
            if f"{site}/dense" in tensors
            else LowRank(tensors[f"{site}/left"], tensors[f"{site}/right"])
            for site in sites
        }
    )


def replace_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Lets `write` fill a new folder and puts it in the place of `folder`.

    BadInput if `folder` holds something that is no saved session, or cannot be written.
    """
    if folder.exists() and not _replaceable(folder):
        raise BadInput(f"{folder} exists and is not a saved session; choose a new or an empty folder.")
    new, old = (folder.with_name(f"{folder.name}.{os.getpid()}.{what}") for what in ("new", "old"))
    try:
        new.mkdir(parents=True)
        write(new)
        if folder.exists():
            folder.replace(old)
        new.replace(folder)
    except OSError as error:
        raise BadInput(f"{folder} cannot be written ({error}); choose a folder that can.") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def _replaceable(folder: Path) -> bool:
    return folder.is_dir() and ((folder / LEDGER).is_file() or not any(folder.iterdir()))
