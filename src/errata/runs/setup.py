"""All that a run works with, checked before anything is written."""

import hashlib
import importlib.metadata
import json
import platform
import subprocess
import warnings
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

import errata
from errata.data.cases import read_cases
from errata.editing import batch_size, choose_editor, embedded_corpus
from errata.editors.base import Editor
from errata.errors import BadInput
from errata.keyvalue.filters import Filter
from errata.model.editable import EditableModel
from errata.model.loading import load
from errata.model.tokens import encode, pad
from errata.registry import check_options, editors, load_filter, split_variant
from errata.runs.chat import Frames, framed_case, framed_request, frames
from errata.runs.config import Resolved, RunConfig, read_resolved, to_yaml
from errata.runs.layout import RunDir, WriteHook, atomic, write_json
from errata.runs.selection import KNOWN, select
from errata.types import EditCase, EditRequest, Engine, Progress

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

LIBRARIES = ("torch", "transformers", "tokenizers", "lm-eval", "numpy")
DECISIVE = ("errata", "python", *LIBRARIES, "vllm", "threads", "machine", "device")
"""Versions that may change the last bits of a number when they change."""


@dataclass(frozen=True)
class Setup:
    """The parts of one run.

    filter: what clips updates, None for nothing. cases: what is edited, in order, without chat template; all can be
    located in the model's tokens. skipped: (request id, reason) of those that cannot. frames: the chat
    template, where it is used. items: hash of the items of the package's tasks. checkpoints: numbers of edits after
    which the model is measured, ascending from 0.
    """

    config: RunConfig
    model: EditableModel
    editor: Editor
    filter: Filter | None
    cases: Sequence[EditCase]
    skipped: Sequence[tuple[str, str]]
    frames: Frames
    items: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def requests(self) -> list[EditRequest]:
        """As the method gets them."""
        return [framed_request(case.request, self.frames.edits) for case in self.cases]

    @cached_property
    def exam(self) -> list[EditCase]:
        """The cases as the model is asked about them."""
        return [framed_case(case, self.frames.probes) for case in self.cases]

    @property
    def first_layer(self) -> int:
        """The first layer whose weights the method writes, 0 where it does not say."""
        return int(min(getattr(self.editor, "layers", ()) or [getattr(self.editor, "layer", 0)]))

    @property
    def data_dir(self) -> str | None:
        """Where tasks read their rows: as the config says, for embedded models the package's miniatures."""
        return data_dir(self.config)

    @property
    def checkpoints(self) -> list[int]:
        """Those asked for; where too many requests were skipped, the last one is what is left.

        In the single setting the end of every batch.
        """
        asked = {min(edits, len(self.cases)) for edits in self.config.edits}
        if self.config.setting == "single":
            return [*range(0, max(asked), self.config.batch), max(asked)]
        return sorted(asked)


def prepare(config: RunConfig, known: Collection[str] | None = None, progress: Progress | None = None) -> Setup:
    """Load what the config names.

    known: ids of the edits that the model knew when the run began, if it has begun: what `prefilter` leaves out.
    BadInput for a wrong name of a method or task, a wrong option or file, too few edits, and for a model that
    gives non-finite logits before any edit.
    """
    split_variant(f"{config.method}:{config.preset or ''}")
    check_options(config.method, config.options)  # a typing error should not cost the loading of a model
    filter = load_filter(config.filter)
    found = read_cases(config.data, seed=_order(config))
    wanted = max(config.edits)
    if len(found) < wanted:
        raise BadInput(f"{config.data} holds {len(found)} edits and `edits` asks for {wanted}; lower it or add edits.")
    if config.engine == "vllm":
        from errata.capability import vllm  # importing the harness takes seconds

        vllm.check_engine(config.method, editors()[config.method].mergeable)
    items = _check_tasks(config)
    model = load(config.model, config.device, config.dtype)
    around = frames(config.chat_template, model)
    given = known if config.prefilter else ()
    cases, skipped = select(model, found, max(wanted, 1), given, around.edits, progress)
    _check_finite(model, cases)
    editor = resolve_editor(config, model)
    split = config.model_copy(update={"batch": batch_size(editor, config.batch)})
    setup = Setup(split, model, editor, filter, cases, skipped, around, items)
    _check_lower_states(setup)
    return setup


def _check_lower_states(setup: Setup) -> None:
    """BadInput if they are asked for and no layer stays below what the method changes."""
    method = setup.config.method
    if setup.config.lower_states is None or (setup.editor.mergeable and setup.first_layer > 0):
        return
    why = "may write layer 0" if setup.editor.mergeable else "keeps a memory, which may act on any layer"
    raise BadInput(
        f"lower_states keeps what enters the first edited layer, and {method} {why}; leave it out, or take a method "
        "that writes weights of higher layers."
    )


