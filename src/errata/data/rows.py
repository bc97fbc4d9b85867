"""Rows of a file with their place in it: JSON lines, a JSON list, or CSV.

JSON lines and CSV are read one row at a time, however long the file; a JSON list is read whole.
"""

import csv
import json
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from errata.errors import BadInput
from errata.types import Progress

OnFault = Callable[[BadInput], None]
"""Called with what is wrong with a row; if it returns, the rows after it are read."""
TELL_EVERY = 1000  # lines


@dataclass(frozen=True)
class Row:
    """One item of a file. where: "file:line" (or "file, item 3"), for messages. line: 1-based."""

    where: str
    line: int
    fields: dict[str, Any]


def stop(error: BadInput) -> NoReturn:
    """The first fault ends the reading."""
    raise error


def read_rows(path: Path, on_fault: OnFault = stop, progress: Progress | None = None) -> Iterator[Row]:
    """Stream the rows of `path` by its suffix: .jsonl, .json (a list) or .csv; blank lines are skipped.

    on_fault: told of each row that cannot be read. progress: told how much of the file is read, in kilobytes.
    BadInput, with the place, where nothing behind it can be read either.
    """
    if path.suffix.lower() not in FORMATS:
        raise BadInput(f"{path}: unknown kind of file {path.suffix!r}; expected one of {', '.join(FORMATS)}")
    if not path.is_file():
        raise BadInput(f"{path}: {'a folder' if path.is_dir() else 'no such file'}; give a file of edits")
    form = FORMATS[path.suffix.lower()]
    try:
        for item in form.split(path, progress):
            try:
                fields = form.parse(item)
            except BadInput as error:
                on_fault(error)
            else:
                if fields is not None:
                    yield Row(item.where, item.number, fields)
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


@dataclass(frozen=True)
class _Item:
    """What stands at one place of a file, unread. number: of its line, or in its list."""

    where: str
    number: int
    content: Any


@dataclass(frozen=True)
class _Format:
    """How a file falls into items, and the fields of an item, None if it is blank."""

    split: Callable[[Path, Progress | None], Iterator[_Item]]
    parse: Callable[[_Item], dict[str, Any] | None]


def _lines(path: Path, progress: Progress | None) -> Iterator[_Item]:
    """The lines as bytes, without a byte order mark."""
    size, done = path.stat().st_size, 0
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            yield _Item(f"{path}:{number}", number, raw.removeprefix(BOM_UTF8) if number == 1 else raw)
            done += len(raw)
            if progress and (number % TELL_EVERY == 0 or done >= size):
                progress(f"reading {path.name} (kB)", done // 1000, max(size // 1000, 1))


def _text(line: _Item) -> str:
    """A line, decoded by itself so that a bad byte is reported with its place."""
    try:
        return str(line.content, "utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{line.where}: not UTF-8 at byte {error.start + 1} of the line; save the file as UTF-8"
        ) from error


def _json_line(line: _Item) -> dict[str, Any] | None:
    text = _text(line).strip()
    return _object(parse_json(text, line.where, "one JSON object on the line"), line.where) if text else None


def _list_items(path: Path, progress: Progress | None) -> Iterator[_Item]:
    items = parse_json("".join(map(_text, _lines(path, progress))), str(path), "a list of JSON objects")
    if not isinstance(items, list):
        raise BadInput(f"{path}: found {_kind(items)}, expected a list of objects; for one object a line use .jsonl")
    return (_Item(f"{path}, item {number}", number, item) for number, item in enumerate(items, start=1))


def _csv_records(path: Path, progress: Progress | None) -> Iterator[_Item]:
    """The cells of each record beside the header; a record may go over several lines and is placed at its first."""
    reader = csv.reader(map(_text, _lines(path, progress)), strict=True)
    header = _next(reader, path) or []
    if len(set(header)) < len(header):
        raise BadInput(f"{path}:1: a column comes twice; found {', '.join(header)}, expected different names")
    start = reader.line_num + 1
    while (cells := _next(reader, path)) is not None:
        yield _Item(f"{path}:{start}", start, (header, cells))
        start = reader.line_num + 1


def _next(reader: Any, path: Path) -> list[str] | None:
    try:
        return next(reader, None)
    except csv.Error as error:
        raise BadInput(f"{path}:{reader.line_num}: not valid CSV ({error}); check the quotes") from error


def _csv_fields(record: _Item) -> dict[str, Any] | None:
    """An empty cell is an absent field; a cell that starts with [ is a JSON list."""
    header, cells = record.content
    if cells and len(cells) != len(header):
        raise BadInput(f"{record.where}: found {len(cells)} cells, expected {len(header)}: {', '.join(header)}")
    return {name: _cell(text, record.where) for name, text in zip(header, cells) if text} or None


def _cell(text: str, where: str) -> Any:
    return parse_json(text, where, "a JSON list in the cell") if text.lstrip().startswith("[") else text


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadInput(f"{where}: found {_kind(value)}, expected a JSON object with the fields of one edit")
    return value


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a string", dict: "one object", type(None): "null"}
    return f"{names.get(type(value), 'a number')} ({shorten(value, 40)})"


FORMATS = {
    ".jsonl": _Format(_lines, _json_line),
    ".json": _Format(_list_items, lambda item: _object(item.content, item.where)),
    ".csv": _Format(_csv_records, _csv_fields),
}
