"""Rows of a file with their place in it: JSON lines, a JSON list, or CSV. Read one at a time."""

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errata.errors import BadInput


@dataclass(frozen=True)
class Row:
    """One item of a file. where: "file:line" (or "file, item 3"), for messages. line: 1-based."""

    where: str
    line: int
    fields: dict[str, Any]


def read_rows(path: Path) -> Iterator[Row]:
    """Stream the rows of `path` by its suffix: .jsonl, .json (a list) or .csv; blank lines are skipped.

    BadInput at the first row that cannot be read, with its place.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise BadInput(f"{path}: unknown kind of file {path.suffix!r}; expected one of {', '.join(READERS)}")
    if not path.is_file():
        raise BadInput(f"{path}: {'a folder' if path.is_dir() else 'no such file'}; give a file of edits")
    try:
        yield from reader(path)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error


def parse_json(text: str, where: str, expected: str) -> Any:
    """`text` as JSON; BadInput with the place, what was found and what was `expected`."""
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise BadInput(f"{where}: not valid JSON ({error}); found {shorten(text)}, expected {expected}") from error


def shorten(value: object, length: int = 80) -> str:
    """`value` as a message shows it: quoted, and cut when long."""
    shown = repr(value)
    return shown if len(shown) <= length else shown[:length] + "…"


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines, decoded one by one so that a bad byte is reported with its line."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            try:
                yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise BadInput(
                    f"{path}:{number}: not UTF-8 at byte {error.start + 1} of the line; save the file as UTF-8"
                ) from error


def _jsonl(path: Path) -> Iterator[Row]:
    for number, line in _lines(path):
        if line.strip():
            where = f"{path}:{number}"
            yield Row(where, number, _object(parse_json(line.strip(), where, "one JSON object on the line"), where))


def _json(path: Path) -> Iterator[Row]:
    items = parse_json("".join(line for _, line in _lines(path)), str(path), "a list of JSON objects")
    if not isinstance(items, list):
        raise BadInput(f"{path}: found {_kind(items)}, expected a list of objects; for one object a line use .jsonl")
    for number, item in enumerate(items, start=1):
        where = f"{path}, item {number}"
        yield Row(where, number, _object(item, where))


def _csv(path: Path) -> Iterator[Row]:
    """Rows under a header line. An empty cell is an absent field; a cell that starts with [ is a JSON list."""
    reader = csv.reader((line for _, line in _lines(path)), strict=True)
    header = _next(reader, path) or []
    start = reader.line_num + 1
    while (cells := _next(reader, path)) is not None:
        where = f"{path}:{start}"
        if cells and len(cells) != len(header):
            raise BadInput(f"{where}: found {len(cells)} cells, expected {len(header)}: {', '.join(header)}")
        if any(cells):
            yield Row(where, start, {name: _cell(c, where) for name, c in zip(header, cells, strict=True) if c})
        start = reader.line_num + 1


def _next(reader: Any, path: Path) -> list[str] | None:
    try:
        return next(reader, None)
    except csv.Error as error:
        raise BadInput(f"{path}:{reader.line_num}: not valid CSV ({error}); check the quotes") from error


def _cell(text: str, where: str) -> Any:
    return parse_json(text, where, "a JSON list in the cell") if text.lstrip().startswith("[") else text


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadInput(f"{where}: found {_kind(value)}, expected a JSON object with the fields of one edit")
    return value


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a string", dict: "one object", type(None): "null"}
    return f"{names.get(type(value), 'a number')} ({shorten(value, 40)})"


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {".jsonl": _jsonl, ".json": _json, ".csv": _csv}
