"""What methods need to have been built beforehand, kept in a cache folder with its provenance.

Entries are keyed by what they were computed from, never by the model's name: new weights under an old
path find nothing, the same weights under a new path find it. Second moments belong to the weights at or
below their layer, what is trained belongs to all weights. Both are those of the unedited model, so a
model's key is fixed when it is bound.
"""

import json
import os
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any
from weakref import WeakKeyDictionary

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from errata.atlas import MODELS
from errata.errors import BadInput, MissingArtifact
from errata.keyvalue.solve import factor
from errata.model.editable import EditableModel

SECOND_MOMENT = "second-moment"


@dataclass(frozen=True)
class Need:
    """Something to be built beforehand.

    kind: SECOND_MOMENT, or the name of the method that is trained. layer: whose second moment.
    shape: (name, value) of the options that what is trained depends on; values are JSON-able. origin: digest of
    the weights that the training begins from, where these are not the model's.
    """

    kind: str
    layer: int | None = None
    shape: tuple[tuple[str, Any], ...] = ()
    origin: str = ""

    def __str__(self) -> str:
        return self.kind if self.layer is None else f"{self.kind} of layer {self.layer}"


@dataclass(frozen=True)
class SecondMoment:
    """C = E[k k^T] of the inputs of one layer's down projection.

    C: (d_in, d_in) float32, a mean. tokens: how many keys it is the mean of.
    provenance: JSON-able: model, fingerprint, corpus with its sha256, seed, dtype, versions.
    """

    C: Tensor
    tokens: int
    provenance: Mapping[str, Any]


@dataclass(frozen=True)
class Learned:
    """What a method learned before it could edit. tensors: by name.

    provenance: JSON-able: model, fingerprint, edits with their sha256, seed, steps, validation, versions.
    """

    tensors: Mapping[str, Tensor]
    provenance: Mapping[str, Any]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of names and tensors, hex."""
        running = sha256()
        for name, tensor in sorted(self.tensors.items()):
            _absorb(running, name, tensor)
        return running.hexdigest()


Artifact = SecondMoment | Learned


def default_cache() -> Path:
    """ERRATA_CACHE, or `errata` in the platform's cache folder."""
    if chosen := os.environ.get("ERRATA_CACHE"):
        return Path(chosen)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "errata"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "errata"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "errata"


