"""Hidden states below the first edited layer, kept from one measurement of a model to the next.

Edits of layer a and above leave what enters layer a as it was. A pass that was run before therefore begins there:
the layers below hand on what they gave then, in the shape and the batch in which it was computed, so that every
number above is the same to the last bit. Of L layers a need not run again; the output layer always does.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import DynamicCache

from errata.errors import BadInput
from errata.model import hooks
from errata.model.editable import EditableModel

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Given:
    """What a layer returned: hidden states (n, t, d_model) on the CPU, and of how many parts, 0 for a bare tensor."""

    stream: Tensor
    parts: int


class LowerStates:
    """A store of what layer `layer` - 1 returned, pass by pass, of models that differ from that layer on only.

    limit: bytes; what comes when they are used up is not kept. folder: where the states are files and outlive
    the process; in memory without one. BadInput for layer 0, below which there is nothing.
    """

    def __init__(self, layer: int, limit: int, folder: Path | None = None) -> None:
        if layer < 1:
            raise BadInput("below layer 0 no states can be kept; leave lower_states out.")
        self.layer = layer
        self._left = limit - sum(file.stat().st_size for file in _files(folder))
        self._folder = folder
        self._held: dict[str, _Given] = {}
        self._weights: tuple[object, str] = (None, "")

    def key(self, model: EditableModel, *what: object) -> str:
        """The name of a pass. what: JSON-able; all that it computes, besides the weights."""
        versions = [(id(tensor), tensor._version) for tensor in model.model.parameters()]
        if self._weights[0] != versions:  # hashing the weights takes a while
            self._weights = versions, model.fingerprint(self.layer - 1)
        content = json.dumps([self._weights[1], self.layer, str(model.device), what])
        return hashlib.sha256(content.encode()).hexdigest()

    def holds(self, key: str) -> bool:
        """Whether the states of a pass are kept."""
        return self._file(key).exists() if self._folder else key in self._held

    @contextmanager
    def run(self, model: EditableModel, key: str, *, resume: bool = True) -> Iterator[None]:
        """Within the context one pass begins at the layer if its states are kept; otherwise they are kept of it.

        resume: False runs the whole model in any case, for the keys and values of its lower layers.
        """
        if not self.holds(key):
            with self._kept_of(model, key):
                yield
        elif resume:
            given = self._read(key)
            stream = given.stream.to(model.device, copy=True)  # some families write into it
            with model.resumed(self.layer - 1, (stream, *[None] * (given.parts - 1)) if given.parts else stream):
                yield
        else:
            yield

    def lengthen(self, cache: DynamicCache, tokens: int) -> None:
        """Lets the lower layers of a cache say how many tokens it has, where they did not run."""
        for index in range(self.layer):
            if cache.get_seq_length(index) == 0:
                nothing = torch.zeros(1, 1, tokens, 1)
                cache.update(nothing, nothing, index)

    @contextmanager
    def _kept_of(self, model: EditableModel, key: str) -> Iterator[None]:
        def keep(_: Any, args: tuple[Any, ...], output: Any) -> None:
            stream = hooks.main(output)
            if stream.nbytes <= self._left:
                self._write(key, _Given(stream.to("cpu", copy=True), len(output) if isinstance(output, tuple) else 0))

        with hooks.hooked([model.layer(self.layer - 1).register_forward_hook(keep)]):
            yield

    def _write(self, key: str, given: _Given) -> None:
        if self._folder is None:
            self._held[key] = given
        elif not self._saved(self._file(key), given):
            self._left = 0
            return
        self._left -= given.stream.nbytes

    def _saved(self, path: Path, given: _Given) -> bool:
        draft = path.with_name(f".{path.name}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file({"stream": given.stream.contiguous()}, draft, {"parts": str(given.parts)})
            with draft.open("rb+") as file:
                os.fsync(file.fileno())
            draft.replace(path)
        except (OSError, SafetensorError) as error:
            draft.unlink(missing_ok=True)
            _log.warning("no more hidden states are kept in %s: %s", path.parent, error)
            return False
        return True

    def _read(self, key: str) -> _Given:
        if self._folder is None:
            return self._held[key]
        try:
            with safe_open(self._file(key), framework="pt") as file:
                return _Given(file.get_tensor("stream"), int(file.metadata()["parts"]))
        except (OSError, SafetensorError) as error:
            raise BadInput(f"{self._file(key)} cannot be read ({error}); delete {self._folder}, and go on.") from error

    def _file(self, key: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{key}.safetensors"


def _files(folder: Path | None) -> list[Path]:
    return [] if folder is None else list(folder.glob("*.safetensors"))