def data_dir(config: RunConfig) -> str | None:
    """The config's, or for embedded models the package's miniatures."""
    return config.data_dir or embedded_corpus(config.model)


def _check_tasks(config: RunConfig) -> dict[str, str]:
    if not config.tasks:
        return {}
    from errata.capability.harness import check_tasks  # importing the harness takes seconds

    return check_tasks(config.tasks, data_dir(config))


def _order(config: RunConfig) -> int | None:
    """The seed that shuffles the edits, None for the order of the file."""
    if config.select is None:
        return config.seed or None
    return config.seed if config.select == "seeded" else None


def resolve_editor(config: RunConfig, model: EditableModel) -> Editor:
    """The method with the model's preset, and over it the config's seed and options."""
    editor = choose_editor(config.method, model, config.options, config.preset)
    if "seed" in hyperparameters(editor) and "seed" not in config.options:
        return choose_editor(config.method, model, {**config.options, "seed": config.seed}, config.preset)
    return editor


def record(setup: Setup, run: RunDir, hook: WriteHook | None) -> Resolved:
    """Write the run's config.yaml, or check that it says what it said when the run began."""
    now = _resolved(setup)
    if not run.config.exists():
        if setup.config.prefilter:
            write_json(run.known, {"edits": [name for name, reason in setup.skipped if reason == KNOWN]}, hook)
        with atomic(run.config, hook) as draft:
            draft.write_text(to_yaml(now), encoding="utf-8")
        return now
    began = read_resolved(run)
    for what, before, after in (
        ("the weights of the model", began.model_fingerprint, now.model_fingerprint),
        ("the edits", began.data_sha256, now.data_sha256),
        ("the hyperparameters of the method", began.editor, now.editor),
        ("the use of the chat template", str(began.chat_template), str(now.chat_template)),
        ("the items of the tasks", began.items_sha256 or now.items_sha256, now.items_sha256),
    ):
        if before != after:
            raise BadInput(
                f"{run.path} was begun with other values: {what} changed since, from {_short(before)} to "
                f"{_short(after)}. Restore them, or move the folder away to begin anew."
            )
    _warn_of_versions(run, began, now)
    return began


def _check_finite(model: EditableModel, cases: Sequence[EditCase]) -> None:
    prompts = [encode(model.tokenizer, case.request.prompt) for case in cases[:8]]
    batch = pad(prompts, model.pad_id)
    if not model.logits(batch)[batch.mask.bool()].isfinite().all():
        raise BadInput(
            f"{model.name} gives NaN or infinite logits before any edit ({model.dtype}, {model.device}), so nothing "
            "can be measured against it. Try dtype: float32, or check the weights: errata doctor " + model.name
        )


def hyperparameters(editor: Editor) -> dict[str, Any]:
    """Every hyperparameter, as JSON gives it back."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(cast("DataclassInstance", editor))))
    return values


def _resolved(setup: Setup) -> Resolved:
    return Resolved(
        config=setup.config,
        editor=hyperparameters(setup.editor),
        model_fingerprint=setup.model.fingerprint(),
        data_sha256=_digest([_decisive(case) for case in setup.cases]),
        cases=len(setup.cases),
        items_sha256=dict(setup.items),
        versions=_versions(setup.model, setup.config.engine),
        chat_template=setup.frames.used,
    )


def _decisive(case: EditCase) -> dict[str, Any]:
    """What of a case decides the numbers: not where it was read, nor what its probes are called."""

    def kept(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return {key: value for key, value in pairs if key not in ("kind", "group") and (value or key != "aliases")}

    return asdict(replace(case, source=""), dict_factory=kept)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _versions(model: EditableModel, engine: Engine) -> dict[str, str]:
    libraries = {name: importlib.metadata.version(name) for name in LIBRARIES}
    if engine == "vllm":
        from errata.capability import vllm

        libraries["vllm"] = vllm.version()
    return {
        "errata": errata.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        **libraries,
        "threads": str(torch.get_num_threads()),
        "machine": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else model.device.type,
    }


def _commit() -> str:
    """The last commit that touched this package, "" where it is not in a checkout."""
    with suppress(OSError, subprocess.SubprocessError):
        command = ["git", "-C", str(Path(__file__).parents[1]), "log", "-1", "--format=%H", "--", "."]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    return ""


def _warn_of_versions(run: RunDir, began: Resolved, now: Resolved) -> None:
    changes = [
        f"{name} {began.versions.get(name)} -> {now.versions.get(name)}"
        for name in DECISIVE
        if began.versions.get(name) != now.versions.get(name)
    ]
    if changes:
        warnings.warn(
            f"{run.path} goes on in another environment ({', '.join(changes)}): numbers may differ in their last bits "
            "from an undisturbed run.",
            stacklevel=2,
        )


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= 200 else f"{text[:200]}..."
