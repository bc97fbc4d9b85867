"""Results, one row for each item asked, and the parquet files that hold them. No torch here.

Every claim of cost is a paired comparison on the same items, so rows are kept and rates are computed from
them. A file is written under another name and moved into place: it exists if and only if it is complete.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from errata.errors import BadInput


@dataclass(frozen=True)
class Record:
    """What a model answered to one item of one table.

    table: the task's name, or "efficacy", "generalization", "locality", "portability", "retention".
    item: unique within the table, the same at every checkpoint.
    correct: the answer counts as right; False for an invalid item.
    parsed: an answer could be found in the output. empty: the output is blank.
    invalid: logits were NaN or infinite; such an item is a result, but never a score.
    output: the raw text. predicted: the answer read from it, None if there is none. gold: what is right.
    legacy: the probability comparison log P(new) > log P(true), reversed for locality; None where it does not apply.
    logp_new, logp_true: mean log-probability of a token of the answer, teacher-forced, in nats.
    clean_stop: the model ended its answer by itself. edit: index of the edit that is probed;
    for an ability, of the last edit of the batch that is alone in the model, None in the sequential setting.
    extra: further JSON-able values; `kind` of portability and retention.
    """

    table: str
    item: str
    correct: bool
    parsed: bool
    empty: bool
    invalid: bool
    output: str
    predicted: str | None
    gold: str
    legacy: bool | None = None
    logp_new: float | None = None
    logp_true: float | None = None
    clean_stop: bool | None = None
    edit: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)


SCHEMA = pa.schema(
    [
        pa.field("table", pa.string(), nullable=False),
        pa.field("item", pa.string(), nullable=False),
        pa.field("correct", pa.bool_(), nullable=False),
        pa.field("parsed", pa.bool_(), nullable=False),
        pa.field("empty", pa.bool_(), nullable=False),
        pa.field("invalid", pa.bool_(), nullable=False),
        pa.field("output", pa.string(), nullable=False),
        pa.field("predicted", pa.string()),
        pa.field("gold", pa.string(), nullable=False),
        pa.field("legacy", pa.bool_()),
        pa.field("logp_new", pa.float64()),
        pa.field("logp_true", pa.float64()),
        pa.field("clean_stop", pa.bool_()),
        pa.field("edit", pa.int64()),
        pa.field("extra", pa.string(), nullable=False),  # JSON: its keys differ from table to table
    ]
)
_NAMES = tuple(f.name for f in fields(Record))


def to_table(rows: Iterable[Record]) -> pa.Table:
    """The rows as an arrow table of `SCHEMA`; `extra` becomes JSON with sorted keys."""
    columns = zip(*map(_cells, rows), strict=True)
    arrays = [pa.array(column, kind.type) for column, kind in zip(columns, SCHEMA, strict=False)]
    return pa.Table.from_arrays(arrays, schema=SCHEMA) if arrays else SCHEMA.empty_table()


def write_records(path: Path, rows: Iterable[Record]) -> None:
    """Write `rows` to the parquet file `path`, whole or not at all; the folder is made if absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("wb") as file:
            pq.write_table(to_table(rows), file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def read_table(paths: Path | Sequence[Path]) -> pa.Table:
    """The rows of one or several files as an arrow table of `SCHEMA`.

    BadInput if a file is not one that `write_records` wrote.
    """
    paths = [paths] if isinstance(paths, Path) else paths
    return pa.concat_tables([_read_one(path) for path in paths]) if paths else SCHEMA.empty_table()


def read_records(paths: Path | Sequence[Path]) -> list[Record]:
    """The rows of one or several files, in the order written."""
    return [_record(row) for row in read_table(paths).to_pylist()]


def _cells(row: Record) -> tuple[Any, ...]:
    *cells, extra = (getattr(row, name) for name in _NAMES)
    return (*cells, json.dumps(extra, sort_keys=True, ensure_ascii=False))


def _record(row: dict[str, Any]) -> Record:
    return Record(**{**row, "extra": json.loads(row["extra"])})


def _read_one(path: Path) -> pa.Table:
    try:
        table = pq.read_table(path, partitioning=None)
    except FileNotFoundError as error:
        raise BadInput(
            f"{path}: no such file of records; score the checkpoint again: errata run CONFIG.yaml"
        ) from error
    except (pa.ArrowInvalid, OSError) as error:
        raise BadInput(
            f"{path} is not a file of records: {error}. Delete it and run again: errata run CONFIG.yaml"
        ) from error
    if table.column_names != list(_NAMES):
        raise BadInput(
            f"{path} has the columns {table.column_names}, expected {list(_NAMES)}; "
            "it was written by another version: delete it and run again: errata run CONFIG.yaml"
        )
    return table.cast(SCHEMA)
