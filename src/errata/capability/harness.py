"""Benchmarks by lm-evaluation-harness, one row for each item.

The harness does prompts, few-shot, filters and metrics, from versioned YAML: the package's tasks, and its
own by their names. `ErrataLM` answers its requests. Tasks are evaluated one by one, so that what an item
scores never depends on which other tasks were asked for, or were left after an interruption.

Where the rows of the package's own tasks come from: `capability/sources.py`.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from lm_eval.evaluator import evaluate as run_harness
from lm_eval.tasks import TaskManager

from errata.capability.extraction import UNPARSED
from errata.capability.fitting import Shortened, shorten
from errata.capability.items import digest
from errata.capability.local import ErrataLM, GeneratedText
from errata.capability.quiet import DOWNLOAD, offline, quiet
from errata.errors import BadInput
from errata.model.editable import EditableModel
from errata.records import Record
from errata.registry import expand_tasks, task_groups
from errata.registry import tasks as own_tasks
from errata.types import Engine

Progress = Callable[[str, int, int], None]
Sample = Mapping[str, Any]

TASKS = Path(str(files("errata.capability") / "tasks"))
RIGHT_OR_WRONG = ("exact_match", "acc", "em", "mc1", "pass@1", "score", "f1", "acc_norm")
"""Metrics that say whether one item is right, in the order of preference; a share counts as right above one half.
A task of the package that is graded, such as by overlap with a summary, gives "score", from 0 to 1."""
UNEDITED = "unedited"
"""The filter that decides for the unedited model, in a task whose paper read it by another rule."""
FEWSHOT_SEED = 1234
"""The harness' own default, so that sampled exemplars are those of its command line."""


def evaluate(
    model: EditableModel | ErrataLM,
    tasks: Sequence[str],
    limit: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    data_dir: str | None = None,
    *,
    edited: bool = True,
    chat: bool = False,
) -> dict[str, list[Record]]:
    """Rows by task. model: a model, or the engine that `answering` gave for one.

    limit: a random subset of so many items, the same for every model given the `seed`.
    A group of the package, such as errata_p1:paper, stands for its tasks; one of the harness, such as "mmlu", is one
    table over all its parts, and the limit is of the whole.
    data_dir: where the package's tasks read their rows, a folder, "atlas" or "hub" (the default).
    edited: whether the model is; it matters only where a paper's scripts read the unedited one by another rule.
    chat: ask through the model's chat template, exemplars as earlier turns, as the harness does by default.
    BadInput for an unknown task, one whose data is not on this machine, and one without right and wrong.
    """
    asked = _Asked(limit, seed, data_dir, edited, chat)
    with quiet(), offline():
        return {name: _evaluate(model, name, asked, progress) for name in expand_tasks(tasks)}


def check_tasks(tasks: Sequence[str], data_dir: str | None = None) -> dict[str, str]:
    """The hash of the items of each task of the package, by name.

    BadInput unless every task can be loaded: for a slip in a name to show before hours of editing.
    """
    with quiet(), offline():
        loaded = {name: _load(name, data_dir) for name in expand_tasks(tasks)}
    return {name: digest(parts[name].dataset["test"]) for name, parts in loaded.items() if name in own_tasks()}


def prompts(task: str, data_dir: str | None = None, count: int | None = None) -> list[tuple[str, str]]:
    """(prompt, right answer) of the first `count` items of a task of the package, exemplars and all."""
    with quiet(), offline():
        (loaded,) = _load(task, data_dir).values()
        shots = loaded.config.num_fewshot
        return [
            (str(loaded.fewshot_context(doc, num_fewshot=shots)), gold_of(loaded, doc))
            for doc in loaded.eval_docs[:count]
        ]


def question(task: str, item: str, data_dir: str | None = None) -> str | None:
    """What an item of a task of the package asks, without exemplars; None if there is no such item."""
    with quiet(), offline():
        (loaded,) = _load(task, data_dir).values()
        return next((str(loaded.doc_to_text(doc)).strip() for doc in loaded.eval_docs if str(doc["id"]) == item), None)


@contextmanager
def answering(model: EditableModel, engine: Engine, **kept: Any) -> Iterator[ErrataLM]:
    """What answers for the model as it is now, until the end of the block: this process ("local"), or "vllm".

    kept: `prefix_cache` and `lower` of `ErrataLM`, for the first.
    """
    if engine == "local":
        yield ErrataLM(model, **kept)
        return
    from errata.capability.vllm import served

    with served(model) as lm:
        yield lm


@dataclass(frozen=True)
class _Asked:
    """What `evaluate` was asked for, besides the tasks."""

    limit: int | None
    seed: int
    data_dir: str | None
    edited: bool
    chat: bool


