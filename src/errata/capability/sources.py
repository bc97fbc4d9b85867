"""Rows of benchmarks in the layouts they are published in: from a folder, or from the hub at a pinned revision.

A benchmark's files are in DIR/<benchmark>/, or in DIR itself if it has the benchmark's name. Of a split called
"test" these are accepted, the first kind that is there: test.jsonl, .json, .csv, .tsv or .parquet; one file
test_*.* or test-*.*; shards test-00000-of-00002.parquet; and, where a benchmark is published as one file for each
of its parts, those files at any depth. The hub is read only where a download is allowed, or was made before.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import datasets  # type: ignore[import-untyped]

from errata.capability.quiet import DOWNLOAD
from errata.data.rows import Row, parse_json, shorten
from errata.errors import BadInput

ATLAS, HUB = "atlas", "hub"
"""Values of `data_dir` that are no folders: the package's miniatures, and the Hugging Face hub."""
_SHARD = re.compile(r"-\d{5}-of-\d{5}")


@dataclass(frozen=True)
class Hub:
    """A data set on the hub. revision: a commit. configs: its parts, read one after another."""

    path: str
    revision: str
    split: str
    configs: tuple[str | None, ...] = (None,)


@dataclass(frozen=True)
class Split:
    """The rows of one split of a benchmark, and where they may be.

    benchmark: the folder's name. stems: what its one file is called, without the ending. parts: names or patterns
    of files that hold one part each, where it is published so. part: the field that the name of such a file, or of
    a hub's config, stands for. columns: those of CSV and TSV without a header. reader: of .txt files. elsewhere: how
    to get the data where the hub is no way.
    """

    benchmark: str
    stems: tuple[str, ...]
    hub: Hub | None = None
    parts: tuple[str, ...] = ()
    part: str | None = None
    columns: tuple[str, ...] = ()
    reader: "Reader | None" = None
    elsewhere: str = "the hub does not hold it"


Reader = Callable[[Path], Iterable[Row]]


def folder(data_dir: str | None) -> Path | None:
    """The folder that `data_dir` names, None for the hub, which is the default. BadInput if it is not there."""
    if data_dir in (None, HUB):
        return None
    path = Path(str(files("errata.atlas") / "data")) if data_dir == ATLAS else Path(str(data_dir)).expanduser()
    if not path.is_dir():
        raise BadInput(f"data_dir: {path} is no folder; name the one that holds the benchmarks' folders")
    return path


def read(split: Split, data_dir: str | None = None) -> list[Row]:
    """All rows, in order. BadInput naming file, line and what was expected, or both ways to get the data."""
    root = folder(data_dir)
    if root is None:
        return list(_from_hub(split))
    found = locate(split, root)
    if not found:
        raise BadInput(_absent(split, root, data_dir))
    rows = [row for file in found for row in _of_part(split, file)]
    if not rows:
        raise BadInput(f"{found[0]} holds no rows; expected the split {split.stems[0]} of {split.benchmark}")
    return rows


def exemplars(benchmark: str, data_dir: str | None) -> list[Row]:
    """The rows of DIR/<benchmark>/exemplars.jsonl, which replace the published exemplars; none if it is not there."""
    split, root = Split(benchmark, ("exemplars",)), folder(data_dir)
    return read(split, data_dir) if root is not None and locate(split, root) else []


def locate(split: Split, root: Path) -> list[Path]:
    """The files of a split below `root`, none if it is not there. BadInput where several claim to be it."""
    home = root / split.benchmark
    home = root if not home.is_dir() and root.name == split.benchmark else home
    endings = [*READERS, *([".txt"] if split.reader else [])]
    for stem in split.stems:
        exact = [file for suffix in endings if (file := home / f"{stem}{suffix}").is_file()]
        near = [file for file in sorted(home.glob(f"{stem}[-_]*")) if file.suffix in endings and file.is_file()]
        if found := exact[:1] or near:
            if len(found) > 1 and not all(_SHARD.search(file.stem) for file in found):
                raise BadInput(
                    f"{home}: {', '.join(file.name for file in found)} may each be the split {stem}; keep one of them"
                )
            return found
    return sorted({file for pattern in split.parts for file in home.rglob(pattern)})


def text(row: Row, name: str, of: Any = None) -> str:
    """The text in a field. of: an object within the row to look in. BadInput if it is absent, blank or no text."""
    value = (row.fields if of is None else of).get(name)
    if not isinstance(value, str) or not value.strip():
        raise wrong(row, name, value, "a text")
    return value


def number(row: Row, name: str) -> float:
    """The number in a field, also if it is written as text. BadInput for anything else."""
    value = row.fields.get(name)
    try:
        return float(value)  # type: ignore[arg-type]  # what it cannot take is the error
    except (TypeError, ValueError) as error:
        raise wrong(row, name, value, "a number") from error


def texts(row: Row, name: str, count: int | None = None) -> list[str]:
    """The list of texts in a field, `count` of them if given. BadInput for anything else."""
    value = row.fields.get(name)
    good = isinstance(value, list) and value and all(isinstance(item, str) for item in value)
    if not good or (count is not None and len(value) != count):  # type: ignore[arg-type]
        raise wrong(row, name, value, f"a list of {count or 'one or more'} texts")
    return list(value)  # type: ignore[arg-type]


