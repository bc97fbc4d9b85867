"""Models whose layers lie on two devices: edited and scored as on one, bit for bit.

The second device is the CPU as well, in disguise: its tensors say that they are elsewhere, and an operation on tensors
of both fails, as between two GPUs. Only moving is allowed, and picking rows by indices on the CPU.
"""

import copy
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

import errata
from errata.errors import BadInput
from errata.model.editable import EditableModel
from errata.model.loading import load
from errata.model.scoring import Row, tail_log_probs
from errata.testing import tiny_model
from errata.types import EditRequest

ELSEWHERE = torch.device("meta")
PICKS = {Tensor.__getitem__, Tensor.index_select}


class Elsewhere(Tensor):
    """A tensor of the second device."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return ELSEWHERE

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function is Tensor.to or function is Tensor.cpu:
            return _moved(function, args, kwargs)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        here = [tensor for tensor in tensors if not isinstance(tensor, Elsewhere) and tensor.dim()]
        picks = function in PICKS and isinstance(args[0], Elsewhere)
        if here and not picks and function is not Tensor.copy_:
            raise RuntimeError(f"{function} of tensors on two devices")
        if function is Tensor.copy_ and not isinstance(args[0], Elsewhere):
            return args[0].copy_(_home(args[1]))
        return super().__torch_function__(function, types, args, kwargs)


def _home(tensor: Tensor) -> Tensor:
    with torch._C.DisableTorchFunctionSubclass():
        return tensor.as_subclass(Tensor)


def _moved(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """`to` and `cpu`: the device that is named, or that of the tensor that is."""
    first, *rest = args
    named = [*rest, *kwargs.values(), *(["cpu"] if function is Tensor.cpu else [])]
    devices = [_device(value) for value in named if _device(value) is not None]
    goal = devices[0] if devices else first.device
    dtypes = [value if isinstance(value, torch.dtype) else value.dtype for value in named if _dtyped(value)]
    with torch._C.DisableTorchFunctionSubclass():
        found = first.to(dtypes[0]) if dtypes else first
        return found.as_subclass(Elsewhere if goal.type == ELSEWHERE.type else Tensor)


def _device(value: Any) -> torch.device | None:
    if isinstance(value, Tensor):
        return value.device
    return torch.device(value) if isinstance(value, str | torch.device) else None


def _dtyped(value: Any) -> bool:
    return isinstance(value, torch.dtype | Tensor)


class TwoDevices(TorchFunctionMode):
    """Makes tensors on the second device, and moves there."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function in (Tensor.to, Tensor.cpu) and isinstance(args[0], Tensor):
            return _moved(function, args, kwargs)
        elsewhere = _device(kwargs.get("device"))
        if elsewhere is not None and elsewhere.type == ELSEWHERE.type:
            made = function(*args, **{**kwargs, "device": "cpu"})
            return made.as_subclass(Elsewhere)
        return function(*args, **kwargs)


@pytest.fixture
def two_devices() -> Iterator[None]:
    with TwoDevices():
        yield


def spread(model: EditableModel, first: int) -> EditableModel:
    """A copy whose layers from `first` on, norm and head lie elsewhere; inputs are brought there as accelerate does."""
    network = copy.deepcopy(model.model)
    arch = model.arch
    paths = [f"{arch.layers}.{layer}" for layer in range(first, model.n_layers)]
    for path in [*paths, arch.norm, arch.head]:
        _put_elsewhere(network.get_submodule(path))
    forward = network.forward

    def answered_here(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        output.logits = output.logits.to("cpu")
        return output

    network.forward = answered_here  # type: ignore[method-assign]
    return EditableModel(network, model.tokenizer, "spread")


def _put_elsewhere(module: nn.Module) -> None:
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            moved = parameter.detach().as_subclass(Elsewhere)
            part._parameters[name] = nn.Parameter(moved, requires_grad=False)
    module.__dict__["forward"] = partial(_there, module.forward)


def _there(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    args, kwargs = tree_map(lambda leaf: leaf.to(ELSEWHERE) if isinstance(leaf, Tensor) else leaf, (args, kwargs))
    return forward(*args, **kwargs)


@pytest.fixture(scope="module")
def whole() -> EditableModel:
    return tiny_model("llama", layers=4, width=32)


REQUESTS = [
    EditRequest("1", "The capital of France is", "France", "Lyon", "Paris"),
    EditRequest("2", "The capital of Spain is", "Spain", "Toledo", "Madrid"),
]
CONTEXTS: dict[str, Any] = {"steps": 2, "contexts": [[3, 4]]}
METHODS: dict[str, dict[str, Any]] = {
    "rome": {"layer": 2, "ridge": 0.1, **CONTEXTS},
    "memit": {"layers": [1, 2], "moment_weight": 10, **CONTEXTS},
    "grace": {"layer": 2, **CONTEXTS},
    "ft": {"layer": 2, "steps": 2},
    "lora": {"steps": 2},
    "ike": {"layer": 2, "contexts": [[2, 2]]},
}


@pytest.mark.usefixtures("two_devices")
def test_two_devices_do_not_mix() -> None:
    here, there = torch.ones(2), torch.ones(2).to(ELSEWHERE)
    assert (
        there.device == ELSEWHERE
        and (there + 1).device == ELSEWHERE
        and torch.zeros(2, device=there.device) is not here
    )
    with pytest.raises(RuntimeError, match="two devices"):
        here + there
    with pytest.raises(RuntimeError, match="two devices"):
        here[torch.tensor([0]).to(ELSEWHERE)]
    assert torch.equal(here + there.to(here.device), torch.full((2,), 2.0)) and there[torch.tensor([1])].item() == 1
    with pytest.raises(RuntimeError, match="two devices"):
        tiny_model("llama").model.get_submodule("model.norm")(torch.ones(1, 32).to(ELSEWHERE))


@pytest.mark.usefixtures("two_devices")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("first", [1, 3])
def test_edits_and_scores_are_those_of_one_device(
    whole: EditableModel, tmp_path: Path, method: str, first: int
) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join("the capital of a country is a town in it " * 3 for _ in range(60)))
    found = []
    for model in (EditableModel(copy.deepcopy(whole.model), whole.tokenizer, "whole"), spread(whole, first)):
        session = errata.EditSession(model)
        errata.edit(session, REQUESTS, method, options=METHODS[method], corpus=str(corpus))
        rows = [Row((3, 4, 5, 6), 2), Row((3, 4, 7), 1)]
        scores = [tensor.tolist() for _, tensor in sorted(tail_log_probs(model, rows), key=lambda pair: pair[0])]
        found.append((session.fingerprint(), scores, model.generate([request.prompt for request in REQUESTS], 6)))
        session.undo()
    assert found[0] == found[1]


def test_all_gpus_together(world_model: Path) -> None:
    """Without a GPU that is the CPU; a part that does not fit is refused."""
    assert load(str(world_model), device="auto").device.type in ("cpu", "cuda")


@pytest.fixture
def world_model(whole: EditableModel, tmp_path: Path) -> Path:
    whole.model.save_pretrained(tmp_path / "model")
    whole.tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_what_does_not_fit_is_refused(world_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoModelForCausalLM

    given = AutoModelForCausalLM.from_pretrained

    def offloaded(path: str, **options: Any) -> Any:
        assert options.pop("device_map") == "auto"
        model = given(path, **options)
        model.model.layers[1].to("meta")
        return model

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", offloaded)
    with pytest.raises(BadInput, match="does not fit into the GPUs"):
        load(str(world_model), device="auto")