def _evaluate(model: EditableModel | ErrataLM, name: str, asked: _Asked, progress: Progress | None) -> list[Record]:
    parts = _load(name, asked.data_dir)
    chosen = _choose(name, {part: len(task.eval_docs) for part, task in parts.items()}, asked.limit, asked.seed)
    parts = {part: parts[part] for part in chosen}
    for task in parts.values():
        # Anew each time: the sampler's state moves on with every item it serves.
        task.set_fewshot_seed(FEWSHOT_SEED)
    lm = ErrataLM(model) if isinstance(model, EditableModel) else model
    lm.advance = _advance(name, parts, chosen, progress)
    shortened = {part: shorten(task, lm.length, lm.editable.context) for part, task in parts.items()}
    # Not simple_evaluate: it seeds the caller's random generators and calls git and pip for its report.
    samples = chosen if asked.limit is not None else None
    results = run_harness(
        lm,
        {"tasks": parts, "groups": {}},
        samples=samples,
        bootstrap_iters=0,
        log_samples=True,
        apply_chat_template=asked.chat,
        fewshot_as_multiturn=asked.chat,
    )
    return [
        _record(name, part, parts[part], _deciding_first(samples, asked.edited), shortened[part])
        for part in parts
        for samples in _by_item(results["samples"][part])
    ]


# Tasks


@cache
def _manager(include_defaults: bool, data_dir: str | None) -> TaskManager:
    metadata = None if data_dir is None else {"data_dir": data_dir}
    return TaskManager(include_path=str(TASKS), include_defaults=include_defaults, metadata=metadata)