class Artifacts:
    """The artifacts of a cache folder, for models bound to it before they are edited."""

    def __init__(self, cache: Path | None = None) -> None:
        self.cache = cache if cache is not None else default_cache()
        self._keys: WeakKeyDictionary[EditableModel, tuple[str, ...]] = WeakKeyDictionary()
        self._held: dict[Path, Artifact] = {}
        self._factors: dict[tuple[Path, float, float], Tensor] = {}
        self._renewed: dict[Hashable, tuple[Tensor, Tensor]] = {}
        self._spectra: dict[Path, tuple[Tensor, Tensor]] = {}

    def bind(self, model: EditableModel, base: Mapping[str, Tensor] | None = None) -> None:
        """Remember the model's weights as the unedited ones.

        Happens by itself at the first use. Call it where the model is edited already: base holds the
        unedited matrix (d_out, d_in) of every edited site.
        """
        self._keys[model] = _keys(model, base or {})

    def get(self, model: EditableModel, need: Need) -> Artifact:
        """What was built for a need. Raises MissingArtifact, naming the command that builds it."""
        path = self.path(model, need)
        if path not in self._held:
            if not path.exists():
                raise _missing(model, [need])
            self._held[path] = _read(path, need)
        return self._held[path]

    def second_moment(self, model: EditableModel, layer: int) -> SecondMoment:
        """Raises MissingArtifact, naming the command that builds it."""
        found = self.get(model, Need(SECOND_MOMENT, layer))
        assert isinstance(found, SecondMoment)
        return found

    def learned(self, model: EditableModel, need: Need) -> Learned:
        """Raises MissingArtifact, naming the command that trains it."""
        found = self.get(model, need)
        assert isinstance(found, Learned)
        return found

    def cholesky(
        self,
        model: EditableModel,
        layer: int,
        weight: float = 1.0,
        ridge: float = 0.0,
        history: Tensor | None = None,
    ) -> Tensor:
        """Lower factor of weight C + ridge mean(diag) I + history, float64 on the model's device, computed once.

        history: (d_in, d_in) sum of k k^T of past keys; only the factor with the latest one is kept.
        """
        key = (self.path(model, Need(SECOND_MOMENT, layer)), weight, ridge)
        C = self.second_moment(model, layer).C.to(model.device)
        if history is not None:
            return self.renewed(key, history, lambda: factor(C, weight, ridge, history))
        if key not in self._factors:
            self._factors[key] = factor(C, weight, ridge)
        return self._factors[key]

    def renewed(self, key: Hashable, history: Tensor, make: Callable[[], Tensor]) -> Tensor:
        """What was made last under a key, made anew where the past keys' sum, (d_in, d_in), is another than then."""
        held = self._renewed.get(key)
        if held is None or not (held[0] is history or torch.equal(held[0], history)):
            self._renewed.pop(key, None)
            held = self._renewed[key] = history, make()
        return held[1]

    def spectrum(self, model: EditableModel, layer: int) -> tuple[Tensor, Tensor]:
        """Eigenvalues (d_in,), ascending, and eigenvectors (d_in, d_in) of C, float64 on the model's device.

        Computed once.
        """
        key = self.path(model, Need(SECOND_MOMENT, layer))
        if key not in self._spectra:
            C = self.second_moment(model, layer).C.to(model.device).double()
            values, vectors = torch.linalg.eigh(C)
            self._spectra[key] = values, vectors
        return self._spectra[key]

    def missing(self, model: EditableModel, needs: Sequence[Need]) -> list[Need]:
        """Those of the needs that are not built yet."""
        return [need for need in needs if (path := self.path(model, need)) not in self._held and not path.exists()]

    def require(self, model: EditableModel, needs: Sequence[Need]) -> None:
        """Raises MissingArtifact naming everything that is absent, not only the first."""
        if absent := self.missing(model, needs):
            raise _missing(model, absent)

    def add(self, model: EditableModel, layer: int, moment: SecondMoment) -> Path:
        """Keep a second moment of the unedited model; replaces an older one."""
        return self.put(model, Need(SECOND_MOMENT, layer), moment)

    def put(self, model: EditableModel, need: Need, artifact: Artifact) -> Path:
        """Keep what was built for a need of the unedited model; replaces an older one."""
        path = self.path(model, need)
        write_tensors(path, *_parts(artifact))
        self._held[path] = artifact
        self._factors = {k: v for k, v in self._factors.items() if k[0] != path}
        self._spectra.pop(path, None)
        self._renewed.clear()
        return path

    def is_unedited(self, model: EditableModel) -> bool:
        """Whether the weights are still those that were bound, with no memory beside them."""
        return not model.patches and self._bound(model) == _keys(model, {})

    def path(self, model: EditableModel, need: Need) -> Path:
        """Where what is built for a need is kept."""
        return self.cache / need.kind / f"{self._key(model, need)[:40]}.safetensors"

    def _bound(self, model: EditableModel) -> tuple[str, ...]:
        """The keys of the layers, and that of the whole model."""
        if model not in self._keys:
            self.bind(model)
        return self._keys[model]

    def _key(self, model: EditableModel, need: Need) -> str:
        *layers, whole = self._bound(model)
        if need.layer is None:
            return sha256(f"{whole}{json.dumps(need.shape)}{need.origin}".encode()).hexdigest()
        if not 0 <= need.layer < len(layers):
            raise BadInput(f"{model.name} has no layer {need.layer}; choose from 0 to {len(layers) - 1}.")
        return layers[need.layer]


def layer_keys(model: EditableModel, base: Mapping[str, Tensor]) -> tuple[str, ...]:
    """For each layer, a digest of everything that the input of its down projection depends on.

    That is the embeddings, all layers below, and the layer itself but for the projection: editing it
    does not change its own input. base: site -> (d_out, d_in) matrix to be read in place of the model's.
    """
    return _keys(model, base)[:-1]


