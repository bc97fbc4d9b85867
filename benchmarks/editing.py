"""Editing against the literal oracles: GPT-2's shapes, random weights, the same steps, precision and threads.

Both sides write the same facts in the same contexts, each into a model of its own, one edit of each in turn. What is
computed once for a model, a factorisation or a spectrum, is timed and shared out evenly over the edits. After each
edit the updates are compared, and the reference goes on from our weights: otherwise rounding, which the search for
targets magnifies, would add up from edit to edit.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness import Contest, Row, Trial, largest, timed
from benchmarks.machine import Work
from benchmarks.oracles import memit as plain_memit
from benchmarks.oracles import pmet as plain_pmet
from benchmarks.oracles import rome as plain_rome
from benchmarks.oracles.rome import Fact, Plain, Settings
from benchmarks.shapes import SMALL, TINY, XL, Shape, moment, random_model, requests
from errata.artifacts.store import Artifacts, SecondMoment
from errata.editors.alphaedit import AlphaEdit
from errata.editors.base import Editor, EditResult, State
from errata.editors.bases.rank_one import RankOne
from errata.editors.memit import Memit
from errata.editors.pmet import Pmet
from errata.editors.rome import Rome
from errata.keyvalue.contexts import STARTS, STATE, Contexts, contexts, groups
from errata.keyvalue.keys import Layout, lay_out
from errata.model.editable import EditableModel
from errata.types import EditRequest
from errata.update.delta import WeightDelta
from errata.update.session import EditSession

Dense = dict[int, Tensor]
"""Updates (d_out, d_in) by layer."""


@dataclass
class Arena:
    """The two models, and what was built for them. prefixes: of all prompts. history: of the reference, by layer."""

    shape: Shape
    ours: EditSession
    plain: Plain
    artifacts: Artifacts
    moments: Mapping[int, Tensor]
    state: State
    prefixes: Sequence[str]
    history: Dense


Reference = Callable[[Arena, Any, Sequence[EditRequest]], Dense]


def arena(shape: Shape, editor: Any, folder: Path) -> Arena:
    """Equal models with second moments of made-up spectra, and prefixes sampled for both."""
    ours, other = random_model(shape), random_model(shape)
    artifacts = Artifacts(folder)
    moments = {layer: moment(shape.inner, layer) for layer in _layers(editor)}
    for layer, C in moments.items():
        artifacts.add(ours, layer, SecondMoment(C, 10 * shape.inner, {}))
    texts = _contexts(ours, editor)
    plain = Plain(other.model, other.tokenizer, other.arch.layers, other.arch.down)
    return Arena(shape, EditSession(ours), plain, artifacts, moments, {STATE: texts.ids}, texts.prefixes, {})


def _layers(editor: Any) -> tuple[int, ...]:
    return (editor.layer,) if isinstance(editor, RankOne) else tuple(editor.layers)


def _contexts(model: EditableModel, editor: Any) -> Contexts:
    sizes = groups(editor.contexts)
    weights = torch.ones(1 + sum(count for _, count in sizes))
    return contexts(model, sizes, weights, {}, editor.seed, () if isinstance(editor, RankOne) else STARTS)


def sequential(editor: Editor, reference: Reference, shape: Shape, edits: int, batch: int = 1) -> Contest:
    """Batches of edits one after another; a trial is one batch."""
    found: list[EditResult] = []
    layouts: list[Layout] = []

    def trials() -> Iterator[Trial]:
        with TemporaryDirectory() as folder:
            place = arena(shape, editor, Path(folder))
            model, wanted = place.ours.model, requests(edits * batch)
            texts = _contexts(model, editor)
            layouts.extend(lay_out(model, request, texts) for request in wanted)
            once = timed(partial(prepare, editor, place))[0] / edits
            for start in range(0, len(wanted), batch):
                part = wanted[start : start + batch]
                fast, result = timed(partial(edit, editor, place, part))
                slow, expected = timed(partial(reference, place, editor, part))
                found.append(result)
                assert isinstance(result.update, WeightDelta)
                ours = {model.layer_of(site): result.update.dense(site) for site in result.update.sites}
                for layer, change in ours.items():
                    _add(place.plain, layer, change - expected[layer])
                yield Trial(fast + once, slow, largest(ours, expected))

    def work() -> Work:
        steps = [detail["steps"] for result in found for detail in result.details]
        return needed(editor, shape, layouts[: len(steps)], steps).times(1 / len(found))

    return Contest(trials(), edits, work)


def prepare(editor: Any, place: Arena) -> None:
    """What is computed once for the unedited model."""
    model, artifacts = place.ours.model, place.artifacts
    for layer in _layers(editor):
        if isinstance(editor, AlphaEdit):
            artifacts.spectrum(model, layer)
        else:
            artifacts.cholesky(model, layer, getattr(editor, "moment_weight", 1.0), editor.ridge)


def edit(editor: Editor, place: Arena, part: Sequence[EditRequest]) -> EditResult:
    result = editor.edit(place.ours.model, part, place.state, place.artifacts)
    place.ours.apply(result.update, part, editor.name)
    place.state = result.state
    return result


# References: the oracle of a method, its update written into the plain model


def _settings(editor: Any) -> Settings:
    return Settings(editor.steps, editor.lr, editor.weight_decay, editor.clamp, editor.kl, editor.loss_stop)


def _facts(part: Sequence[EditRequest]) -> list[Fact]:
    return [Fact(request.prompt, request.subject, request.target_new) for request in part]


def _written(place: Arena, updates: Dense) -> Dense:
    for layer, change in updates.items():
        _add(place.plain, layer, change)
    return updates


@torch.no_grad()
def _add(plain: Plain, layer: int, change: Tensor) -> None:
    """GPT-2 stores its matrices transposed."""
    plain.down(layer).get_parameter("weight").add_(change.T)


def rome(place: Arena, editor: Rome, part: Sequence[EditRequest]) -> Dense:
    (fact,) = _facts(part)
    texts = [fact.prompt, *(f"{prefix}. {fact.prompt}" for prefix in place.prefixes)]
    C = place.moments[editor.layer]
    update, _, _ = plain_rome.rome(place.plain, editor.layer, fact, texts, C, _settings(editor))
    return _written(place, {editor.layer: update})


def memit(place: Arena, editor: Memit, part: Sequence[EditRequest]) -> Dense:
    solve = plain_memit.least_squares(dict(place.moments), editor.moment_weight)
    facts, settings = _facts(part), _settings(editor)
    updates, _ = plain_memit.memit(place.plain, editor.layers, facts, place.prefixes, settings, True, solve)
    return _written(place, updates)


def alphaedit(place: Arena, editor: AlphaEdit, part: Sequence[EditRequest]) -> Dense:
    solve = plain_memit.null_space(dict(place.moments), editor.threshold, editor.l2, place.history or None)
    facts, settings = _facts(part), _settings(editor)
    updates, keys = plain_memit.memit(place.plain, editor.layers, facts, place.prefixes, settings, True, solve)
    for layer, K in keys.items():
        place.history[layer] = place.history.get(layer, torch.zeros(())) + K.T @ K
    return _written(place, updates)


def pmet(place: Arena, editor: Pmet, part: Sequence[EditRequest]) -> Dense:
    settled = editor.settled_weight, editor.settled_drift
    solve = plain_memit.least_squares(dict(place.moments), editor.moment_weight)
    layers, facts, settings = editor.layers, _facts(part), _settings(editor)
    updates, _ = plain_pmet.pmet(place.plain, "attn", layers, facts, place.prefixes, settings, settled, True, solve)
    return _written(place, updates)


# The floor


def needed(editor: Any, shape: Shape, layouts: Sequence[Layout], steps: Sequence[int]) -> Work:
    """What all these edits need, one at a time: see `docs/performance.md` for each term."""
    total = Work()
    for layout, taken in zip(layouts, steps, strict=True):
        total += _search(editor, shape, layout, taken) + _keys(editor, shape, layout) + _solve(editor, shape)
    return total


def _search(editor: Any, shape: Shape, layout: Layout, steps: int) -> Work:
    """Forward and backward above the layer from the lookups on, and the head where a token is predicted."""
    last = _layers(editor)[-1]
    above = shape.layers - last - 1
    rows = [*layout.rows, layout.essence]
    inputs = sum(len(row.ids) - bool(row.target) - row.lookup for row in rows)
    predicted = sum(len(row.target) for row in layout.rows) + 1
    once = Work(
        float32=2 * (inputs * above * shape.layer_weights + predicted * shape.head_weights),
        bytes=4 * (above * shape.layer_weights + shape.head_weights),
    )
    left = sum(row.lookup for row in rows)
    # Up to the layer everything, above it what the lookups see.
    recorded = Work(float32=2 * shape.layer_weights * ((left + inputs) * (last + 1) + left * above))
    return recorded + once.times(2 * steps + 1)


def _keys(editor: Any, shape: Shape, layout: Layout) -> Work:
    """The rows up to their lookups, once through the edited layers; ROME's search has met its keys already."""
    layers = _layers(editor)
    if len(layers) == 1:
        return Work()
    tokens = sum(row.lookup + 1 for row in layout.rows)
    return Work(float32=2 * tokens * shape.layer_weights * (layers[-1] + 1))


