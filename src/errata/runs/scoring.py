"""What is measured at a checkpoint: probes of the edits, capability tasks, health; each file when it is missing."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from errata.model.caches import GIB
from errata.model.lower import LowerStates
from errata.probes.edits import base_answers, choose, choose_earlier, probe_cases
from errata.probes.health import health
from errata.records import Record, read_records, write_records
from errata.runs.layout import RunDir, WriteHook, atomic, write_json
from errata.runs.outlook import Outlook
from errata.runs.setup import Setup
from errata.stats.curves import given_up
from errata.types import EditCase, Progress
from errata.update.session import EditSession

if TYPE_CHECKING:
    from errata.capability.local import ErrataLM

PROBES, HEALTH = "probes", "health"
GUESS = {PROBES: 10.0, HEALTH: 2.0}
TASK_GUESS = 10.0


class Scorer:
    """Measures the model of a session and files the rows of the run."""

    def __init__(self, setup: Setup, run: RunDir, session: EditSession, hook: WriteHook | None) -> None:
        self._setup, self._run, self._session, self._hook = setup, run, session, hook
        self._config = setup.config
        self._lower = self._lower_states()

    def kinds(self) -> dict[str, float]:
        """The steps of a checkpoint, and a first guess of their seconds."""
        return {**GUESS, **dict.fromkeys(self._config.tasks, TASK_GUESS)}

    def measure(self, edits: int, newest: int, outlook: Outlook) -> None:
        """Whatever is missing of the measurements after `edits` edits, of which the last batch wrote `newest`."""
        with ExitStack() as engines:
            engine = cache(lambda: self._start(engines))
            for kind in self.kinds():
                if self._is_done(kind, edits, newest):
                    outlook.skip(kind)
                    continue
                with outlook.step(kind) as inside:
                    self._measure(kind, edits, newest, engine, inside)

    def _start(self, engines: ExitStack) -> "ErrataLM":
        """What answers the tasks: started at the first of a checkpoint, stopped when its `engines` are."""
        from errata.capability.harness import answering  # importing the harness takes seconds

        config = self._config
        kept = {"prefix_cache": config.prefix_cache, "lower": self._lower}
        return engines.enter_context(answering(self._setup.model, config.engine, **kept))

    def _lower_states(self) -> LowerStates | None:
        """What is kept for later checkpoints of the layers that no edit writes."""
        asked = self._config.lower_states
        if asked is None:
            return None
        folder = self._run.lower if asked.on == "disk" else None
        return LowerStates(self._setup.first_layer, int(asked.gib * GIB), folder)

    def finish(self) -> None:
        """Delete what was kept for later checkpoints."""
        shutil.rmtree(self._run.lower, ignore_errors=True)

    def is_complete(self, edits: int, newest: int) -> bool:
        """Whether nothing is missing there."""
        return all(self._is_done(kind, edits, newest) for kind in self.kinds())

    def has_collapsed(self, edits: int) -> bool:
        """Whether hardly any neighbour keeps its answer at a measured checkpoint (`given_up`)."""
        file = self._run.table(edits, "locality")
        rows = read_records(file) if file.exists() else []
        return bool(rows) and given_up([row.correct for row in rows], [row.edit or 0 for row in rows])

    def _is_done(self, kind: str, edits: int, newest: int) -> bool:
        if kind == HEALTH:
            return self._run.health(edits).exists()
        names = self._tables(edits, newest) if kind == PROBES else [kind]
        return all(self._run.table(edits, name).exists() for name in names)

    def _measure(
        self, kind: str, edits: int, newest: int, engine: "Callable[[], ErrataLM]", progress: Progress
    ) -> None:
        if kind == HEALTH:
            write_json(self._run.health(edits), health(self._session), self._hook)
        elif kind == PROBES:
            self._probe(edits, newest, progress)
        else:
            from errata.capability.harness import evaluate

            limit, seed, data_dir = self._config.limit, self._config.seed, self._setup.data_dir
            chat = self._setup.frames.probes is not None
            tables = evaluate(engine(), [kind], limit, seed, progress, data_dir, edited=edits > 0, chat=chat)
            self._write(edits, kind, [replace(row, edit=self._alone(edits)) for row in tables[kind]])

    def _probe(self, edits: int, newest: int, progress: Progress) -> None:
        cases, chosen = self._setup.exam, self._chosen(edits)
        if edits:
            base = self._base_answers()
        else:
            base = base_answers(self._setup.model, cases, chosen, progress)
        earlier = self._earlier(edits, newest)
        rows = probe_cases(self._setup.model, cases, chosen, base, progress, earlier=earlier)
        for name in self._tables(edits, newest):
            if not self._run.table(edits, name).exists():
                self._write(edits, name, [row for row in rows if row.table == name])

    def _chosen(self, edits: int) -> list[int]:
        """Indices of the probed edits; on the unedited model, of all that any checkpoint will probe."""
        counts = [edits] if edits else self._setup.checkpoints
        limit, seed = self._config.probe_limit, self._config.seed
        befores = {count: self._before(count) for count in counts}
        return sorted({b + index for count, b in befores.items() for index in choose(count - b, limit, seed)})

    def _before(self, edits: int) -> int:
        """Edits that the model after `edits` edits does not hold: in the single setting all but the last batch."""
        size = self._config.batch
        return (max(edits, 1) - 1) // size * size if self._config.setting == "single" else 0

    def _alone(self, edits: int) -> int | None:
        """Index of the last edit of the batch that is alone in the model, None in the sequential setting."""
        return edits - 1 if edits and self._config.setting == "single" else None

    def _earlier(self, edits: int, newest: int) -> dict[str, list[int]]:
        """Edits before the last batch that are asked again, by kind."""
        held = edits - newest - self._before(edits)
        return choose_earlier(held, self._config.retention_limit, self._config.seed)

    def _tables(self, edits: int, newest: int) -> list[str]:
        """Names of the probes' tables that have rows at a checkpoint."""
        chosen = self._chosen(edits)
        cases = [self._setup.cases[index] for index in chosen]
        present = {
            "efficacy": bool(cases),
            "generalization": any(case.paraphrases for case in cases),
            "locality": any(case.neighbours for case in cases),
            "portability": any(case.portability for case in cases),
            "retention": bool(self._earlier(edits, newest)),
        }
        return [name for name, rows in present.items() if rows]

    def _base_answers(self) -> Mapping[str, str]:
        """What the unedited model answered to the neighbours, by prompt, from its own checkpoint."""
        file = self._run.table(0, "locality")
        return _by_prompt(self._setup.exam, read_records(file)) if file.exists() else {}

    def _write(self, edits: int, name: str, rows: Sequence[Record]) -> None:
        with atomic(self._run.table(edits, name), self._hook) as draft:
            write_records(draft, rows)


def _by_prompt(cases: Sequence[EditCase], rows: Sequence[Record]) -> dict[str, str]:
    """Rows of locality are named REQUEST/N for the N-th neighbour; gold is the unedited model's answer."""
    neighbours = {f"{case.request.id}/{n}": probe for case in cases for n, probe in enumerate(case.neighbours)}
    return {neighbours[row.item].prompt: row.gold for row in rows}
