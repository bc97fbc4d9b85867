"""Run benchmarks and print the table: `python -m benchmarks [NAME ...] [--quick] [--list]`."""

import argparse
from importlib import import_module
from pathlib import Path

from benchmarks import harness, machine
from benchmarks.harness import Result, Row
from errata.cli import output

MODULES = ("editing", "moments", "memory", "history", "startup")
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
    parser.add_argument(
        "--output", type=Path, help=f"file of the results (default: {harness.RESULTS.name} beside this)"
    )
    given = parser.parse_args()
    chosen = [row for row in rows() if not given.names or any(name in row.name for name in given.names)]
    if not chosen:
        parser.error(f"no benchmark has {' or '.join(given.names)} in its name; see --list")
    if given.list:
        output.table(["benchmark", "trial"], [[row.name, row.unit] for row in chosen])
        return
    path = given.output or (None if given.quick else harness.RESULTS)
    harness.use(given.clock)
    run(chosen, given.quick, given.threads, path)


def run(chosen: list[Row], quick: bool, threads: int | None, path: Path | None) -> None:
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
            results.append(harness.measure(row, quick, rates, progress))
            output.note("  ".join(harness.cells(results[-1])))
            if path is not None:
                harness.write(results, path)
    output.table(harness.header(), [harness.cells(result) for result in results])


if __name__ == "__main__":
    main()
