"""Benchmark items for lm-evaluation-harness, without `datasets` and its cache folder.

A task YAML names as its custom data set `load`, for JSONL of the package, or a function of `benchmarks` that gives
`docs`. Items and exemplars are one split, told apart by `exemplar`, because the harness shows the item to its
few-shot sampler only within a split.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from lm_eval.api.samplers import ContextSampler

from errata.errors import BadInput

Doc = dict[str, Any]
FIELDS = ("id", "prompt", "answer", "reference", "kind", "choices")


class Docs(list[Doc]):
    """A split in memory, as far as the harness reads one."""

    @property
    def features(self) -> dict[str, None]:
        """The names of the fields."""
        return dict.fromkeys(self[0]) if self else {}


class SameKind(ContextSampler):  # type: ignore[misc]  # the harness is untyped
    """The first n exemplars of the item's own kind, as MMLU and BBH show them."""

    def sample(self, n: int, eval_doc: Doc | None = None, df: Any = None, **_: Any) -> list[Doc]:
        kind = eval_doc["kind"] if eval_doc else None
        found = [doc for doc in self.df if kind is None or doc["kind"] == kind]
        if len(found) < n:
            raise BadInput(f"{n} exemplars of kind {kind!r} are needed, found {len(found)}; lower num_fewshot")
        return found[:n]


def load(task: str, folder: str | None = None, **_: Any) -> dict[str, Docs]:
    """The split of a task: {task}.jsonl, and {task}_shots.jsonl where there is one.

    folder: by default the package's own. The harness passes the YAML's metadata as well; it is not needed.
    """
    root: Traversable = Path(folder) if folder else files("errata.atlas") / "data"
    items, shots = _read(root / f"{task}.jsonl"), root / f"{task}_shots.jsonl"
    if not items:
        raise BadInput(f"{root / task}.jsonl holds no items; write the benchmarks again: errata atlas world")
    exemplars = _read(shots) if shots.is_file() else []
    return {"test": Docs([_doc(row, False) for row in items] + [_doc(row, True) for row in exemplars])}


def docs(items: Iterable[Doc], exemplars: Iterable[Doc] = ()) -> dict[str, Docs]:
    """The split of a task. Every item has an `id` of its own and a `kind`, such as its subject ("" if it has none).

    BadInput if two items have the same id: rows of two measurements are paired by it.
    """
    asked = [_doc(item, False) for item in items]
    twice = [name for name, count in Counter(doc["id"] for doc in asked).items() if count > 1]
    if twice:
        raise BadInput(f"{len(twice)} ids belong to several items, such as {twice[0]!r}; give each item its own")
    return {"test": Docs([*asked, *(_doc(exemplar, True) for exemplar in exemplars)])}


def digest(docs: Sequence[Doc]) -> str:
    """SHA-256 of items and exemplars: two measurements with the same one asked the same."""
    return hashlib.sha256(json.dumps(docs, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def asked(docs: Sequence[Doc]) -> Docs:
    """Without the exemplars."""
    return Docs(doc for doc in docs if not doc["exemplar"])


def exemplars(docs: Sequence[Doc]) -> Docs:
    """The exemplars alone."""
    return Docs(doc for doc in docs if doc["exemplar"])


def _doc(row: Doc, exemplar: bool) -> Doc:
    return {**row, "exemplar": exemplar}


def _read(file: Traversable) -> list[Doc]:
    try:
        lines = file.read_text("utf-8").splitlines()
    except OSError as error:
        raise BadInput(f"{file} cannot be read ({error.strerror}); write the benchmarks: errata atlas world") from error
    return [_row(line, f"{file}:{number}") for number, line in enumerate(lines, start=1) if line.strip()]


def _row(line: str, where: str) -> Doc:
    try:
        row: Doc = json.loads(line)
    except json.JSONDecodeError as error:
        raise BadInput(f"{where}: not valid JSON ({error}); write the benchmarks again: errata atlas world") from error
    missing = [name for name in FIELDS if name not in row]
    if missing:
        raise BadInput(f"{where}: {', '.join(missing)} missing; expected {', '.join(FIELDS)}")
    return row
