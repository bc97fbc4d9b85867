"""What the papers printed, number by number, and which of it is known to be faulty. No torch here.

`published/` holds the tables of "Should We Really Edit Language Models?" (arXiv 2410.18785), `table1.csv` to
`table8.csv`, the numbers of "Model Editing Can Hurt General Abilities of Large Language Models" (arXiv 2401.04700) that
are known, and `anomalies.csv`, the printed cells that cannot be what they are said to be.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

UNEDITED = "w/o Edit"
_ANY = {"all", "both"}


@dataclass(frozen=True)
class Anomaly:
    """A printed cell, or several, that are faulty.

    table: its number, or a figure such as fig3. methods: as printed -> edits, None for any; None for any method.
    model, benchmarks: None for any. cells: whether single cells are meant, not the table as a whole.
    severity: "high" numbers are to be left out of comparisons. issue: what is wrong. suggested: what would be right.
    """

    severity: str
    table: str
    model: str | None
    methods: Mapping[str, frozenset[int] | None] | None
    benchmarks: frozenset[str] | None
    cells: bool
    issue: str
    suggested: str

    @property
    def told(self) -> str:
        """What is wrong, and what would be right where that is known."""
        return f"{self.issue}; {self.suggested}" if self.suggested else self.issue

    def marks(self, model: str, method: str, edits: int, benchmark: str) -> bool:
        """Whether this cell of the table is meant."""
        if not self.cells or self.model not in (None, model):
            return False
        if self.benchmarks is not None and benchmark not in self.benchmarks:
            return False
        if self.methods is None:
            return True
        counts = self.methods.get(method, frozenset())
        return counts is None or edits in counts


@dataclass(frozen=True)
class Printed:
    """One number of a table. faults: what is wrong with it, gravest first."""

    value: float
    faults: tuple[Anomaly, ...] = ()


def printed(table: str, model: str, method: str, edits: int, benchmark: str) -> Printed | None:
    """A cell of "table2" and the like; None where the paper has none. method: as printed; edits 0 is the unedited."""
    method = method if edits else UNEDITED
    value = _cells(table).get((model, method, edits, benchmark))
    if value is None:
        return None
    found = [a for a in faults(table) if a.marks(model, method, edits, benchmark)]
    return Printed(value, tuple(sorted(found, key=lambda a: _GRAVITY.index(a.severity))))


_GRAVITY = ("high", "medium", "low")


@cache
def faults(table: str) -> tuple[Anomaly, ...]:
    """What is wrong with a table or figure ("table2", "fig3"), whole or in part."""
    name = table.removeprefix("table")
    return tuple(anomaly for row in rows("anomalies") if (anomaly := _anomaly(row)).table == name)


def table_faults(table: str) -> tuple[Anomaly, ...]:
    """Those that are of the table or figure as a whole."""
    return tuple(anomaly for anomaly in faults(table) if not anomaly.cells)


@cache
def rows(name: str) -> Sequence[Mapping[str, str]]:
    """The lines of one file of `published/`, by its name without ending."""
    text = files("errata.report").joinpath("published", f"{name}.csv").read_text("utf-8")
    return tuple(csv.DictReader(text.splitlines()))


@cache
def _cells(table: str) -> Mapping[tuple[str, str, int, str], float]:
    """Blank values, "-" in the paper, are left out."""
    return {
        (row["model"], row["method"], int(row["edits"]), row["benchmark"]): float(row["value"])
        for row in rows(table)
        if row["value"].strip()
    }


def _anomaly(row: Mapping[str, str]) -> Anomaly:
    methods = [row["method"]] if row["method"] == UNEDITED else row["method"].split()
    lists = row["edits"].split("/")
    each = lists if len(lists) == len(methods) else lists * len(methods)
    benchmarks = frozenset(row["benchmark"].replace("<->", " ").split())
    return Anomaly(
        severity=row["severity"],
        table=row["table"],
        model=None if row["model"] in _ANY else row["model"],
        methods=None if set(methods) <= _ANY else {m: _counts(text) for m, text in zip(methods, each)},
        benchmarks=None if benchmarks <= _ANY else benchmarks,
        cells=row["benchmark"] not in ("-", "") and row["edits"] not in ("-", ""),
        issue=row["issue"],
        suggested=row["suggested"] or "",
    )


def _counts(text: str) -> frozenset[int] | None:
    return None if text.strip() in _ANY else frozenset(int(word) for word in text.split() if word.isdecimal())
