"""The owner of an edited model: the only place where a weight is written."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from transformers import PreTrainedModel

from errata.errors import BadInput, Diverged
from errata.model.editable import EditableModel
from errata.model.loading import load, quiet
from errata.types import EditRequest
from errata.update.delta import LowRank, WeightDelta, added
from errata.update.patch import Patch, Shared, Update, fold
from errata.update.storage import (
    FORMAT,
    LEDGER,
    edit_file,
    load_tensors,
    load_update,
    read_ledger,
    replace_folder,
    save_tensors,
    save_update,
)

Resolve = Callable[[Sequence[EditRequest]], Update]
"""Solves requests anew on the model as it stands."""


@dataclass(frozen=True)
class Applied:
    """One update in force.

    id: counts from 1 and is never used again. options: of the method, JSON-able. norms: Frobenius norm
    of the change at each site; relative_norms: the same over the norm of the unedited matrix. filter: name
    and options of what clipped the method's update, None for none. entries, bytes: of a patch, which changes
    no site.
    """

    id: int
    method: str
    options: Mapping[str, Any]
    requests: tuple[EditRequest, ...]
    norms: Mapping[str, float]
    relative_norms: Mapping[str, float]
    filter: Mapping[str, Any] | None = None
    entries: int = 0
    bytes: int = 0


@dataclass
class _Site:
    """An edited matrix. base: before the first edit, in the model's dtype. master: base + updates, float32; None where
    the model's own matrix is that.
    """

    base: Tensor
    master: Tensor | None
    norm: float = field(init=False)

    def __post_init__(self) -> None:
        self.norm = float(torch.linalg.norm(self.base.double()))


class EditSession:
    """Applies updates to a model, takes them back, saves and loads the result.

    The matrix of an edited site is always cast(base + first update + second update + ...), summed in
    float32 in the order of application. So an undone edit leaves bits as if it had never been, and
    a bf16 model does not lose small updates one by one to rounding. Memories beside the weights are the
    fold of the patches in force, in the same order, behind those that the model came with.
    """

    def __init__(self, model: EditableModel) -> None:
        self.model = model
        self.origin = model.name
        self._sites: dict[str, _Site] = {}
        self._given = model.patches
        self._shared: dict[str, Shared] = {}
        self._edits: dict[int, tuple[Applied, Update]] = {}
        self._next = 1

    @property
    def applied(self) -> list[Applied]:
        """What is in force, in order."""
        return [applied for applied, _ in self._edits.values()]

    @property
    def base(self) -> dict[str, Tensor]:
        """The edited matrices as they were before the first edit, (d_out, d_in) in the model's dtype."""
        return {site: self._sites[site].base for site in self._in_force()}

    def entry(self, edit: int | None = None) -> Applied:
        """An edit in force, the last one by default. BadInput if it is not in force."""
        key = next(reversed(self._edits), None) if edit is None else edit
        if key is None or key not in self._edits:
            held = ", ".join(map(str, self._edits)) or "none"
            raise BadInput(f"edit {key or 1} is not in force in this session; in force: {held}.")
        return self._edits[key][0]

    def update(self, edit: int) -> Update:
        """The change made by an edit in force. BadInput if it is not in force."""
        return self._edits[self.entry(edit).id][1]

    def total(self, before: int | None = None) -> WeightDelta:
        """The sum of the changes of weights in force; with `before`, of those that are older than that edit."""
        older = (update for edit, (_, update) in self._edits.items() if before is None or edit < before)
        return added(update for update in older if isinstance(update, WeightDelta))

    def fingerprint(self) -> str:
        """Of the whole model; equal for equal weights and memories, whatever came between."""
        return self.model.fingerprint()

    def merged(self) -> PreTrainedModel:
        """The model with all edits in its weights. BadInput where one is a memory beside them."""
        if memories := [patch.kind for patch in self.model.patches]:
            raise BadInput(
                f"edits by {', '.join(memories)} are a memory beside the weights of {self.origin} and cannot be merged "
                "into them. Save the session and load its folder with Errata, or edit by a method that writes weights, "
                "such as memit."
            )
        model: PreTrainedModel = self.model.model
        return model

    # Changing the model

    def apply(
        self,
        update: Update,
        requests: Sequence[EditRequest] = (),
        method: str = "",
        options: Mapping[str, Any] | None = None,
        filter: Mapping[str, Any] | None = None,
    ) -> Applied:
        """Adds an update to the weights, at the price of one addition a site, or a patch to the memories.

        method, options, filter: what the update comes from, for the ledger; it is clipped already.

        Diverged if a weight or an entry would become NaN or infinite; BadInput for a site that cannot be
        edited, and for a patch that cannot be joined to the memory of its kind. Either leaves the model as it was.
        """
        update = self._own(update)
        if isinstance(update, WeightDelta):
            self._add(update)
        else:
            self.model.attach(fold([*self.model.patches, update]))
        sizes = self._sizes(update)
        applied = Applied(self._next, method, dict(options or {}), tuple(requests), filter=filter, **sizes)
        self._edits[applied.id] = applied, update
        self._next += 1
        return applied

    def undo(self, edit: int | None = None) -> Applied:
        """Takes an edit back, the last one by default. BadInput if it is not in force."""
        applied = self.entry(edit)
        sites = _sites(self._edits[applied.id][1])
        self._rebuild(sites, [key for key in self._edits if key != applied.id], f"undoing edit {applied.id}")
        del self._edits[applied.id]
        return applied

    def drop_request(self, edit: int, request_id: str, resolve: Resolve) -> Applied | None:
        """Takes one request out of a joint batch by solving the batch again without it.

        resolve: gets the remaining requests, with the model as it was before the batch, and returns
        their update; later updates are then added again. None if no request remains.
        """
        applied, update = self.entry(edit), self.update(edit)
        rest = tuple(request for request in applied.requests if request.id != request_id)
        if len(rest) == len(applied.requests):
            held = ", ".join(request.id for request in applied.requests) or "none by name"
            raise BadInput(f"edit {edit} has no request {request_id!r}; it holds {held}.")
        if not rest:
            self.undo(edit)
            return None
        try:
            self._rebuild(self._in_force(), [key for key in self._edits if key < edit], "rebuilding")
            solved = self._own(resolve(rest))
            fewer = replace(applied, requests=rest, **self._sizes(solved))
            self._edits[edit] = fewer, solved
            self._rebuild(self._sites, list(self._edits), f"edit {edit} without {request_id}")
        except BaseException:
            self._edits[edit] = applied, update
            self._rebuild(self._sites, list(self._edits), "rebuilding")
            raise
        return fewer

    def _own(self, update: Update) -> Update:
        """A copy of an update on the model's device, checked against the sites, which are opened.

        Strides and alignment can change the last bits of a matrix product: with all updates laid out
        alike, one that was saved and loaded adds up to the same bits.
        """
        if isinstance(update, Patch):
            if not all(tensor.isfinite().all() for tensor in update.tensors().values()):
                raise Diverged(
                    f"edit {self._next} has a {update.kind} entry that is NaN or infinite; edit more gently."
                )
            mine = update.mapped(lambda tensor: _laid_out(tensor, self.model.device, tensor.dtype))
            return mine if mine.shared is None else mine.sharing(self._kept(mine.shared))
        for site in update.sites:
            self._open(site)
            shape, found = self._sites[site].base.shape, _shape(update.sites[site])
            if found != tuple(shape):
                raise BadInput(f"an update of {site} has the shape {found}; the matrix is {tuple(shape)}.")
        return update.mapped(lambda tensor: _laid_out(tensor, self.model.device, torch.float32))

    def _kept(self, shared: Shared) -> Shared:
        """One copy of what patches share, laid out as their own tensors are."""
        if shared.digest not in self._shared:
            laid = {name: _laid_out(t, self.model.device, t.dtype) for name, t in shared.tensors.items()}
            self._shared[shared.digest] = replace(shared, tensors=laid)
        return self._shared[shared.digest]

    def _open(self, site: str) -> None:
        """Keeps the matrix of a site before its first edit. BadInput for tied and non-linear modules."""
        if site in self._sites:
            return
        weight = self.model.weight(site)
        if tied := self.model.shared(site):
            raise BadInput(
                f"{site} is the same tensor as {', '.join(tied)}: editing one would edit the other. "
                f"Edit linear maps inside the layers, such as {self.model.site(0)}."
            )
        self._sites[site] = _Site(weight.clone(), None if weight.dtype == torch.float32 else weight.float().clone())

    def _sizes(self, update: Update) -> dict[str, Any]:
        """Norms of a change at each site, as such and over the unedited matrix's; entries and bytes of a patch."""
        if isinstance(update, Patch):
            return {"norms": {}, "relative_norms": {}, "entries": len(update), "bytes": update.nbytes}
        norms = update.norms()
        relative = {site: norm / max(self._sites[site].norm, 1e-30) for site, norm in norms.items()}
        return {"norms": norms, "relative_norms": relative}

    def _rebuild(self, sites: Iterable[str], edits: Sequence[int], what: str) -> None:
        """Writes base + the updates of `edits`, in order, at `sites`, and attaches the fold of their patches."""
        masters = {site: self._sites[site].base.float() for site in sites}
        updates = [self._edits[edit][1] for edit in edits]
        for update in updates:
            if isinstance(update, WeightDelta):
                for site in update.sites.keys() & masters:
                    masters[site] = masters[site] + update.dense(site)
        self._write(masters, what)
        self.model.attach(fold([*self._given, *(update for update in updates if isinstance(update, Patch))]))

    def _add(self, update: WeightDelta) -> None:
        """One site after the other, so that no more than one new matrix is held; all of them, or none."""
        try:
            for site in update.sites:
                self._write({site: self._master(site) + update.dense(site)}, f"edit {self._next}")
        except BaseException:
            self._rebuild(update.sites, list(self._edits), "rebuilding")
            raise

    def _master(self, site: str) -> Tensor:
        held = self._sites[site].master
        return self.model.weight(site) if held is None else held

    def _write(self, masters: Mapping[str, Tensor], what: str) -> None:
        """Casts and writes all matrices, or none of them. Diverged if one is not finite."""
        values = {site: master.to(self.model.dtype) for site, master in masters.items()}
        for site, value in values.items():
            if not torch.isfinite(value).all():
                raise Diverged(
                    f"{what} makes {site} of {self.model.name} NaN or infinite; the weights stay as they were. "
                    "Undo earlier edits, or edit more gently."
                )
        for site, value in values.items():
            self.model.write(site, value)
            if self._sites[site].master is not None:
                self._sites[site].master = masters[site]

    def _in_force(self) -> list[str]:
        """Sites that an edit in force has changed."""
        return list(dict.fromkeys(site for _, update in self._edits.values() for site in _sites(update)))

    # Folders

    def save(self, folder: str | Path) -> None:
        """Writes the edited model in Hugging Face layout, with all that undo needs beside it.

        `errata.json` (what is in force), `edits/NNNNN.safetensors` and `base/SITE.safetensors`. An
        earlier session in the folder is replaced; BadInput if the folder holds anything else, and for a session
        on a model that came with memories of an earlier one.
        """
        if self._given:
            raise BadInput(
                f"{self.origin} came with memories of an earlier session, which a new one cannot save. "
                f"Open it with its edits: EditSession.load({self.origin!r})."
            )
        replace_folder(Path(folder), self._save)

    def _save(self, folder: Path) -> None:
        with quiet():
            self.model.model.save_pretrained(folder)
        self.model.tokenizer.save_pretrained(folder)
        for edit, (_, update) in self._edits.items():
            save_update(edit_file(folder, edit), update)
        for site in self._in_force():
            held = self._sites[site]
            save_tensors(_base_file(folder, site), {"base": held.base, "master": self._master(site)})
        ledger = {
            "format": FORMAT,
            "model": self.origin,
            "fingerprint": self.fingerprint(),
            "next": self._next,
            "sites": self._in_force(),
            "edits": [asdict(applied) for applied in self.applied],
        }
        (folder / LEDGER).write_text(json.dumps(ledger, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path, device: str | None = None) -> Self:
        """A saved session with bit-identical weights, its edits in force.

        BadInput if the folder is no session or its weights were changed since.
        """
        folder = Path(folder)
        ledger = read_ledger(folder)
        model = load(str(folder), device=device)
        model.attach(())  # they come with the edits
        session = cls(model)
        session.origin, session._next = ledger["model"], ledger["next"]
        here = session.model.device
        for site in ledger["sites"]:
            tensors = load_tensors(_base_file(folder, site))
            master = None if model.dtype == torch.float32 else tensors["master"].to(here)
            session._sites[site] = _Site(tensors["base"].to(here), master)
        for line in ledger["edits"]:
            requests = tuple(EditRequest(**request) for request in line["requests"])
            applied = Applied(**{**line, "requests": requests})
            session._edits[applied.id] = applied, session._own(load_update(edit_file(folder, applied.id)))
        session._rebuild((), list(session._edits), "loading")
        if session.fingerprint() != ledger["fingerprint"]:
            raise BadInput(f"the weights in {folder} are not those that were saved with its edits; save it again.")
        return session


def _sites(update: Update) -> tuple[str, ...]:
    """What it changes: nothing, if it is a patch."""
    return tuple(update.sites) if isinstance(update, WeightDelta) else ()


def _shape(change: LowRank | Tensor) -> tuple[int, ...]:
    """(d_out, d_in) of a change."""
    return (len(change.left), change.right.shape[1]) if isinstance(change, LowRank) else tuple(change.shape)


def _laid_out(tensor: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Contiguous and in memory of its own."""
    return tensor.detach().to(device, dtype).clone(memory_format=torch.contiguous_format)


def _base_file(folder: Path, site: str) -> Path:
    return folder / "base" / f"{site}.safetensors"
