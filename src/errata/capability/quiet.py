"""lm-evaluation-harness and `datasets` without their chatter, and without the network unless it was asked for."""

import logging
import os
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import datasets  # type: ignore[import-untyped]
import huggingface_hub.constants
import lm_eval.api.task

DOWNLOAD = "ERRATA_DOWNLOAD"
"""Set to 1, this variable lets data sets be fetched."""


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars, only errors in the log, and Python's random state as it was, until the end of the block."""
    log, bars = logging.getLogger("lm_eval"), datasets.utils.logging.is_progress_bar_enabled()
    # The harness draws names for tasks that need none.
    level, state = log.level, random.getstate()
    log.setLevel(logging.ERROR)
    datasets.disable_progress_bar()
    try:
        # The harness has no switch for this one.
        with _set(lm_eval.api.task, "tqdm", _no_bar):
            yield
    finally:
        log.setLevel(level)
        random.setstate(state)
        if bars:
            datasets.enable_progress_bar()


@contextmanager
def offline() -> Iterator[None]:
    """As with HF_HUB_OFFLINE=1 until the end of the block, unless ERRATA_DOWNLOAD=1 allows a download."""
    if os.environ.get(DOWNLOAD) == "1":
        yield
        return
    # Both libraries read the environment once, when imported; these are what they look at afterwards.
    with _set(huggingface_hub.constants, "HF_HUB_OFFLINE", True), _set(datasets.config, "HF_HUB_OFFLINE", True):
        yield


def _no_bar(iterable: Iterable[Any], **_: Any) -> Iterable[Any]:
    return iterable


@contextmanager
def _set(module: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
