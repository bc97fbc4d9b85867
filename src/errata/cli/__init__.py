"""The command line: one file per command, each importing what it needs when it runs.

Exit codes: 0 done; 1 a check did not pass; 2 bad input, with one message and no traceback; 130 interrupted.
"""

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `errata` with these arguments (default: those of the process) and return its exit code."""
    from errata.cli.app import run

    return run(arguments)
