"""All that a run works with, checked before anything is written."""

import hashlib
import importlib.metadata
import json
import platform
import subprocess
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

import errata
from errata.data.cases import contradictions, read_cases
from errata.editing import batch_size, choose_editor
from errata.editors.base import Editor
from errata.errors import BadInput
from errata.keyvalue.filters import Filter
from errata.model.editable import EditableModel
from errata.model.loading import load
from errata.model.tokens import encode, encode_target, pad, subject_index
from errata.registry import check_options, editors, load_filter, split_variant
from errata.runs.config import Resolved, RunConfig, read_resolved, to_yaml
from errata.runs.layout import RunDir, WriteHook, atomic
from errata.types import EditCase, Engine

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

LIBRARIES = ("torch", "transformers", "tokenizers", "lm-eval", "numpy")
DECISIVE = ("errata", "python", *LIBRARIES, "vllm", "threads", "machine", "device")
"""Versions that may change the last bits of a number when they change."""


@dataclass(frozen=True)
class Setup:
    """The parts of one run.

    filter: what clips updates, None for nothing. cases: what is edited, in order; all can be located in the
    model's tokens. skipped: (request id, reason) of those that cannot. checkpoints: numbers of edits after which
    the model is measured, ascending from 0.
    """

    config: RunConfig
    model: EditableModel
    editor: Editor
    filter: Filter | None
    cases: Sequence[EditCase]
    skipped: Sequence[tuple[str, str]]

    @property
    def checkpoints(self) -> list[int]:
        """Those asked for; where too many requests were skipped, the last one is what is left."""
        return sorted({min(edits, len(self.cases)) for edits in self.config.edits})


def prepare(config: RunConfig) -> Setup:
    """Load what the config names.

    BadInput for a wrong name of a method or task, a wrong option or file, too few edits, and for a model that
    gives non-finite logits before any edit.
    """
    split_variant(f"{config.method}:{config.preset or ''}")
    check_options(config.method, config.options)  # a typing error should not cost the loading of a model
    filter = load_filter(config.filter)
    found = read_cases(config.data, seed=config.seed or None)
    wanted = max(config.edits)
    if len(found) < wanted:
        raise BadInput(f"{config.data} holds {len(found)} edits and `edits` asks for {wanted}; lower it or add edits.")
    if config.engine == "vllm":
        from errata.capability import vllm  # importing the harness takes seconds

        vllm.check_engine(config.method, editors()[config.method].mergeable)
    if config.tasks:
        from errata.capability.harness import check_tasks  # importing the harness takes seconds

        check_tasks(config.tasks)
    model = load(config.model, config.device, config.dtype)
    cases, skipped = locatable(model, found, max(wanted, 1))
    _check_finite(model, cases)
    editor = resolve_editor(config, model)
    split = config.model_copy(update={"batch": batch_size(editor, config.batch)})
    return Setup(split, model, editor, filter, cases, skipped)


def resolve_editor(config: RunConfig, model: EditableModel) -> Editor:
    """The method with the model's preset, and over it the config's seed and options."""
    editor = choose_editor(config.method, model, config.options, config.preset)
    if "seed" in hyperparameters(editor) and "seed" not in config.options:
        return choose_editor(config.method, model, {**config.options, "seed": config.seed}, config.preset)
    return editor


def locatable(
    model: EditableModel, cases: Sequence[EditCase], wanted: int
) -> tuple[list[EditCase], list[tuple[str, str]]]:
    """The first `wanted` cases that can be edited, and (id, reason) of those before them that cannot."""
    kept: list[EditCase] = []
    skipped: list[tuple[str, str]] = []
    opposed = {late.id: early.id for early, late in contradictions([case.request for case in cases])}
    for case in cases:
        if len(kept) == wanted:
            break
        reason = _obstacle(model, case)
        if reason is None and case.request.id in opposed:
            reason = f"contradicts edit {opposed[case.request.id]}: the same prompt with another answer"
        if reason is None:
            kept.append(case)
        else:
            skipped.append((case.request.id, reason))
    if not kept:
        raise BadInput(f"none of the edits can be located in {model.name}; the first one: {skipped[0][1]}")
    return kept, skipped


def record(setup: Setup, run: RunDir, hook: WriteHook | None) -> Resolved:
    """Write the run's config.yaml, or check that it says what it said when the run began."""
    now = _resolved(setup)
    if not run.config.exists():
        with atomic(run.config, hook) as draft:
            draft.write_text(to_yaml(now), encoding="utf-8")
        return now
    began = read_resolved(run)
    for what, before, after in (
        ("the weights of the model", began.model_fingerprint, now.model_fingerprint),
        ("the edits", began.data_sha256, now.data_sha256),
        ("the hyperparameters of the method", began.editor, now.editor),
    ):
        if before != after:
            raise BadInput(
                f"{run.path} was begun with other values: {what} changed since, from {_short(before)} to "
                f"{_short(after)}. Restore them, or move the folder away to begin anew."
            )
    _warn_of_versions(run, began, now)
    return began


def _obstacle(model: EditableModel, case: EditCase) -> str | None:
    """Why the case cannot be edited, None if it can."""
    request = case.request
    try:
        subject_index(model.tokenizer, request.prompt, request.subject)
        ids, _ = encode_target(model.tokenizer, request.prompt, request.target_new)
    except BadInput as error:
        return str(error)
    if len(ids) > model.context:
        return f"prompt and target have {len(ids)} tokens; {model.name} reads {model.context}"
    return None


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
        data_sha256=_digest([asdict(replace(case, source="")) for case in setup.cases]),
        cases=len(setup.cases),
        versions=_versions(setup.model, setup.config.engine),
    )


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
