"""What a run will take: seconds, memory, disk. From finished runs of the same kind, else from sizes. No torch here.

Guessed times are those of the embedded model on one core (docs/methods-on-atlas.md), in proportion to the parameters.
On a GPU they follow what table 8 of arXiv 2410.18785 says of ROME: 4.9 s for an edit of GPT2-XL, 9.9 s of Llama2-7B.
"""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from errata.errors import ErrataError
from errata.registry import editors
from errata.runs.config import RunConfig, read_resolved, run_name
from errata.runs.jobs import Needs
from errata.runs.layout import RunDir, is_finished
from errata.runs.ledger import read_ledger
from errata.runs.machine import gpus
from errata.runs.sizes import ITEMSIZE, Size, model_size

GB = 1024**3
ATLAS = 5_267_000
"""Parameters of the model that the times below are of."""
SECONDS_AN_EDIT = {
    "alphaedit": 0.36, "emmet": 0.33, "ft": 0.17, "ft_l": 0.12, "ft_m": 0.13, "grace": 0.10, "ike": 0.06, "kn": 0.43,
    "lora": 0.28, "memit": 0.39, "mend": 0.05, "pmet": 0.75, "r_rome": 0.50, "rome": 0.57, "serac": 0.05,
}  # fmt: skip
UNKNOWN_METHOD = 0.5
SECONDS_A_PROBE, SECONDS_OF_HEALTH, SECONDS_AN_ITEM = 0.15, 2.0, 0.05
ITEMS = 1000
"""Items of a task without `limit`."""
START = 15.0
"""Seconds until a process has its libraries and a small model."""
PROCESS = int(0.9 * GB)
"""Memory of a process with its libraries and no model; with CUDA twice that."""
LAYERS_WRITTEN = 5
"""Matrices that a method writes which spreads over layers."""


@dataclass(frozen=True)
class Estimate:
    """seconds: of work that is left. memory: bytes at the most, of the GPU if it runs on one. disk: bytes to be added.

    None where nothing is known. measured: the times are those of finished runs, not guessed.
    """

    seconds: float | None
    memory: int | None
    disk: int | None
    measured: bool


@dataclass
class Experience:
    """What finished runs took: (model, method) -> kind of step -> (how many, seconds), and memory in bytes."""

    steps: dict[tuple[str, str], dict[str, tuple[int, float]]] = field(default_factory=dict)
    memory: dict[tuple[str, str], int] = field(default_factory=dict)


