"""Edit a session in one call: the model's preset, what must be built beforehand, batches, and the updates applied."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from errata.artifacts.build import ensure
from errata.artifacts.store import Artifacts
from errata.data.cases import contradictions
from errata.data.corpora import read_corpus
from errata.editors.base import Editor, State
from errata.editors.presets import preset
from errata.errors import BadInput
from errata.keyvalue.filters import Filter, Held
from errata.model.editable import EditableModel
from errata.model.loading import load
from errata.registry import check_options, load_editor, load_filter, split_variant
from errata.types import EditRequest, Progress
from errata.update.delta import WeightDelta
from errata.update.patch import Update
from errata.update.session import Applied, EditSession


def open_session(model: str, device: str | None = None, dtype: str | None = None) -> EditSession:
    """A session on a model by name or folder; of a folder that a session was saved to, with its edits in force."""
    if not (Path(model) / "errata.json").is_file():
        return EditSession(load(model, device=device, dtype=dtype))
    session = EditSession.load(model, device=device)
    found = str(session.model.dtype).removeprefix("torch.")
    if dtype not in (None, found):
        raise BadInput(f"{model} was saved in {found}; a saved session keeps its dtype. Leave --dtype out.")
    return session


def choose_editor(
    method: str, model: EditableModel, options: Mapping[str, Any] | None = None, variant: str | None = None
) -> Editor:
    """The method with its preset for the model, and over it these options.

    method: its name, or "rome:released" for its variant. variant: "released" for what the papers on collapse ran,
    where that departs from the method.
    BadInput for an unknown method, variant or option, and where the preset leaves something open.
    """
    name, chosen = split_variant(f"{method}:{variant}" if variant else method)
    given = dict(options or {})
    check_options(name, given)
    return load_editor(name, **{**preset(name, model, chosen), **given})


def edit(
    session: EditSession,
    requests: Iterable[EditRequest],
    method: str | Editor = "memit",
    *,
    options: Mapping[str, Any] | None = None,
    filter: Mapping[str, Any] | str | None = None,
    max_change: float | None = None,
    batch: int | None = None,
    artifacts: Artifacts | None = None,
    corpus: str | None = None,
    progress: Progress | None = None,
) -> list[Applied]:
    """Write facts into the session's model; what was applied, one entry a batch.

    options: hyperparameters over the model's preset. filter: what clips each update before it is written, by
    name, or as {"name": ..., option: ...}; see `errata list filters`. max_change: the largest change of a matrix
    by one update, as a share of the unedited matrix' norm; a larger one is refused with BadInput. batch: how
    many are written at once; by default all where the method can, else one. corpus: text for second moments that
    are not in the cache ("atlas" or a file); for embedded models it is "atlas" by default.
    MissingArtifact if something must be built and no corpus is given. If a batch fails, the batches before it
    stay applied.
    """
    wanted = list(requests)
    for early, late in contradictions(wanted):
        raise BadInput(
            f"edits {early.id} and {late.id} contradict each other: {early.prompt!r} cannot be answered both by "
            f"{early.target_new!r} and by {late.target_new!r}; leave one of them out. Nothing was written."
        )
    if isinstance(method, Editor) and options:
        raise BadInput("options are for a method by its name; an editor has its own.")
    editor = method if isinstance(method, Editor) else choose_editor(method, session.model, options)
    chosen = load_filter(filter)
    store = artifacts or Artifacts()
    store.bind(session.model, session.base)
    provide(session, editor, store, corpus, progress)
    size = batch_size(editor, batch or max(len(wanted), 1), told=batch is not None)
    state: State = {}
    applied = []
    for first in range(0, len(wanted), size):
        part = wanted[first : first + size]
        result = editor.edit(session.model, part, state, store, progress)
        state = result.state
        update = filtered(session, result.update, chosen)
        _check_change(session, update, part, max_change)
        applied.append(session.apply(update, part, editor.name, hyperparameters(editor), filter_options(chosen)))
        if progress is not None:
            progress("edits", first + len(part), len(wanted))
    return applied


def _check_change(session: EditSession, update: Update, requests: Sequence[EditRequest], limit: float | None) -> None:
    """BadInput if an update would change a matrix by more than that share of its unedited norm."""
    for site, norm in update.norms().items():
        share = norm / float(session.base.get(site, session.model.weight(site)).double().norm())
        if limit is not None and share > limit:
            first = f"edit {requests[0].id}" + (f" and {len(requests) - 1} more" if len(requests) > 1 else "")
            raise BadInput(
                f"{first} would change {site} by {100 * share:.3g}% of its norm, more than the {100 * limit:.3g}% that "
                "are allowed; it was not written. Edit more gently (lower lr or clamp, another layer), or allow more: "
                "--max-change."
            )


def batch_size(editor: Editor, asked: int, told: bool = True) -> int:
    """How many requests the method gets at once. told: warn where the method splits what was asked for."""
    if editor.batch or asked == 1:
        return asked
    if told:
        warnings.warn(f"{editor.name} writes one edit at a time; batches of {asked} are split.", stacklevel=3)
    return 1


def drop(
    session: EditSession,
    edit: int,
    request: str,
    *,
    artifacts: Artifacts | None = None,
    corpus: str | None = None,
    progress: Progress | None = None,
) -> Applied | None:
    """Take one request out of an edit that was solved jointly: the others are solved again without it.

    The method starts afresh, with contexts sampled anew from the seed; edits made later are then added as
    they were. None if no request remains. BadInput for an edit or a request that is not in force.
    """
    entry = session.entry(edit)
    editor = load_editor(entry.method, **entry.options)
    store = artifacts or Artifacts()
    store.bind(session.model, session.base)
    provide(session, editor, store, corpus, progress)

    def solve(rest: Sequence[EditRequest]) -> Update:
        update = editor.edit(session.model, rest, {}, store, progress).update
        return filtered(session, update, load_filter(entry.filter), before=edit)

    return session.drop_request(edit, request, solve)


def filtered(session: EditSession, update: Update, filter: Filter | None, before: int | None = None) -> Update:
    """What is left of an update that is about to be applied; without a filter all of it.

    before: the edit that it will stand in for, by default none: then it comes after all that are in force.
    BadInput for a memory beside the weights.
    """
    if filter is None:
        return update
    if not isinstance(update, WeightDelta):
        raise BadInput(
            f"the filter {filter.name} clips changes of weights, and {update.kind} makes none: its edits are a memory "
            "beside them. Leave the filter out, or choose a method that writes weights, such as memit."
        )
    base, total = session.base, session.total(before).sites

    def held(site: str) -> Held:
        now = session.model.weight(site)
        return Held(base.get(site, now), now, total.get(site))

    return WeightDelta({site: filter(change, held(site)) for site, change in update.sites.items()})


def filter_options(filter: Filter | None) -> dict[str, Any] | None:
    """A filter as `load_filter` takes it, for ledgers."""
    options: Any = filter
    return None if filter is None else {"name": filter.name, **asdict(options)}


def provide(
    session: EditSession, editor: Editor, artifacts: Artifacts, corpus: str | None, progress: Progress | None
) -> None:
    """Build what the editor needs and the cache lacks, if there is a corpus to build it from.

    BadInput where edits are in force already: the statistics are those of the unedited model.
    """
    source = corpus or embedded_corpus(session.origin)
    needs = editor.needs(session.model)
    texts = read_corpus(source) if source else None
    ensure(session.model, needs, artifacts, texts, progress=progress, corpus=source or "")


def embedded_corpus(model: str) -> str | None:
    """The corpus that belongs to an embedded model, None for other models."""
    from errata.atlas import MODELS

    return "atlas" if model in MODELS else None


def change(session: EditSession) -> dict[str, tuple[float, float]]:
    """For each edited site the Frobenius norm of all that changed, and its share of the unedited matrix' norm."""
    norms = {}
    for site, base in session.base.items():
        moved = float((session.model.weight(site).double() - base.double()).norm())
        norms[site] = moved, moved / max(float(base.double().norm()), 1e-30)
    return norms


def hyperparameters(editor: Editor) -> dict[str, Any]:
    """What the editor, a dataclass like all of them, was set to: for the session's ledger."""
    fields: Any = editor
    return asdict(fields)
