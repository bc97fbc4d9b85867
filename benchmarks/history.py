"""What an edit costs after ten thousand edits whose keys are all remembered, against the tenth."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.harness import Contest, Figure, Row, Trial, timed
from errata.artifacts.build import ensure
from errata.artifacts.store import Artifacts
from errata.atlas.corpus import corpus_texts
from errata.atlas.world import cases
from errata.editing import choose_editor
from errata.editors.base import State
from errata.model.loading import load
from errata.types import EditRequest
from errata.update.session import EditSession

EARLY, LATE = 10, 10_000
TRIALS = 20


@dataclass
class Edited:
    """A session, and what its method remembers."""

    session: EditSession
    artifacts: Artifacts
    state: State

    def write(self, editor: Any, request: EditRequest) -> None:
        result = editor.edit(self.session.model, [request], self.state, self.artifacts)
        self.session.apply(result.update, [request], editor.name)
        self.state = result.state


def contest(quick: bool) -> Contest:
    """Atlas, MEMIT with history, one edit at a time. The trials are edits 10, 11, ... and 10,000, 10,001, ...

    Facts are edited again and again. The edits before the trials take one step of the search each.
    """
    late = 60 if quick else LATE
    requests = [case.request for case in cases()]

    def trials() -> Iterator[Trial]:
        with TemporaryDirectory() as folder:
            artifacts = Artifacts(Path(folder))
            model = load("atlas")
            editor: Any = choose_editor("memit", model, {"history": True})
            ensure(model, editor.needs(model), artifacts, corpus_texts(), corpus="atlas")
            many, few = (Edited(EditSession(copy), artifacts, {}) for copy in (model, load("atlas")))
            brief = replace(editor, steps=2)
            for place, number in ((few, EARLY), (many, late)):
                for request in islice(cycle(requests), number - 1):
                    place.write(brief, request)
            for request in islice(cycle(requests), TRIALS):
                ours = timed(partial(many.write, editor, request))[0]
                reference = timed(partial(few.write, editor, request))[0]
                yield Trial(ours, reference)

    return Contest(trials(), TRIALS)


ROWS = (Row("edit 10,000 against edit 10", "one edit of atlas, MEMIT with history", 1.1, contest, Figure.COST),)
