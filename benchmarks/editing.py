"""Editing against the literal oracles: GPT-2's shapes, random weights, the same steps, precision and threads.

Both sides compute the update for the same facts in the same contexts on the same weights, one after the other; they
are compared, and ours is written. So rounding, which the search for targets magnifies, does not add up from edit to
edit. What is computed once for a model, a factorisation or a spectrum, is timed and shared out evenly over the edits.
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
    """A model, and what was built for it. prefixes: of all prompts. history: of the reference, sums by layer."""

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
    """A model with second moments of made-up spectra, and prefixes sampled for both."""
    model = random_model(shape)
    artifacts = Artifacts(folder)
    moments = {layer: moment(shape.inner, layer) for layer in _layers(editor)}
    for layer, C in moments.items():
        artifacts.add(model, layer, SecondMoment(C, 10 * shape.inner, {}))
    texts = _contexts(model, editor)
    plain = Plain(model.model, model.tokenizer, model.arch.layers, model.arch.down)
    return Arena(shape, EditSession(model), plain, artifacts, moments, {STATE: texts.ids}, texts.prefixes, {})


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
                fast, result = timed(partial(editor.edit, model, part, place.state, place.artifacts))
                slow, expected = timed(partial(reference, place, editor, part))
                found.append(result)
                assert isinstance(result.update, WeightDelta)
                ours = {model.layer_of(site): result.update.dense(site) for site in result.update.sites}
                wrote = timed(partial(write, place, result))[0]
                yield Trial(fast + wrote + once, slow, largest(ours, expected))

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


def write(place: Arena, result: EditResult) -> None:
    """Ours into the weights."""
    place.ours.apply(result.update)
    place.state = result.state


# References: the oracle of a method


def _settings(editor: Any) -> Settings:
    return Settings(editor.steps, editor.lr, editor.weight_decay, editor.clamp, editor.kl, editor.loss_stop)


def _facts(part: Sequence[EditRequest]) -> list[Fact]:
    return [Fact(request.prompt, request.subject, request.target_new) for request in part]


def rome(place: Arena, editor: Rome, part: Sequence[EditRequest]) -> Dense:
    (fact,) = _facts(part)
    texts = [fact.prompt, *(f"{prefix}. {fact.prompt}" for prefix in place.prefixes)]
    C = place.moments[editor.layer]
    update, _, _ = plain_rome.rome(place.plain, editor.layer, fact, texts, C, _settings(editor))
    return {editor.layer: update}


def memit(place: Arena, editor: Memit, part: Sequence[EditRequest]) -> Dense:
    solve = plain_memit.least_squares(dict(place.moments), editor.moment_weight)
    facts, settings = _facts(part), _settings(editor)
    updates, _ = plain_memit.memit(place.plain, editor.layers, facts, place.prefixes, settings, True, solve)
    return updates


def alphaedit(place: Arena, editor: AlphaEdit, part: Sequence[EditRequest]) -> Dense:
    solve = plain_memit.null_space(dict(place.moments), editor.threshold, editor.l2, place.history or None)
    facts, settings = _facts(part), _settings(editor)
    updates, keys = plain_memit.memit(place.plain, editor.layers, facts, place.prefixes, settings, True, solve)
    for layer, K in keys.items():
        place.history[layer] = place.history.get(layer, torch.zeros(())) + K.T @ K
    return updates


def pmet(place: Arena, editor: Pmet, part: Sequence[EditRequest]) -> Dense:
    settled = editor.settled_weight, editor.settled_drift
    solve = plain_memit.least_squares(dict(place.moments), editor.moment_weight)
    layers, facts, settings = editor.layers, _facts(part), _settings(editor)
    updates, _ = plain_pmet.pmet(place.plain, "attn", layers, facts, place.prefixes, settings, settled, True, solve)
    return updates


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


def _rome(shape: Shape) -> Editor:
    return Rome(shape.edited[-1])


def _memit(shape: Shape) -> Editor:
    return Memit(shape.edited)


def _memit_together(shape: Shape) -> Editor:
    """With memory for a dozen targets at once."""
    return Memit(shape.edited, memory=0.5)


def _pmet(shape: Shape) -> Editor:
    return Pmet(shape.edited)


def _alphaedit(shape: Shape) -> Editor:
    """With four fifths of the directions open, about as many as the paper's threshold leaves in GPT-J."""
    values = torch.linalg.eigvalsh(moment(shape.inner, shape.edited[0]).double())
    return AlphaEdit(shape.edited, threshold=float(values[4 * len(values) // 5]))


ONE_OF_TEN = "one of 10 sequential edits, GPT-2 small"

ROWS = (
    _row("ROME", ONE_OF_TEN, 4, _rome, rome),
    _row("MEMIT", ONE_OF_TEN, 5, _memit, memit),
    _row("PMET", ONE_OF_TEN, 5, _pmet, pmet),
    _row("AlphaEdit", ONE_OF_TEN, 8, _alphaedit, alphaedit),
    _row("MEMIT of 100", "one batch of 100, GPT-2 small", 8, _memit_together, memit, edits=1, batch=100),
    _row("MEMIT XL", "one of 2 sequential edits, GPT-2 XL", 6, _memit, memit, shape=XL, edits=2),
)
