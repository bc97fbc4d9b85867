"""How long `errata --help` takes, against a Python that does nothing."""

import subprocess
import sys
from collections.abc import Iterator, Sequence

from benchmarks.harness import Contest, Figure, Row, Trial, timed

HELP = (sys.executable, "-c", "from errata.cli import main; main()", "--help")
NOTHING = (sys.executable, "-c", "pass")


def _seconds(command: Sequence[str]) -> float:
    return timed(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))[0]


def contest(quick: bool) -> Contest:
    """Processes in alternation, after one of each to fill the file caches."""
    count = 3 if quick else 15

    def trials() -> Iterator[Trial]:
        _seconds(HELP), _seconds(NOTHING)
        for _ in range(count):
            yield Trial(_seconds(HELP), _seconds(NOTHING))

    return Contest(trials(), count)


ROWS = (Row("errata --help", "one process", 0.25, contest, Figure.EXTRA),)
