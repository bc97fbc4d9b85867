"""Run benchmarks and print the table: `python -m benchmarks [NAME ...] [--quick] [--list]`."""

import argparse
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from benchmarks import harness, machine
from benchmarks.harness import Result, Row
from errata.cli import output

MODULES = ("editing", "moments", "memory", "history", "scoring", "startup")
"""Where rows are: each module has `ROWS`."""


def rows() -> list[Row]:
    """All benchmarks, in the order of the table."""
    return [row for name in MODULES for row in import_module(f"benchmarks.{name}").ROWS]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help="rows to run; a part of a name is enough (default: all)")
    parser.add_argument("--quick", action="store_true", help="small shapes, in seconds; nothing is written")
    parser.add_argument("--list", action="store_true", help="print the names of the rows")
    parser.add_argument("--threads", type=int, help="threads of torch (default: one for each processor)")
    parser.add_argument("--trials", type=int, help="end each row after so many; nothing is written")
    parser.add_argument("--clock", choices=sorted(harness.CLOCKS), default="wall", help="cpu: for a busy machine")
    parser.add_argument("--output", type=Path, help="file of the results (default: results.json beside this)")
    given = parser.parse_args()
    chosen = named(given.names)
    if not chosen:
        parser.error(f"no benchmark has {' or '.join(given.names)} in its name; see --list")
    if given.list:
        output.table(["benchmark", "trial"], [[row.name, row.unit] for row in chosen])
        return
    harness.use(given.clock)
    path = given.output or (None if given.quick or given.trials else harness.RESULTS)
    run(chosen, path, given.quick, given.threads, given.trials)


def named(names: Sequence[str]) -> list[Row]:
    """The rows of these names, or with them in their names; all rows without any."""
    found = rows()
    exact = {row.name for row in found} & set(names)
    parts = [name for name in names if name not in exact]
    return [row for row in found if not names or row.name in exact or any(part in row.name for part in parts)]


def run(chosen: Sequence[Row], path: Path | None, quick: bool, threads: int | None, trials: int | None) -> None:
    """Measure and say each row; what is done is written after each, so that an interruption loses little."""
    used = harness.threads(threads)
    rates = machine.measured()
    output.note(
        f"{used} threads: {rates.float32 / 1e9:.0f} GFLOP/s in float32, {rates.float64 / 1e9:.0f} in float64, "
        f"{rates.copy / 1e9:.1f} GB/s copied (read and written)"
    )
    results: list[Result] = []
    with output.progress() as progress:
        for row in chosen:
            results.append(harness.measure(row, quick, rates, progress, trials))
            output.note("  ".join(harness.cells(results[-1])))
            if path is not None:
                harness.write(results, path)
    output.table(harness.header(), [harness.cells(result) for result in results])


if __name__ == "__main__":
    main()
