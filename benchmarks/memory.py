"""The most memory that edits take beside what was built for the model, against the model itself.

Linux alone lets a process reset its peak; elsewhere there is no such row.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.editing import arena, prepare, write
from benchmarks.harness import Contest, Figure, Row, Trial
from benchmarks.shapes import SMALL, TINY, requests
from errata.editors.memit import Memit

RESET = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")
BATCHES = (1, 1, 10)


def contest(quick: bool) -> Contest:
    """Batches of edits one after another; what an earlier one left in memory counts for the later ones too."""
    shape = TINY if quick else SMALL

    def trials() -> Iterator[Trial]:
        with TemporaryDirectory() as folder:
            editor = Memit(shape.edited)
            place = arena(shape, editor, Path(folder))
            prepare(editor, place)
            wanted, size = iter(requests(sum(BATCHES))), place.ours.model.bytes
            before = _kilobytes("VmRSS")
            for batch in BATCHES:
                RESET.write_text("5", "ascii")
                part = [next(wanted) for _ in range(batch)]
                write(place, editor.edit(place.ours.model, part, place.state, place.artifacts))
                grown = 1024 * (_kilobytes("VmHWM") - before)
                yield Trial((size + grown) / 1e9, size / 1e9)

    return Contest(trials(), len(BATCHES))


def _kilobytes(name: str) -> int:
    lines = dict(line.split(":", 1) for line in STATUS.read_text("ascii").splitlines())
    return int(lines[name].split()[0])


ROWS = (
    (Row("memory of MEMIT", "batches of 1, 1 and 10, GPT-2 small", 1.15, contest, Figure.SPACE),)
    if RESET.exists()
    else ()
)
