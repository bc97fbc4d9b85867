"""GRACE's memory: regions around keys, at the input of one linear map, and what the map gives inside them.

Paper: Hartvigsen, Sankaranarayanan, Palangi, Kim, Ghassemi, "Aging with GRACE: Lifelong Model Editing with
Discrete Key-Value Adaptors", NeurIPS 2023 (arXiv 2211.11031), section 3 and algorithm 1, with the radii as
in the authors' code. Every token is looked up, not only the prompt's last one: so the answer depends neither
on padding nor on caches nor on where a prompt ends, and text that is generated is looked up as well. The
released code looks the prompt's last token up and no other (its option `replace_last`), as `last_only` does
here: what a prompt goes on to say after an edited one, and what is generated, then follows from the model alone.
A key that cannot be told from an earlier one takes its place: the published split would leave both a radius of nil.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from errata.errors import BadInput
from errata.model import hooks
from errata.model.editable import EditableModel
from errata.update.patch import Patch, same_settings

MARGIN = 1e-5
"""What keeps two regions that were split from touching."""
SAME = 0.01
"""Keys closer than this share of their length are the same key: rounding moves one about as far."""


@dataclass(frozen=True)
class Regions:
    """m balls around keys. keys: (m, d_in). values: (m, d_out). radii: (m,) float64. labels: the answers' texts."""

    keys: Tensor
    values: Tensor
    radii: Tensor
    labels: tuple[str, ...]

    def nearest(self, key: Tensor) -> tuple[int, float]:
        """Index of the region whose key is nearest to a key (d_in,), and the Euclidean distance."""
        distances = (self.keys.double() - key.double()).norm(dim=-1)
        index = int(distances.argmin())
        return index, float(distances[index])

    def claimed(self, key: Tensor, radius: float) -> tuple[int, float] | None:
        """The nearest region and its distance, if a new region of that radius around the key could overlap it."""
        if not self.labels:
            return None
        near, distance = self.nearest(key)
        return (near, distance) if distance <= float(self.radii[near]) + radius else None

    def written(self, key: Tensor, value: Tensor, label: str, radius: float) -> "Regions":
        """With one more entry (algorithm 1): a new region, a wider one, or one split in two.

        key: (d_in,). value: (d_out,). radius: of a region by itself.
        """
        claimed = self.claimed(key, radius)
        if claimed is None:
            return self._with(key, value, label, radius)
        near, distance = claimed
        if label == self.labels[near] or distance <= SAME * float(key.double().norm()):
            return self._over(near, value, label, max(float(self.radii[near]), distance))
        halved = replace(self, radii=_put(self.radii, near, distance / 2 - MARGIN))
        return halved._with(key, value, label, distance / 2)

    def replaced(self, x: Tensor, y: Tensor) -> Tensor:
        """y with the nearest region's value wherever x lies in that region. x: (..., d_in). y: (..., d_out)."""
        distances, index = torch.cdist(x.reshape(-1, x.shape[-1]), self.keys).min(-1)
        inside = distances <= self.radii[index]
        rows = y.reshape(-1, y.shape[-1])
        return torch.where(inside[:, None], self.values[index].to(y), rows).reshape(y.shape)

    def replaced_at(self, x: Tensor, y: Tensor, columns: Tensor) -> Tensor:
        """The same at one column of each row alone, and nowhere in a row whose column is not among its own.

        x: (n, t, d_in), or (n * t, d_in) where a family flattens. columns: (n,); rows that are copies stand together.
        """
        n = len(x) if x.dim() == 3 else len(columns)
        keys, outputs = x.reshape(n, -1, x.shape[-1]), y.reshape(n, -1, y.shape[-1])
        columns = columns.to(x.device).repeat_interleave(n // len(columns))
        rows = ((columns >= 0) & (columns < keys.shape[1])).nonzero()[:, 0]
        places = rows, columns[rows]
        return outputs.index_put(places, self.replaced(keys[places], outputs[places])).reshape(y.shape)

    def to(self, device: torch.device, dtype: torch.dtype) -> "Regions":
        """On a device, with keys of a dtype."""
        return Regions(self.keys.to(device, dtype), self.values.to(device), self.radii.to(device), self.labels)

    def _with(self, key: Tensor, value: Tensor, label: str, radius: float) -> "Regions":
        return Regions(
            torch.cat([self.keys, key[None]]),
            torch.cat([self.values, value[None]]),
            torch.cat([self.radii, self.radii.new_tensor([radius])]),
            (*self.labels, label),
        )

    def _over(self, near: int, value: Tensor, label: str, radius: float) -> "Regions":
        labels = (*self.labels[:near], label, *self.labels[near + 1 :])
        return Regions(self.keys, _put(self.values, near, value), _put(self.radii, near, radius), labels)


@dataclass(frozen=True)
class Codebook(Patch):
    """One entry for each request; the regions follow from the entries in their order.

    site: the linear map. keys: (n, d_in), values: (n, d_out), float32 or float64. radii: (n,) float64, of each
    entry by itself. labels: n texts of answers. last_only: a prompt's last token is looked up and no other. known:
    the regions, where they were computed already.
    """

    kind: ClassVar[str] = "grace"

    site: str
    keys: Tensor
    values: Tensor
    radii: Tensor
    labels: tuple[str, ...]
    last_only: bool = False
    known: Regions | None = field(default=None, repr=False, compare=False)

    @cached_property
    def regions(self) -> Regions:
        """What the entries, written one after the other, come to."""
        return self.known or self._written(Regions(self.keys[:0], self.values[:0], self.radii[:0], ()))

    def __len__(self) -> int:
        return len(self.labels)

    def joined(self, later: Self) -> Self:
        same_settings(self.kind, self._place, later._place)
        return replace(
            self,
            keys=torch.cat([self.keys, later.keys]),
            values=torch.cat([self.values, later.values]),
            radii=torch.cat([self.radii, later.radii]),
            labels=self.labels + later.labels,
            known=later._written(self.regions),
        )

    def tensors(self) -> dict[str, Tensor]:
        return {"keys": self.keys, "values": self.values, "radii": self.radii}

    def meta(self) -> dict[str, Any]:
        return {"site": self.site, "labels": list(self.labels), "last_only": self.last_only}

    @classmethod
    def from_parts(cls, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Self:
        keys, values, radii = (tensors[name] for name in ("keys", "values", "radii"))
        return cls(meta["site"], keys, values, radii, tuple(meta["labels"]), meta["last_only"])

    @property
    def routes(self) -> bool:
        return self.last_only

    def attach(self, model: EditableModel) -> Sequence[hooks.Removable]:
        """A hook on the linear map. BadInput if the entries are not of its widths."""
        if not self.labels:
            return ()
        found, wanted = self._place["shape"], tuple(model.weight(self.site).shape)
        if found != wanted:
            raise BadInput(f"a codebook of {self.site} has values and keys of {found}; the matrix is {wanted}.")
        linear = model.model.get_submodule(self.site)
        regions = self.regions.to(next(linear.parameters()).device, torch.promote_types(model.dtype, torch.float32))

        def answer(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
            x = hooks.widened(args[0]).to(output.device)
            if not self.last_only:
                return regions.replaced(x, output)
            return output if model.prompt_ends is None else regions.replaced_at(x, output, model.prompt_ends)

        return [linear.register_forward_hook(answer)]

    @property
    def _place(self) -> dict[str, Any]:
        """What entries must share."""
        shape = self.values.shape[1], self.keys.shape[1]
        return {"site": self.site, "shape": shape, "last_only": self.last_only}

    def _written(self, regions: Regions) -> Regions:
        """The regions once this patch's entries are written too."""
        for entry in zip(self.keys, self.values, self.labels, self.radii.tolist(), strict=True):
            regions = regions.written(*entry)
        return regions


def _put(tensor: Tensor, index: int, value: Tensor | float) -> Tensor:
    """A copy with one row replaced."""
    changed = tensor.clone()
    changed[index] = value
    return changed
