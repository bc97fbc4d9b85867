"""A finished or unfinished run, read from its folder into arrays. No torch here."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from errata.errors import BadInput
from errata.records import read_table
from errata.runs.config import Resolved, read_resolved
from errata.runs.layout import RunDir, open_run
from errata.runs.ledger import Entry, read_ledger
from errata.stats.means import by_weight

MANY_KINDS = 30
"""From so many kinds of items on, such as MMLU's 57 subjects, items of a kind count as going together."""
PROBES = ("efficacy", "generalization", "locality", "retention", "portability")
"""Tables about the edits themselves, in the order in which they are shown; all others are abilities."""
KINDS = ("", "first", "last", "alias", "one_hop", "two_hop")
"""Kinds of their rows, in the order in which they are shown."""
RANDOM = "random"
"""The kind of retention that stands for all earlier edits."""


def is_probe(table: str) -> bool:
    """Whether a table, or what `by_kind` makes of one, is about the edits themselves."""
    return table.partition("/")[0] in PROBES


@dataclass(frozen=True)
class Scores:
    """The rows of one table at one checkpoint, as arrays of length n in the order of the file.

    legacy, clean_stop, contains, tokens: NaN where they do not apply; the last two are the answer found
    anywhere in the output, and the share of its tokens that teacher forcing gives. edit: its index, below 0
    and different in each row where there is none. kind: of portability and retention, and of an item of an ability,
    such as its subject; "" if it has none. score: 0 or 1, or what a graded benchmark gives in between. weight: of an
    item's score in that of the whole, such as its number of names; 1 if it has none. readings: scores by another
    reading of the output, by its name. shortened: the prompt lost exemplars, or its beginning.
    """

    table: str
    edits: int
    items: tuple[str, ...]
    correct: NDArray[np.bool_]
    parsed: NDArray[np.bool_]
    empty: NDArray[np.bool_]
    invalid: NDArray[np.bool_]
    legacy: NDArray[np.float64]
    clean_stop: NDArray[np.float64]
    contains: NDArray[np.float64]
    tokens: NDArray[np.float64]
    edit: NDArray[np.int64]
    kind: tuple[str, ...]
    score: NDArray[np.float64]
    weight: NDArray[np.float64]
    readings: Mapping[str, NDArray[np.float64]]
    shortened: NDArray[np.bool_]
    predicted: tuple[str | None, ...]
    gold: tuple[str, ...]

    @property
    def n(self) -> int:
        return len(self.items)

    @property
    def clusters(self) -> NDArray[Any]:
        """(n,) labels: equal for probes of one edit, and for items of one kind where there are `MANY_KINDS`."""
        if is_probe(self.table):
            return self.edit
        return np.asarray(self.kind if len(set(self.kind)) >= MANY_KINDS else self.items)

    @property
    def groupings(self) -> tuple[NDArray[Any], ...]:
        """Labels (n,) of rows that go together, in each way that they do: `clusters`, and, where several models were
        asked an item, those of one model."""
        asked_once = is_probe(self.table) or len(set(self.items)) == self.n
        return (self.clusters,) if asked_once else (self.clusters, self.edit)

    @property
    def weighted(self) -> bool:
        """Whether some items count more than others, as in F1 over all entities of a text."""
        return bool((self.weight != 1).any())

    @property
    def values(self) -> NDArray[np.float64]:
        """(n,) the scores, linearised where they have weights: their mean is the score of the whole."""
        return by_weight(self.score, self.weight)

    @property
    def graded(self) -> bool:
        """Whether some item is neither right nor wrong."""
        return not bool(np.isin(self.score, (0.0, 1.0)).all())


@dataclass(frozen=True)
class Single:
    """The model with one batch alone. edits: of the run, with the last of the batch. scores, health: see `Results`."""

    edits: int
    scores: Mapping[str, Scores]
    health: Mapping[str, float]