def _keys(model: EditableModel, base: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The digests of the layers, see `layer_keys`, and one of all weights."""
    tensors = _unedited(model, base)
    arch = model.arch
    running, keys = sha256(), []

    def absorb(names: Iterable[str]) -> None:
        for name in names:
            _absorb(running, name, tensors[name])

    above = (f"{arch.head}.", f"{arch.norm}.")
    absorb(sorted(n for n in tensors if not n.startswith((f"{arch.layers}.", *above))))
    for layer in range(model.n_layers):
        names = sorted(n for n in tensors if n.startswith(f"{arch.layers}.{layer}."))
        down = [n for n in names if n.startswith(f"{arch.layers}.{layer}.{arch.down}.")]
        absorb(n for n in names if n not in down)
        keys.append(running.hexdigest())
        absorb(down)
    absorb(sorted(n for n in tensors if n.startswith(above)))
    return (*keys, running.hexdigest())


def _unedited(model: EditableModel, base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All tensors by name, the unedited matrices in place of the edited ones in the storage's orientation and dtype."""
    tensors: dict[str, Tensor] = dict(model.model.state_dict())
    for site, matrix in base.items():
        stored = tensors[f"{site}.weight"]
        tensors[f"{site}.weight"] = (matrix.T if model.is_transposed(site) else matrix).to(stored)
    return tensors


def _absorb(running: Any, name: str, tensor: Tensor) -> None:
    running.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
    running.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a file of the cache folder; atomic: it is there whole, or not at all. BadInput if it cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as part:
            temporary = Path(part.name)
        try:
            save_file({name: t.contiguous().cpu() for name, t in tensors.items()}, temporary, dict(metadata))
            temporary.replace(path)
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()
    except OSError as error:
        raise BadInput(
            f"cannot write the artifact {path}: {error.strerror or error}. Choose another folder: ERRATA_CACHE=FOLDER"
        ) from error


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What `write_tensors` wrote, in memory of its own: tensors and metadata."""
    with safe_open(path, framework="pt") as file:
        # Copies: a tensor mapped from a file is not aligned, and products of unaligned ones may differ in the last bit.
        return {name: file.get_tensor(name).clone() for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118


def _parts(artifact: Artifact) -> tuple[dict[str, Tensor], dict[str, str]]:
    provenance = {"provenance": json.dumps(dict(artifact.provenance), sort_keys=True)}
    if isinstance(artifact, Learned):
        return dict(artifact.tensors), provenance
    return {"C": artifact.C}, {"tokens": str(artifact.tokens), **provenance}


def _read(path: Path, need: Need) -> Artifact:
    try:
        tensors, metadata = read_tensors(path)
        provenance = json.loads(metadata["provenance"])
        if need.kind == SECOND_MOMENT:
            return SecondMoment(tensors["C"], int(metadata["tokens"]), provenance)
        return Learned(tensors, provenance)
    except Exception as error:
        raise BadInput(f"{path} is not a {need.kind} ({error}). Delete the file and build it again.") from error


def _missing(model: EditableModel, needs: Sequence[Need]) -> MissingArtifact:
    trained = [_untrained(model, need) for need in needs if need.layer is None]
    layers = sorted({need.layer for need in needs if need.layer is not None})
    return MissingArtifact(" ".join([*([_unbuilt(model, layers)] if layers else []), *trained]))


def _unbuilt(model: EditableModel, layers: Sequence[int]) -> str:
    spans = ",".join(f"{a}-{b}" if b > a else str(a) for a, b in _runs(layers))
    noun = f"layer {spans}" if len(layers) == 1 else f"layers {spans}"
    return (
        f"the second moment of {noun} of {model.name} is not built. Build it from text: "
        f"errata artifacts build second-moment --model {model.name} --layers {spans} --corpus {_source(model)}"
    )


def _untrained(model: EditableModel, need: Need) -> str:
    options = "".join(f" --set '{name}={json.dumps(value)}'" for name, value in need.shape)
    return (
        f"{need.kind} is not trained for {model.name} with these options. Train it on edits: "
        f"errata train {need.kind} --model {model.name} --edits {_source(model)}{options}"
    )


def _source(model: EditableModel) -> str:
    """What text and edits are taken from: for an embedded model those of its own world, else a file of the user's."""
    return "atlas" if model.name in MODELS else "FILE"


def _runs(layers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """[4, 5, 6, 9] -> (4, 6), (9, 9)."""
    start = last = layers[0]
    for layer in layers[1:]:
        if layer != last + 1:
            yield start, last
            start = layer
        last = layer
    yield start, last
