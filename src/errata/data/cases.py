"""Edits and their probes from a file or a named data set, checked while they are read.

A file is .jsonl, .json (a list) or .csv and holds one edit a row, in the form of `errata.data.fields` or in the layout
of a public data set (`errata.data.layouts`), which is recognised by its fields.
"""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from itertools import groupby, islice
from pathlib import Path

from errata.data.fields import REQUIRED, case_of
from errata.data.layouts import converted, recognise
from errata.data.rows import OnFault, Row, read_rows, stop
from errata.errors import BadInput
from errata.types import EditCase, EditRequest, Progress

NAMED = ("atlas",)


def read_cases(
    source: str | Path, limit: int | None = None, seed: int | None = None, progress: Progress | None = None
) -> list[EditCase]:
    """Cases of a named data set ("atlas") or a file.

    limit: at most so many. seed: shuffle with it before the limit, so that a smaller limit is a prefix of
    a larger one, and edits of a group stay side by side; None keeps the order (the embedded data set then
    takes seed 0). BadInput for the first row that is wrong: its place, what was found, what is expected.
    """
    if str(source) == "atlas":
        from errata import atlas

        return atlas.cases(limit=_checked(limit), seed=seed or 0)
    path = file_of(source)
    cases = list(take(EditFile(path, progress=progress), limit, seed))
    if not cases:
        raise BadInput(f"{path} holds no edits; give one edit a row with the fields {', '.join(REQUIRED)}")
    return cases


def take(cases: Iterable[EditCase], limit: int | None, seed: int | None) -> Iterator[EditCase]:
    """At most `limit` of the cases, shuffled by `seed` before, with groups kept together, unless it is None."""
    return islice(cases if seed is None else _shuffled(cases, seed), _checked(limit))


def contradictions(requests: Iterable[EditRequest]) -> list[tuple[EditRequest, EditRequest]]:
    """Pairs, earlier and later, that ask for different answers to one prompt about one subject."""
    return [(early, late) for early, late in _asked_again(requests) if early.target_new != late.target_new]


def repetitions(requests: Iterable[EditRequest]) -> list[tuple[EditRequest, EditRequest]]:
    """Pairs, first and later, that ask for the same answer to one prompt about one subject."""
    return [(early, late) for early, late in _asked_again(requests) if early.target_new == late.target_new]


def _asked_again(requests: Iterable[EditRequest]) -> Iterator[tuple[EditRequest, EditRequest]]:
    """Requests whose prompt and subject came before, each with the first of them."""
    first: dict[tuple[str, str], EditRequest] = {}
    for request in requests:
        earlier = first.setdefault((request.subject, " ".join(request.prompt.split())), request)
        if earlier is not request:
            yield earlier, request


def grouped(cases: Iterable[EditCase]) -> list[list[EditCase]]:
    """The cases in order, those side by side of one group together, the others each alone."""
    return [list(members) for _, members in groupby(cases, key=lambda c: (bool(c.group), c.group or c.request.id))]


class EditFile:
    """The edits of a file, read one at a time in its order. Without an id, the line number is the id.

    on_fault: told of each row that cannot be used; by default the first one is raised as BadInput.
    records, layouts, empty: what was read so far: how many rows, how many of each data set's layout ("" for the
    plain form), and the places of those that ask for no edit.
    """

    def __init__(self, path: Path, on_fault: OnFault = stop, progress: Progress | None = None) -> None:
        self.path, self._on_fault, self._progress = path, on_fault, progress
        self._start()

    def _start(self) -> None:
        self.records = 0
        self.layouts: Counter[str] = Counter()
        self.empty: list[str] = []
        self._seen: dict[str, str] = {}

    def __iter__(self) -> Iterator[EditCase]:
        self._start()
        for row in read_rows(self.path, self._on_fault, self._progress):
            self.records += 1
            try:
                cases = self._cases(row)
            except BadInput as error:
                self._on_fault(error)
                continue
            if not cases:
                self.empty.append(row.where)
            yield from cases

    def _cases(self, row: Row) -> list[EditCase]:
        layout = recognise(row.fields)
        self.layouts[layout.name if layout else ""] += 1
        try:
            cases = [case_of(each) for each in converted(row, layout)]
            self._note([case.request.id for case in cases], row.where)
        except BadInput as error:
            if layout is None or self._on_fault is not stop:
                raise
            raise BadInput(
                f"{error}. To leave such records of {layout.name} out: errata data convert {self.path} OUT.jsonl --skip"
            ) from error
        return cases

    def _note(self, ids: Sequence[str], where: str) -> None:
        for name in ids:
            if name in self._seen:
                raise BadInput(f"{where}: id {name!r} was used at {self._seen[name]}; give every edit its own id")
            self._seen[name] = where


def _checked(limit: int | None) -> int | None:
    """The limit. BadInput if it is not positive."""
    if limit is not None and limit < 1:
        raise BadInput(f"limit is {limit}; give a positive number of edits, or leave it out for all")
    return limit


def _shuffled(cases: Iterable[EditCase], seed: int) -> list[EditCase]:
    groups = grouped(cases)
    return [case for group in random.Random(seed).sample(groups, len(groups)) for case in group]


def file_of(source: str | Path) -> Path:
    """The file that is meant. BadInput for what can be neither a file nor a named data set."""
    path = Path(source)
    if path.exists() or path.suffix:
        return path
    near = get_close_matches(str(source), NAMED)
    hint = f"did you mean {near[0]!r}?" if near else f"named data sets: {', '.join(NAMED)}"
    raise BadInput(f"{str(source)!r} is neither a data set nor a file; {hint} (errata list datasets)")
