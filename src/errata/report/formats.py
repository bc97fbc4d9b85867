"""How a table, a rate or a p-value is written: CSV (raw numbers), LaTeX and words (as read)."""

import csv
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["text", "count", "share", "range", "points", "points-range", "size", "p", "number", "score"]

MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Column:
    """keys: what the cell shows; two for a range, four for a `score`. title: the head. kind: how it is written."""

    title: str
    kind: Kind
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """name: of its files. rows: raw values; a key that is missing or None leaves the cell empty."""

    name: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Mapping[str, Any], ...]


def to_csv(table: Table) -> str:
    """All raw values, rates as shares of one; also those that the page does not show."""
    keys = list(dict.fromkeys(key for row in table.rows for key in row))
    ordered = [key for column in table.columns for key in column.keys if key in keys]
    file = io.StringIO()
    writer = csv.DictWriter(file, [*ordered, *(key for key in keys if key not in ordered)], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _raw(value) for key, value in row.items()} for row in table.rows)
    return file.getvalue()


def _raw(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def to_latex(table: Table) -> str:
    """A table for booktabs (and longtable, as checkpoints are many), with the text of the page."""
    layout = "".join("l" if column.kind == "text" else "r" for column in table.columns)
    head = " & ".join(_escape(column.title) for column in table.columns)
    body = [" & ".join(_escape(cell(column, row)) for column in table.columns) + r" \\" for row in table.rows]
    return "\n".join(
        [
            r"% needs \usepackage{booktabs,longtable}",
            rf"\begin{{longtable}}{{{layout}}}",
            rf"\caption{{{_escape(table.title)}. {_escape(table.caption)}}}\label{{tab:errata-{table.name}}}\\",
            rf"\toprule {head} \\ \midrule \endhead \bottomrule \endfoot",
            *body,
            r"\end{longtable}",
            "",
        ]
    )


def to_markdown(table: Table) -> str:
    """A table with the text of the page, its caption above it."""
    lines = [[column.title for column in table.columns], ["---"] * len(table.columns)]
    lines += [[cell(column, row) for column in table.columns] for row in table.rows]
    return f"{table.caption}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    MINUS: "$-$",
    "×": r"$\times$",
    "–": "--",
    "“": "``",
    "”": "''",
    "…": r"\dots{}",
    "<": "$<$",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
}


def _escape(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)


def cell(column: Column, row: Mapping[str, Any]) -> str:
    """What a reader sees; "" for what is absent."""
    values = [row.get(key) for key in column.keys]
    needed = values[:1] if column.kind == "score" else values
    if any(value is None or (isinstance(value, float) and math.isnan(value)) for value in needed):
        return ""
    return _WRITERS[column.kind](*values)


def share(value: float) -> str:
    """0.4567 -> "46 %"; near the ends one decimal, so that only all reads as 100 % and only none as 0 %."""
    percent = 100 * value
    if 0 < percent < 1 or 99 < percent < 100:
        return f"{min(max(percent, 0.1), 99.9):.1f} %"
    return f"{percent:.0f} %"


def points(value: float, sign: bool = True) -> str:
    """-0.123 -> "−12.3 points"."""
    number = f"{100 * abs(value):.1f}".removesuffix(".0")
    return f"{_sign(value, number) if sign else ''}{number} point{'' if number == '1' else 's'}"


def _sign(value: float, number: str) -> str:
    return "" if number == "0" else "+" if value > 0 else MINUS


def p_value(p: float) -> str:
    return "<0.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def number(value: float) -> str:
    """Three significant digits, powers of ten where plain digits would not be read."""
    if not math.isfinite(value) or value == 0 or 1e-3 <= abs(value) < 1e6:
        return f"{value:,.0f}" if abs(value) >= 1000 and math.isfinite(value) else f"{value:.3g}"
    return f"{value:.1e}"


def edits_text(count: int) -> str:
    return f"{count:,} edit{'' if count == 1 else 's'}"


def span(low: float, high: float) -> str:
    return f"{100 * low:.0f}–{100 * high:.0f} %"


def score(value: float, low: float | None, high: float | None, mark: str | None) -> str:
    """As the papers print one: 0.4587; with its interval where it has one, and the mark of a footnote."""
    text = f"{value:.4f}" if low is None or high is None else f"{value:.3f} ({low:.2f}–{high:.2f})"
    return f"{text} [{mark}]" if mark else text


def _change(value: float) -> str:
    text = f"{100 * abs(value):.1f}"
    return f"{_sign(value, text.removesuffix('.0'))}{text}"


def points_span(low: float, high: float) -> str:
    return f"{_change(low)} to {_change(high)}"


_WRITERS: Mapping[Kind, Callable[..., str]] = {
    "text": str,
    "count": lambda value: f"{value:,}",
    "share": share,
    "range": span,
    "points": _change,
    "points-range": points_span,
    "size": lambda value: f"{100 * value:.1f}",
    "p": p_value,
    "number": number,
    "score": score,
}