def _load(name: str, data_dir: str | None = None) -> dict[str, Any]:
    """The task, or the tasks of a group of the harness, by name."""
    own = own_tasks()
    if name not in own and (near := get_close_matches(name, [*own, *task_groups()], n=1, cutoff=0.8)):
        # A slip in one of our names should not cost reading the thousands of the harness.
        raise BadInput(f"no task is called {name!r}; did you mean {near[0]}? See: errata list tasks")
    manager = _manager(False, data_dir) if name in own else _manager(True, None)
    if name not in manager.all_tasks:
        near = get_close_matches(name, manager.all_tasks, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "see: errata list tasks, lm_eval ls tasks"
        raise BadInput(f"no task is called {name!r}; {hint}")
    try:
        parts: dict[str, Any] = manager.load([name])["tasks"]
    except BadInput:
        raise
    except (OSError, ImportError, ValueError) as error:
        raise BadInput(
            f"the task {name} cannot be loaded: {str(error).strip().splitlines()[0]}. If its data set is not on this "
            f"machine, allow the download once: {DOWNLOAD}=1"
        ) from error
    for task in parts.values():
        if task.config.num_fewshot is None:
            task.set_config(key="num_fewshot", value=0)
    return parts


def _choose(name: str, sizes: Mapping[str, int], limit: int | None, seed: int) -> dict[str, list[int]]:
    """Ascending indices of the items asked of each part that has any."""
    everything = [(part, index) for part, size in sizes.items() for index in range(size)]
    few = limit is not None and limit < len(everything)
    asked = Random(f"{seed}-{name}").sample(everything, limit or 0) if few else everything
    chosen: dict[str, list[int]] = {}
    for part, index in sorted(asked):
        chosen.setdefault(part, []).append(index)
    return chosen


def _advance(
    name: str, parts: Mapping[str, Any], chosen: Mapping[str, list[int]], progress: Progress | None
) -> Callable[[int], None]:
    """Counts answered requests, of which an item with choices has several."""
    done, of = 0, sum(_requests(task, chosen[part]) for part, task in parts.items())

    def advance(answered: int) -> None:
        nonlocal done
        done += answered
        if progress:
            progress(name, done, max(of, done))

    return advance


def _requests(task: Any, indices: Sequence[int]) -> int:
    if task.OUTPUT_TYPE != "multiple_choice":
        return len(indices)
    docs = task.eval_docs
    return sum(len(task.doc_to_choice(docs[index])) for index in indices)


# Rows


def _by_item(samples: Sequence[Sample]) -> list[list[Sample]]:
    """The harness gives one sample for each filter; the samples of an item, in the order of the filters."""
    items: dict[int, list[Sample]] = {}
    for sample in samples:
        items.setdefault(sample["doc_id"], []).append(sample)
    return [items[index] for index in sorted(items)]


def _deciding_first(samples: list[Sample], edited: bool) -> list[Sample]:
    """The reading that decides comes first: the task's first, or that for the unedited model."""
    return samples if edited else sorted(samples, key=lambda sample: sample["filter"] != UNEDITED)


def _record(table: str, part: str, task: Any, samples: Sequence[Sample], shortened: Mapping[str, Shortened]) -> Record:
    """The row of one item; the task's first filter decides, the verdicts of the others are in `extra`."""
    first = samples[0]
    given = [response[0] for response in first["resps"]]
    invalid = not all(map(_is_finite, given))
    output, predicted, gold = _answer(task, first)
    return Record(
        table=table,
        item=_item(table, part, first),
        correct=_is_right(table, first, invalid),
        parsed=not invalid and predicted is not None,
        empty=not invalid and not output.strip(),
        invalid=invalid,
        output="" if invalid and task.OUTPUT_TYPE == "multiple_choice" else output,
        predicted=None if invalid else predicted,
        gold=gold,
        clean_stop=given[0].clean_stop if isinstance(given[0], GeneratedText) else None,
        extra={
            **({"kind": first["doc"]["kind"]} if first["doc"].get("kind") else {}),
            **({"part": part} if part != table else {}),
            **_graded(table, part, first, invalid),
            **{f"{name}_{s['filter']}": value for s in samples[1:] for name, value in _beside(table, part, s, invalid)},
            **_how_shortened(shortened.get(first["arguments"][0][0])),
            "version": str(task.VERSION),
        },
    )


def _beside(table: str, part: str, sample: Sample, invalid: bool) -> Iterable[tuple[str, Any]]:
    """What the row keeps of a reading that does not decide."""
    return {"correct": _is_right(table, sample, invalid), **_graded(table, part, sample, invalid)}.items()


def _is_right(table: str, sample: Sample, invalid: bool) -> bool:
    return not invalid and _score(table, sample) > 0.5


def _graded(table: str, part: str, sample: Sample, invalid: bool) -> dict[str, float]:
    """The score where it is between right and wrong, and what a task of the package counts beside it, such as names.

    An invalid item scores nothing, and keeps its weight.
    """
    own = sample["metrics"] if part in own_tasks() else ()
    counted = {name: float(sample[name]) for name in own if name not in RIGHT_OR_WRONG}
    if invalid:
        return {name: value for name, value in counted.items() if name == "weight"}
    score = _score(table, sample)
    return {**({"score": score} if score not in (0.0, 1.0) else {}), **counted}


def _how_shortened(done: Shortened | None) -> dict[str, Any]:
    if done is None:
        return {}
    return {"dropped_exemplars": done.dropped, **({"cut": True} if done.cut else {})}


def _is_finite(response: Any) -> bool:
    if isinstance(response, str):
        return getattr(response, "finite", True)
    return math.isfinite(response[0] if isinstance(response, tuple) else response)


def _score(table: str, sample: Sample) -> float:
    metric = next((name for name in RIGHT_OR_WRONG if name in sample["metrics"]), None)
    if metric is None:
        raise BadInput(
            f"the task {table} does not say whether an item is right (its metrics: {', '.join(sample['metrics'])}); "
            f"choose one with any of {', '.join(RIGHT_OR_WRONG)}"
        )
    value = sample[metric]
    return float(np.mean(value))


def _answer(task: Any, sample: Sample) -> tuple[str, str | None, str]:
    """(raw output, answer read from it, gold)."""
    if task.OUTPUT_TYPE == "multiple_choice":
        return _choice(task, sample)
    if task.OUTPUT_TYPE == "generate_until":
        filtered = sample["filtered_resps"][0]
        answer = str(filtered if isinstance(filtered, str) else filtered[0]).strip()
        found = answer not in ("", UNPARSED)
        return str(sample["resps"][0][0]), answer if found else None, _text(sample["target"])
    # A single likelihood: the answer is right if greedy decoding gives it.
    greedy = bool(sample["resps"][0][0][1]) if isinstance(sample["resps"][0][0], tuple) else False
    gold = _text(sample["target"]).strip()
    return (gold if greedy else "(other)"), (gold if greedy else "(other)"), gold


def gold_of(task: Any, doc: Sample) -> str:
    """The right answer to an item, in words where it has options."""
    target = task.doc_to_target(doc)
    if task.OUTPUT_TYPE == "multiple_choice" and isinstance(target, int):
        return str(task.doc_to_choice(doc)[target])
    return _text(target)


def _choice(task: Any, sample: Sample) -> tuple[str, str, str]:
    choices = [str(choice).strip() for choice in task.doc_to_choice(sample["doc"])]
    likelihoods = [response[0][0] for response in sample["resps"][: len(choices)]]
    predicted = choices[int(np.argmax(likelihoods))]
    target = task.doc_to_text(sample["doc"]) if task.multiple_input else sample["target"]
    target = target[0] if isinstance(target, list) else target
    return predicted, predicted, choices[target] if isinstance(target, int) else str(target).strip()


def _text(target: Any) -> str:
    return str(target[0] if isinstance(target, list) and target else target)


def _item(table: str, part: str, sample: Sample) -> str:
    """The id of an item of the package; elsewhere ids need not be unique, and the place in the data set is."""
    name = str(sample["doc"]["id"] if part in own_tasks() else sample["doc_id"])
    return name if part == table else f"{part}/{name}"