def _solve(editor: Any, shape: Shape) -> Work:
    """Two triangular solves for each layer, each of which reads the factor."""
    one = Work(float64=2 * shape.inner**2, bytes=8 * shape.inner**2)
    return one.times(len(_layers(editor)))


def _row(name: str, unit: str, target: float, editor: Callable[[Shape], Editor], reference: Any, **sizes: Any) -> Row:
    """sizes: `shape`, `edits` and `batch` of the row."""

    def contest(quick: bool) -> Contest:
        given: dict[str, Any] = {"shape": SMALL, "edits": 10, **sizes}
        if quick:
            given = {**given, "shape": TINY, "edits": 2, "batch": min(given.get("batch", 1), 5)}
        return sequential(editor(given["shape"]), reference, **given)

    return Row(name, unit, target, contest)


def _alphaedit(shape: Shape) -> Editor:
    """With four fifths of the directions open, about as many as the paper's threshold leaves in GPT-J."""
    values = torch.linalg.eigvalsh(moment(shape.inner, shape.edited[0]).double())
    return AlphaEdit(shape.edited, threshold=float(values[4 * len(values) // 5]))


ROWS = (
    _row("ROME", "one of 10 sequential edits, GPT-2 small", 4, lambda shape: Rome(shape.edited[-1]), rome),
    _row("MEMIT", "one of 10 sequential edits, GPT-2 small", 5, lambda shape: Memit(shape.edited), memit),
    _row("PMET", "one of 10 sequential edits, GPT-2 small", 5, lambda shape: Pmet(shape.edited), pmet),
    _row("AlphaEdit", "one of 10 sequential edits, GPT-2 small", 8, _alphaedit, alphaedit),
    _row(
        "MEMIT of 100", "one batch of 100, GPT-2 small", 8, lambda shape: Memit(shape.edited), memit, edits=1, batch=100
    ),
    _row(
        "MEMIT XL",
        "one of 2 sequential edits, GPT-2 XL",
        6,
        lambda shape: Memit(shape.edited),
        memit,
        shape=XL,
        edits=2,
    ),
)
