"""How long a run will still take, from how long each kind of step has taken. No torch here."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from errata.runs.layout import RunDir
from errata.types import Progress


def whole(run: RunDir) -> str:
    """What is reported of a run as a whole, in seconds."""
    return f"{run.path.name} (seconds)"


class Outlook:
    """Reports seconds spent and seconds expected in all, so that a bar of them ends when the run does.

    expected: kind of step -> (how many there are to do, seconds one takes before any was measured).
    """

    def __init__(
        self,
        what: str,
        expected: Mapping[str, tuple[int, float]],
        progress: Progress | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what, self._progress, self._clock = what, progress, clock
        self._left = Counter({kind: count for kind, (count, _) in expected.items()})
        self._guess = {kind: seconds for kind, (_, seconds) in expected.items()}
        self._spent: defaultdict[str, float] = defaultdict(float)
        self._done: Counter[str] = Counter()
        self._began = clock()

    @contextmanager
    def step(self, kind: str, count: int = 1) -> Iterator[Progress]:
        """Count the block as `count` steps of a kind. Yields the progress callback for work inside it."""
        self._left[kind] -= count
        began = self._clock()

        def inside(what: str, done: int, total: int) -> None:
            self._report(max(0.0, count * self._mean(kind) - (self._clock() - began)))
            if self._progress is not None:
                self._progress(what, done, total)

        self._report(count * self._mean(kind))
        yield inside
        self._spent[kind] += self._clock() - began
        self._done[kind] += count
        self._report(0.0)

    @property
    def spent(self) -> dict[str, tuple[int, float]]:
        """Kind of step -> (how many were done, seconds they took together), of those done here."""
        return {kind: (count, round(self._spent[kind], 3)) for kind, count in self._done.items()}

    def skip(self, kind: str, count: int = 1) -> None:
        """Those steps are done already."""
        self._left[kind] -= count

    def finish(self) -> None:
        """Report the end."""
        total = max(1, round(self._clock() - self._began))
        if self._progress is not None:
            self._progress(self._what, total, total)

    def _mean(self, kind: str) -> float:
        return self._spent[kind] / self._done[kind] if self._done[kind] else self._guess[kind]

    def _report(self, here: float) -> None:
        """here: seconds that the step in hand will still take."""
        spent = self._clock() - self._began
        left = here + sum(count * self._mean(kind) for kind, count in self._left.items())
        if self._progress is not None:
            self._progress(self._what, int(spent), max(1, int(spent) + 1, round(spent + left)))