def experience(root: Path) -> Experience:
    """Of the runs in a folder."""
    count: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    spent: defaultdict[tuple[str, str], defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    found = Experience()
    for file in sorted(root.glob("*/costs.json")):
        try:
            kind = _kind(read_resolved(RunDir(file.parent)).config)
        except ErrataError:
            continue  # a run of another version tells nothing
        told = json.loads(file.read_text("utf-8"))
        for step, (steps, seconds) in told["steps"].items():
            count[kind][step] += steps
            spent[kind][step] += seconds
        memory = told["memory"].get("gpu", told["memory"].get("process", 0))
        found.memory[kind] = max(found.memory.get(kind, 0), memory)
    found.steps = {kind: {step: (n, spent[kind][step]) for step, n in steps.items()} for kind, steps in count.items()}
    return found


@dataclass(frozen=True)
class Planner:
    """Says what runs will take.

    root: folder of the runs' folders, where finished ones tell of others. threads: torch threads of each run.
    gpus: that a run takes; None for one where this machine has any and its device is not the processor.
    memory: bytes of main memory that a run takes; None for what is estimated.
    """

    root: Path
    threads: int = 1
    gpus: float | None = None
    memory: int | None = None

    def needs(self, config: RunConfig) -> Needs:
        """What a run takes of a machine."""
        gpus = self._gpus(config)
        told = PROCESS * 2 if gpus else self.estimate(config).memory or 0
        return Needs(self.threads, told if self.memory is None else self.memory, gpus)

    def estimate(self, config: RunConfig) -> Estimate:
        """What is left to do of a run."""
        run, size, gpu = RunDir(self.root / run_name(config)), model_size(config.model), self._gpus(config) > 0
        kind = _kind(config)
        if is_finished(run):
            return Estimate(0.0, self._known.memory.get(kind), 0, True)
        tried = edits_tried(run)
        measured = {step: spent / steps for step, (steps, spent) in self._known.steps.get(kind, {}).items() if steps}
        rates = _guessed(config, size, gpu, self.threads) | measured
        left = _steps(config, run, tried)
        seconds = START + sum(n * rates[step] for step, n in left.items()) if left.keys() <= rates.keys() else None
        memory = self._known.memory.get(kind) or _memory(config, size, gpu)
        return Estimate(seconds, memory, _disk(config, size, tried), "edit" in measured)

    @cached_property
    def _known(self) -> Experience:
        return experience(self.root)

    def _gpus(self, config: RunConfig) -> float:
        if config.device == "cpu":
            return 0
        here = len(gpus())
        return (here if config.device == "auto" else min(1, here)) if self.gpus is None else self.gpus


def edits_tried(run: RunDir) -> int:
    """Edits that a run has tried so far."""
    return max((entry.edits for entry in read_ledger(run.ledger)), default=0)


def _kind(config: RunConfig) -> tuple[str, str]:
    return config.model, f"{config.method}:{config.preset or ''}"


def _steps(config: RunConfig, run: RunDir, tried: int) -> dict[str, int]:
    """Steps that are left: edits, and at each checkpoint probes, health and tasks."""
    most = max(config.edits)
    single = config.setting == "single"
    checkpoints = range(0, most + config.batch, config.batch) if single else config.edits
    left = sum(not run.health(edits).exists() for edits in checkpoints)
    return {"edit": most - min(tried, most), **dict.fromkeys(("probes", "health", *config.tasks), left)}


def _guessed(config: RunConfig, size: Size, gpu: bool, threads: int) -> dict[str, float]:
    """Seconds of one step of each kind; none where the model's size is unknown."""
    if size.parameters is None:
        return {}
    slower = 6.3 + 1.6e-9 * size.parameters if gpu else max(1.0, size.parameters / ATLAS) / threads
    probed = min(config.probe_limit, max(config.edits)) + config.retention_limit
    items = config.limit or ITEMS
    return {
        "edit": SECONDS_AN_EDIT.get(config.method, UNKNOWN_METHOD) * slower,
        "probes": SECONDS_A_PROBE * probed * slower,
        "health": SECONDS_OF_HEALTH * slower,
        **dict.fromkeys(config.tasks, SECONDS_AN_ITEM * items * slower),
    }


def _memory(config: RunConfig, size: Size, gpu: bool) -> int | None:
    """Bytes: the weights and a batch, what is kept of each matrix that is written, its second moment's factor.

    A factor is float64 and stays; one more and its matrix are there while it is made. On the processor the second
    moments themselves count as well.
    """
    if size.parameters is None:
        return None
    weights = size.parameters * ITEMSIZE.get(config.dtype or "", size.bytes)
    layers = _layers(config.method)
    written = 2 * layers * size.width * size.inner * 4
    moments = (8 * (layers + 2) + (0 if gpu else 4 * layers)) * size.inner**2
    moments = moments if _beforehand(config.method) == "second moment" else 0
    networks = weights if _beforehand(config.method) == "training" else 0
    return int(1.2 * weights + written + moments + networks) + (0 if gpu else PROCESS)


def _disk(config: RunConfig, size: Size, tried: int) -> int | None:
    """Bytes: what each batch adds to the weights, and the tables of the checkpoints."""
    if not size.width:
        return None
    left = max(config.edits) - min(tried, max(config.edits))
    dense = "dense" in _writes(config.method)
    update = size.width * size.inner * 4 if dense else (size.width + size.inner) * 4 * config.batch
    batches = -(-left // config.batch)
    rows = 2000 * (config.probe_limit + config.retention_limit) + 1000 * (config.limit or ITEMS) * len(config.tasks)
    return int(batches * _layers(config.method) * update + len(config.edits) * rows)


def _layers(method: str) -> int:
    return LAYERS_WRITTEN if "several" in _writes(method) or "three" in _writes(method) else 1


def _writes(method: str) -> str:
    info = editors().get(method)
    return (info.writes if info else None) or ""


def _beforehand(method: str) -> str | None:
    info = editors().get(method)
    return info.beforehand if info else None
