"""What an edit keeps beside unchanged weights: a memory that is asked while the model runs.

A patch holds the entries of its edits in their order, and everything else follows from them. So the memory
in force is the fold of the patches in force, and taking one out, wherever it stands, leaves what would be
there had it never been written. A patch is in no weight: it cannot be merged or exported.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch import Tensor

from errata.errors import BadInput
from errata.model.editable import EditableModel
from errata.model.hooks import Removable
from errata.model.routing import Routed
from errata.model.tokens import Tokens
from errata.update.delta import WeightDelta


@dataclass(frozen=True, eq=False)
class Shared:
    """Tensors that many patches have in common: a session holds them once, and so does its folder.

    digest: SHA-256 of names and tensors, hex.
    """

    digest: str
    tensors: Mapping[str, Tensor]


class Patch(ABC):
    """Entries of one or more edits, in order, and the settings they share; frozen.

    kind: the name of its method, which tells what a file holds. A patch acts through `attach`, on what modules
    give, or through `route`, on what is run in place of a prompt. `len` counts entries.
    """

    kind: ClassVar[str]

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def joined(self, later: Self) -> Self:
        """The memory with the entries of a later patch behind its own. BadInput if their settings differ."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """The named tensors of its own that, with `meta` and what is shared, make the patch again."""

    @abstractmethod
    def meta(self) -> dict[str, Any]:
        """Everything else, JSON-able."""

    @classmethod
    @abstractmethod
    def from_parts(cls, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Self:
        """The patch that gave these tensors, shared ones included, and this `meta`."""

    @property
    def routes(self) -> bool:
        """Whether it must be asked of every prompt before that is run, or be told where it ends."""
        return False

    @property
    def shared(self) -> "Shared | None":
        """What it has in common with other patches."""
        return None

    def sharing(self, shared: "Shared") -> Self:
        """The same patch with this very object in place of its equal."""
        return self

    def everything(self) -> dict[str, Tensor]:
        """Its own tensors and the shared ones."""
        return {**self.tensors(), **(self.shared.tensors if self.shared else {})}

    def attach(self, model: EditableModel) -> Sequence[Removable]:
        """Makes the model answer with the memory until the handles are removed."""
        return ()

    def route(self, model: EditableModel, prompts: Sequence[Tokens], spare: Sequence[int]) -> list[Routed]:
        """For each prompt what is run in its place: the prompt itself, by the model, where nothing bears on it.

        spare: how many tokens must still fit behind each.
        """
        return [Routed(model, prompt) for prompt in prompts]

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same patch with every tensor of its own replaced by what `change` makes of it."""
        changed = {name: change(tensor) for name, tensor in self.tensors().items()}
        return self.from_parts({**self.everything(), **changed}, self.meta())

    def norms(self) -> dict[str, float]:
        """Of the change of each site: a memory changes none."""
        return {}

    @property
    def nbytes(self) -> int:
        """What the tensors of its own take, in bytes."""
        return sum(tensor.nbytes for tensor in self.tensors().values())


Update = WeightDelta | Patch
"""What an edit adds: to weights, or beside them."""


def fold(patches: Iterable[Patch]) -> tuple[Patch, ...]:
    """One memory of each kind, with its entries in the order of the patches.

    BadInput for patches of one kind whose settings differ.
    """
    held: dict[str, Patch] = {}
    for patch in patches:
        held[patch.kind] = held[patch.kind].joined(patch) if patch.kind in held else patch
    return tuple(held.values())


def same_settings(kind: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """BadInput, naming what differs, unless two patches of a kind may be joined."""
    differing = {name: (value, theirs[name]) for name, value in ours.items() if value != theirs[name]}
    if differing:
        told = ", ".join(f"{name} {ours!r}, not {theirs!r}" for name, (ours, theirs) in differing.items())
        raise BadInput(f"the {kind} memory in force has {told}. Edit with the same options, or undo its edits first.")


@contextmanager
def overlaid(model: EditableModel, update: Update) -> Iterator[None]:
    """Within the context the model answers as if `update` were applied; no weight is touched."""
    if isinstance(update, WeightDelta):
        with model.overlay(update):
            yield
        return
    before = model.patches
    model.attach(fold([*before, update]))
    try:
        yield
    finally:
        model.attach(before)