@dataclass(frozen=True)
class Results:
    """All of one run that a report needs.

    scores: edits -> table -> rows, of complete tables only. health: edits -> measure -> value.
    singles: in the single setting, each batch; `scores` then holds the rows of all of them at a batch's number of
    edits, and `health` the worst of each measure.
    """

    path: Path
    resolved: Resolved
    scores: Mapping[int, Mapping[str, Scores]]
    health: Mapping[int, Mapping[str, float]]
    ledger: Sequence[Entry]
    singles: Sequence[Single] = ()

    @property
    def asked(self) -> list[int]:
        """Numbers of edits in a model that the config asks to measure."""
        config = self.resolved.config
        return [0, config.batch] if config.setting == "single" else config.edits

    @property
    def method(self) -> str:
        """With its variant, if it is one: "rome:released"."""
        config = self.resolved.config
        return f"{config.method}:{config.preset}" if config.preset else config.method

    @property
    def model(self) -> str:
        return self.resolved.config.model

    @cached_property
    def checkpoints(self) -> tuple[int, ...]:
        return tuple(sorted(self.scores))

    @cached_property
    def edited(self) -> tuple[int, ...]:
        """The checkpoints after at least one edit."""
        return tuple(edits for edits in self.checkpoints if edits)

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """Abilities measured: those of the config first, in its order."""
        found = {name for tables in self.scores.values() for name in tables if not is_probe(name)}
        asked = [name for name in self.resolved.config.tasks if name in found]
        return (*asked, *sorted(found.difference(asked)))

    @cached_property
    def probes(self) -> tuple[str, ...]:
        found = {name for tables in self.scores.values() for name in tables if is_probe(name)}
        return tuple(sorted(found, key=_place))

    def get(self, edits: int, table: str) -> Scores | None:
        return self.scores.get(edits, {}).get(table)


def read_results(path: Path) -> Results:
    """Read the run in the folder `path`. BadInput if there is none, or nothing of it is measured yet."""
    run = open_run(Path(path))
    checkpoints = run.checkpoints()
    if not checkpoints:
        raise BadInput(
            f"{run.path} has no finished measurement yet, so there is nothing to report. "
            f"Let it go on: errata run {run.path}"
        )
    resolved = read_resolved(run)
    each = [Single(edits, _tables(run, edits), _health(run, edits)) for edits in checkpoints]
    held, singles = each, list[Single]()
    if resolved.config.setting == "single":
        singles = [one for one in each if one.edits]
        held = [one for one in each if not one.edits]
        held += [_gathered(singles, resolved.config.batch)] if singles else []
    return Results(
        run.path,
        resolved,
        {one.edits: one.scores for one in held},
        {one.edits: one.health for one in held},
        read_ledger(run.ledger),
        singles,
    )


def _gathered(singles: Sequence[Single], batch: int) -> Single:
    """All batches as one, with a batch's number of edits: the rows of all, the worst of each measure of health."""
    tables, signs = _collected([one.scores for one in singles]), _collected([one.health for one in singles])
    worst = {name: math.nan if any(map(math.isnan, values)) else max(values) for name, values in signs.items()}
    return Single(batch, {name: replace(joined(parts), edits=batch) for name, parts in tables.items()}, worst)


