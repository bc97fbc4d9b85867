"""Every method keeps to the protocol, on every family; and the check notices methods that do not."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch

from editors.conftest import Prepared
from errata.artifacts.store import Artifacts
from errata.conformance import check_editor
from errata.editors.alphaedit import AlphaEdit
from errata.editors.base import EditResult, State
from errata.editors.bases.spreading import Spreading
from errata.editors.emmet import Emmet
from errata.editors.grace import Grace
from errata.editors.ike import Ike
from errata.editors.memit import Memit
from errata.editors.pmet import Pmet
from errata.editors.r_rome import RRome
from errata.editors.rome import Rome
from errata.model.architecture import ARCHITECTURES
from errata.model.editable import EditableModel
from errata.types import EditRequest, Progress
from errata.update.codebook import Codebook
from errata.update.delta import WeightDelta
from errata.update.patch import Patch

STRONG: dict[str, Any] = {"steps": 20, "lr": 0.1, "clamp": 30.0, "weight_decay": 0.0, "kl": 0.0, "ridge": 1e-2}
ROME = Rome(0, contexts=((4, 2),), **STRONG)
R_ROME = RRome(0, contexts=((4, 2),), **STRONG)
MEMIT = Memit((0, 1), contexts=((4, 2),), moment_weight=1, **STRONG)
WITH_HISTORY = replace(MEMIT, history=True)
EMMET = Emmet((0, 1), contexts=((4, 2),), **STRONG)
PMET = Pmet((0, 1), contexts=((4, 2),), moment_weight=1, **STRONG)
WITHOUT_RIDGE = {name: value for name, value in STRONG.items() if name != "ridge"}
ALPHAEDIT = AlphaEdit((0, 1), contexts=((4, 2),), l2=1e-3, trace_share=0.5, **WITHOUT_RIDGE)
GRACE = Grace(0, steps=20, lr=0.1, contexts=((4, 4),))
IKE = Ike(0, contexts=((4, 4),))
METHODS = {
    "rome": ROME,
    "r_rome": R_ROME,
    "memit": MEMIT,
    "history": WITH_HISTORY,
    "emmet": EMMET,
    "pmet": PMET,
    "alphaedit": ALPHAEDIT,
    "grace": GRACE,
    "grace, last token only": replace(GRACE, last_only=True),
    "ike": IKE,
}


@pytest.mark.parametrize("editor", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("family", ARCHITECTURES)
def test_methods_conform(prepared: Prepared, editor: Any, family: str) -> None:
    layers = 2 if family == "gpt_neo" else 3  # it alternates two kinds of attention
    if isinstance(editor, Spreading):
        editor = replace(editor, layers=tuple(range(layers - 1)))
    check_editor(editor, *prepared(family, layers=layers))


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "opt"])
def test_the_released_faults_of_pmet_keep_to_the_protocol(prepared: Prepared, family: str) -> None:
    # What is misplaced need not raise the target's probability.
    check_editor(replace(PMET, left_padding=True, target_apart=True), *prepared(family), effect=False)


def check_broken_memory(prepared: Prepared, fault: Callable[[Codebook], Patch], broken: str) -> None:
    @dataclass(frozen=True)
    class Faulty(Grace):
        name: ClassVar[str] = "faulty"

        def edit(self, *args: Any) -> EditResult:
            result = super().edit(*args)
            return replace(result, update=fault(result.update))

    with pytest.raises(AssertionError, match=broken):
        check_editor(Faulty(0, steps=20, lr=0.1, contexts=((4, 4),)), *prepared("gpt2", layers=2))


def test_faults_of_memories_are_noticed(prepared: Prepared) -> None:
    check_broken_memory(prepared, lambda book: book.mapped(lambda tensor: tensor * torch.nan), "not finite")
    empty = {"keys": torch.empty(0, 64), "values": torch.empty(0, 16), "radii": torch.empty(0), "labels": ()}
    check_broken_memory(prepared, lambda book: replace(book, **empty), "0 entries for 1")
    check_broken_memory(prepared, lambda book: replace(book, values=0 * book.values), "not more probable")


@dataclass(frozen=True)
class Broken(Rome):
    """ROME with one fault."""

    name: ClassVar[str] = "broken"
    fault: Callable[[EditableModel, EditResult], EditResult] = lambda model, result: result

    def edit(
        self,
        model: EditableModel,
        requests: Sequence[EditRequest],
        state: State,
        artifacts: Artifacts,
        progress: Progress | None = None,
    ) -> EditResult:
        return self.fault(model, super().edit(model, requests, state, artifacts, progress))


def writes_weights(model: EditableModel, result: EditResult) -> EditResult:
    for site in result.update.sites:
        model.write(site, model.weight(site) + result.update.dense(site))
    return result


def draws_globally(model: EditableModel, result: EditResult) -> EditResult:
    torch.rand(1)
    return result


def leaves_a_hook(model: EditableModel, result: EditResult) -> EditResult:
    model.layer(0).register_forward_hook(lambda *_: None)
    return result


def does_nothing(model: EditableModel, result: EditResult) -> EditResult:
    return replace(result, update=WeightDelta({s: torch.zeros_like(model.weight(s)) for s in result.update.sites}))


def is_not_finite(model: EditableModel, result: EditResult) -> EditResult:
    return replace(result, update=WeightDelta({s: model.weight(s) * torch.nan for s in result.update.sites}))


def loses_details(model: EditableModel, result: EditResult) -> EditResult:
    return replace(result, details=())


@pytest.mark.parametrize(
    ("fault", "broken"),
    [
        (writes_weights, "changed the weights"),
        (draws_globally, "changed global random numbers"),
        (leaves_a_hook, "changed hooks"),
        (does_nothing, "not more probable"),
        (is_not_finite, "not finite"),
        (loses_details, "details"),
    ],
)
def test_faults_are_noticed(prepared: Prepared, fault: Any, broken: str) -> None:
    editor = Broken(0, contexts=((4, 2),), **STRONG, fault=fault)
    with pytest.raises(AssertionError, match=broken):
        check_editor(editor, *prepared("gpt2", layers=2))


def test_hidden_memory_is_noticed(prepared: Prepared) -> None:
    model, artifacts = prepared("gpt2", layers=2)
    seen: list[int] = []

    def grows(model: EditableModel, result: EditResult) -> EditResult:
        seen.append(1)
        return replace(result, update=WeightDelta({s: result.update.dense(s) * len(seen) for s in result.update.sites}))

    with pytest.raises(AssertionError, match="in another way"):
        check_editor(Broken(0, contexts=((4, 2),), **STRONG, fault=grows), model, artifacts)