def wrong(row: Row, name: str, found: object, expected: str) -> BadInput:
    """The error that a field of a row is not as it should be."""
    if name not in row.fields and found is None:
        return BadInput(f"{row.where}: {name} is missing; expected {expected}; found {', '.join(row.fields) or 'none'}")
    return BadInput(f"{row.where}: {name} should be {expected}; found {shorten(found)}")


# Files


def decoded(path: Path) -> str:
    """The text of a file. BadInput with the line that is not UTF-8."""
    try:
        raw = path.read_bytes()
        return raw.decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise BadInput(f"{path}:{line}: not UTF-8 (byte {raw[error.start]:#04x}); save the file as UTF-8") from error


def _jsonl(path: Path, _: Split) -> Iterator[Row]:
    for line, content in enumerate(decoded(path).split("\n"), start=1):
        if content.strip():
            where = f"{path}:{line}"
            yield Row(where, line, _object(parse_json(content, where, "one JSON object on the line"), where))


def _json(path: Path, _: Split) -> Iterator[Row]:
    """A list of objects, or an object with one list of them, such as {"examples": [...]}."""
    value = parse_json(decoded(path), str(path), "a list of JSON objects")
    lists = [value] if isinstance(value, list) else [v for v in _object(value, str(path)).values() if type(v) is list]
    if len(lists) != 1:
        raise BadInput(f"{path}: found {len(lists)} lists, expected one list of JSON objects")
    for index, item in enumerate(lists[0], start=1):
        where = f"{path}, item {index}"
        yield Row(where, index, _object(item, where))


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadInput(f"{where}: found {shorten(value)}, expected a JSON object")
    return value


def _csv(path: Path, split: Split) -> Iterator[Row]:
    yield from _cells(path, split, csv.reader(io.StringIO(decoded(path), newline=""), strict=True))


def _tsv(path: Path, split: Split) -> Iterator[Row]:
    lines = io.StringIO(decoded(path), newline="")
    yield from _cells(path, split, csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def _cells(path: Path, split: Split, reader: Any) -> Iterator[Row]:
    header: list[str] = list(split.columns)
    try:
        for cells in reader:
            where = f"{path}:{reader.line_num}"
            if not header:
                header = cells
            elif cells and len(cells) != len(header):
                raise BadInput(f"{where}: found {len(cells)} columns, expected {len(header)}: {', '.join(header)}")
            elif cells:
                yield Row(where, reader.line_num, dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise BadInput(f"{path}:{reader.line_num}: not valid {path.suffix[1:].upper()} ({error})") from error


def _parquet(path: Path, _: Split) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(path, partitioning=None).to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise BadInput(f"{path} is not a parquet file: {error}") from error
    for index, fields in enumerate(rows, start=1):
        yield Row(f"{path}, row {index}", index, fields)


READERS: dict[str, Callable[[Path, Split], Iterator[Row]]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _tsv,
    ".parquet": _parquet,
}


def _of_part(split: Split, file: Path) -> Iterator[Row]:
    known = READERS.get(file.suffix)
    rows = known(file, split) if known else (split.reader or _unknown)(file)
    name = re.sub(rf"_({'|'.join(split.stems)})$", "", file.stem)
    for row in rows:
        yield _named(split, row, name)


def _unknown(file: Path) -> Iterator[Row]:
    raise BadInput(f"{file}: unknown kind of file {file.suffix!r}; expected one of {', '.join(READERS)}")


def _named(split: Split, row: Row, part: str) -> Row:
    return row if split.part is None else Row(row.where, row.line, {split.part: part, **row.fields})


# The hub


def _from_hub(split: Split) -> Iterator[Row]:
    if split.hub is None:
        raise BadInput(_absent(split, None, None))
    hub = split.hub
    for config in hub.configs:
        where = f"{hub.path}@{hub.revision[:8]}, {config or 'default'}, {hub.split}"
        try:
            rows = datasets.load_dataset(hub.path, config, split=hub.split, revision=hub.revision)
        except Exception as error:  # offline, gated, gone: the library has no common error for them
            raise BadInput(f"{_absent(split, None, None)} ({where}: {_first_line(error)})") from error
        for index, fields in enumerate(rows, start=1):
            yield _named(split, Row(f"{where}, row {index}", index, dict(fields)), config or "")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _absent(split: Split, root: Path | None, data_dir: str | None) -> str:
    name, files = split.benchmark, " or ".join([*(f"{stem}.jsonl" for stem in split.stems), *split.parts[:1]])
    local = f"--data-dir DIR with DIR/{name}/{files} (or .json, .csv, .parquet; in a config: data_dir)"
    hub = f"the hub's {split.hub.path}, allowed by {DOWNLOAD}=1" if split.hub else split.elsewhere
    if root is None:
        return f"{name}: its data are not on this machine. Two ways: {local}, or {hub}"
    way = f" and --data-dir {HUB}" if split.hub else ""
    what = f"the package has no miniature of {name}" if data_dir == ATLAS else f"{root} has no {name}"
    return f"{what}: looked for {files} in {root / name}. Two ways: {local}, or {hub}{way}"