def _collected(each: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The values of each name, of those that have it."""
    names = dict.fromkeys(name for one in each for name in one)
    return {name: [one[name] for one in each if name in one] for name in names}


def _place(probe: str) -> tuple[int, int, str]:
    table, _, kind = probe.partition("/")
    return PROBES.index(table), KINDS.index(kind) if kind in KINDS else len(KINDS), kind


def _tables(run: RunDir, edits: int) -> dict[str, Scores]:
    whole = [_scores(file, name, edits) for name, file in run.tables(edits).items()]
    return {scores.table: scores for table in whole for scores in by_kind(table)}


def by_kind(table: Scores) -> Iterator[Scores]:
    """The table itself, then its rows of each kind, as "portability/alias".

    Retention itself is that of earlier edits drawn at random: the first and the last ones beside them would tilt it.
    """
    kinds = [kind for kind in dict.fromkeys(table.kind) if kind and is_probe(table.table)]
    yield _taken(table, RANDOM) if RANDOM in kinds else table
    for kind in kinds:
        if kind != RANDOM:
            yield replace(_taken(table, kind), table=f"{table.table}/{kind}")


def _taken(table: Scores, kind: str) -> Scores:
    rows = [row for row, found in enumerate(table.kind) if found == kind]
    parts: dict[str, Any] = {}
    for field in fields(Scores):
        values = getattr(table, field.name)
        if isinstance(values, tuple):
            parts[field.name] = tuple(values[row] for row in rows)
        elif isinstance(values, np.ndarray):
            parts[field.name] = values[rows]
        elif isinstance(values, Mapping):
            parts[field.name] = {name: of[rows] for name, of in values.items()}
    return replace(table, **parts)


def joined(tables: Sequence[Scores]) -> Scores:
    """The rows of several runs or batches as one table; edits of different ones count as different."""
    edits = [table.edit * len(tables) + order for order, table in enumerate(tables)]
    parts: dict[str, Any] = {"edit": np.concatenate(edits)}
    for field in fields(Scores):
        values = [getattr(table, field.name) for table in tables]
        if isinstance(values[0], tuple):
            parts[field.name] = tuple(chain.from_iterable(values))
        elif isinstance(values[0], np.ndarray) and field.name != "edit":
            parts[field.name] = np.concatenate(values)
        elif isinstance(values[0], Mapping):
            parts[field.name] = {name: np.concatenate([of[name] for of in values]) for name in values[0]}
    return replace(tables[0], **parts)


def _scores(file: Path, table: str, edits: int) -> Scores:
    rows = read_table(file)
    flags = {name: _flags(rows, name) for name in ("correct", "parsed", "empty", "invalid")}
    edit = rows.column("edit").to_pylist()
    extra = [json.loads(text) for text in rows.column("extra").to_pylist()]
    return Scores(
        table=table,
        edits=edits,
        items=tuple(rows.column("item").to_pylist()),
        **flags,
        legacy=_maybe(rows.column("legacy").to_pylist()),
        clean_stop=_maybe(rows.column("clean_stop").to_pylist()),
        contains=_maybe([row.get("contains") for row in extra]),
        tokens=_maybe([row.get("token_accuracy") for row in extra]),
        # Rows of no edit are each a cluster of their own: numbers below zero collide with no edit.
        edit=np.array([-1 - row if index is None else index for row, index in enumerate(edit)], dtype=np.int64),
        kind=tuple(str(row.get("kind", row.get("part", ""))) for row in extra),
        score=np.array([row.get("score", right) for row, right in zip(extra, flags["correct"])], dtype=np.float64),
        weight=np.array([row.get("weight", 1.0) for row in extra], dtype=np.float64),
        readings=_readings(extra),
        shortened=np.array(["dropped_exemplars" in row for row in extra], dtype=np.bool_),
        predicted=tuple(rows.column("predicted").to_pylist()),
        gold=tuple(rows.column("gold").to_pylist()),
    )


def _readings(extra: Sequence[Mapping[str, Any]]) -> dict[str, NDArray[np.float64]]:
    """Of each reading that does not decide, such as "loose": its score, or whether it found the item right."""
    keys = dict.fromkeys(key for row in extra for key in row if key.startswith("correct_"))
    return {name: _reading(extra, name) for name in (key.removeprefix("correct_") for key in keys)}


def _reading(extra: Sequence[Mapping[str, Any]], name: str) -> NDArray[np.float64]:
    scores = [float(row.get(f"score_{name}", row.get(f"correct_{name}", False))) for row in extra]
    return by_weight(scores, [row.get(f"weight_{name}", 1) for row in extra])


def _flags(rows: pa.Table, name: str) -> NDArray[np.bool_]:
    return np.array(rows.column(name).to_pylist(), dtype=np.bool_)


def _maybe(values: Sequence[float | None]) -> NDArray[np.float64]:
    return np.array([math.nan if value is None else float(value) for value in values], dtype=np.float64)


def _health(run: RunDir, edits: int) -> dict[str, float]:
    """Measures that are numbers; JSON has no NaN, so null stands for a value that was not finite.

    A measure of each matrix, as {"norm_drift": {site: ratio}}, counts by its largest; without an edited
    matrix there is no drift, a ratio of 1.
    """
    file = run.health(edits)
    if not file.is_file():
        return {}
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        return {name: _largest(value) for name, value in values.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{file} is not a JSON object of numbers: {error}. Delete it and run again: errata run {run.path}"
        ) from error


def _largest(value: float | Mapping[str, float | None] | None) -> float:
    if isinstance(value, Mapping):
        each = [_largest(inner) for inner in value.values()]
        return math.nan if any(map(math.isnan, each)) else max(each, default=1.0)
    return math.nan if value is None else float(value)
