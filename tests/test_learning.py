"""Training: the same bits whatever interrupts it, the best of what was seen, and nothing on edited models."""

import multiprocessing
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from filelock import FileLock
from torch import Tensor

import errata.training as training
from errata.artifacts.store import Artifacts, Learned
from errata.conformance import target_scores
from errata.data.cases import read_cases
from errata.editors.mend import Mend
from errata.editors.rome import Rome
from errata.errors import BadInput, Diverged, MissingArtifact
from errata.model.editable import EditableModel
from errata.testing import tiny_model
from errata.training import train
from errata.types import EditCase

MEND = Mend((1, 2), rank=8, steps=6, cases_per_step=3, lr=1e-3, step_size=1e-2, step_size_lr=1e-3, validate_every=2)


def cases(count: int = 20) -> list[EditCase]:
    return read_cases("atlas", count)


def model() -> EditableModel:
    return tiny_model("llama", layers=3, width=16)


def same(a: Learned, b: Learned) -> bool:
    return (
        a.tensors.keys() == b.tensors.keys()
        and all(torch.equal(a.tensors[name], b.tensors[name]) for name in a.tensors)
        and a.provenance == b.provenance
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Learned:
    return train(model(), cases(), MEND, artifacts=Artifacts(tmp_path_factory.mktemp("undisturbed")))


def test_training_lowers_the_loss_and_the_editor_finds_it(tmp_path: Path) -> None:
    store, subject = Artifacts(tmp_path), model()
    editor = replace(MEND, steps=40, validate_every=10, edit_weight=1.0, locality_weight=0.1)
    with pytest.raises(MissingArtifact, match="errata train mend --model tiny-llama --edits FILE"):
        editor.edit(subject, [cases(1)[0].request], {}, store)
    learned = train(subject, cases(), editor, artifacts=store, source="atlas")
    history = learned.provenance["history"]
    assert [row["step"] for row in history] == [0, 10, 20, 30, 40]
    assert min(row["loss"] for row in history) == learned.provenance["validation"]["loss"] < history[0]["loss"] - 0.1
    request = cases()[-1].request
    update = editor.edit(model(), [request], {}, Artifacts(tmp_path)).update
    before = target_scores(subject, [request])
    with subject.overlay(update):
        assert target_scores(subject, [request]) > before


def test_provenance_tells_what_it_comes_from(undisturbed: Learned) -> None:
    told = undisturbed.provenance
    assert told["fingerprint"] == model().fingerprint() and told["options"]["lr"] == 1e-3
    assert (told["trained"], told["validated"], told["steps"], told["seed"]) == (18, 2, 6, 0)
    assert told["validation"] in told["history"] and told["torch"]


def test_the_tensors_kept_are_those_of_the_lowest_validation_loss(undisturbed: Learned) -> None:
    rng = Random("0-validation")
    with torch.no_grad():
        loss = MEND.losses(model(), undisturbed.tensors, cases()[-2:], rng)["loss"].mean()
    assert float(loss) == pytest.approx(undisturbed.provenance["validation"]["loss"], rel=1e-5)


def test_the_seed_decides(tmp_path: Path, undisturbed: Learned) -> None:
    other = train(model(), cases(), MEND, seed=1, artifacts=Artifacts(tmp_path))
    assert not torch.equal(other.tensors["step_sizes"], undisturbed.tensors["step_sizes"])


def test_ctrl_c_loses_nothing(tmp_path: Path, undisturbed: Learned) -> None:
    def press(what: str, done: int, total: int) -> None:
        if what == "training mend" and done < total:
            raise KeyboardInterrupt

    steps = []
    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            train(model(), cases(), MEND, artifacts=Artifacts(tmp_path), progress=press)
        (checkpoint,) = (tmp_path / "training").glob("*.safetensors")
        steps.append(training._read(checkpoint, torch.device("cpu")).step)
    assert steps == [1, 2, 3, 4, 5]
    assert same(train(model(), cases(), MEND, artifacts=Artifacts(tmp_path)), undisturbed)
    assert not list((tmp_path / "training").glob("*.safetensors"))


def test_ctrl_c_within_a_step_takes_that_step_again(
    tmp_path: Path, undisturbed: Learned, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, original = [], training.adam

    def interrupted(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        calls.append(1)
        if len(calls) == 30:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "adam", interrupted)
        train(model(), cases(), MEND, artifacts=Artifacts(tmp_path))
    assert same(train(model(), cases(), MEND, artifacts=Artifacts(tmp_path)), undisturbed)


def train_and_die(folder: Path, step: int) -> None:
    """In a process of its own: killed without notice after a step, with a checkpoint after each."""
    torch.set_num_threads(1)
    training.SAVE_EVERY = -1.0

    def kill(what: str, done: int, total: int) -> None:
        if what == "training mend" and done == step:
            os.kill(os.getpid(), signal.SIGKILL)

    train(model(), cases(), MEND, artifacts=Artifacts(folder), progress=kill)


def test_killed_and_started_again(tmp_path: Path, undisturbed: Learned) -> None:
    process = multiprocessing.get_context("spawn").Process(target=train_and_die, args=(tmp_path, 4))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    (checkpoint,) = (tmp_path / "training").glob("*.safetensors")
    assert training._read(checkpoint, torch.device("cpu")).step == 3
    assert same(train(model(), cases(), MEND, artifacts=Artifacts(tmp_path)), undisturbed)


def test_what_is_finished_is_not_done_again(tmp_path: Path, undisturbed: Learned) -> None:
    train(model(), cases(), MEND, artifacts=Artifacts(tmp_path))

    def refuse(what: str, done: int, total: int) -> None:
        raise AssertionError(what)

    assert same(train(model(), cases(), MEND, artifacts=Artifacts(tmp_path), progress=refuse), undisturbed)
    with pytest.raises(AssertionError, match="gradients"):
        train(model(), cases(19), MEND, artifacts=Artifacts(tmp_path), progress=refuse)


def test_patience_ends_it(tmp_path: Path) -> None:
    hopeless = replace(MEND, steps=50, patience=4, edit_weight=0.0)  # the identity drifts least
    learned = train(model(), cases(), hopeless, artifacts=Artifacts(tmp_path))
    best = learned.provenance["validation"]["step"]
    assert learned.provenance["steps"] == best + 4 < 50


def test_a_loss_that_is_not_finite_is_told(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"smaller learning rate.*--set lr=0.0001"):
        train(model(), cases(), replace(MEND, step_size=1e30), artifacts=Artifacts(tmp_path))


def test_an_edited_model_is_refused(tmp_path: Path) -> None:
    subject, store = model(), Artifacts(tmp_path)
    store.bind(subject)
    subject.write(subject.site(2), subject.weight(subject.site(2)) + 1)
    with pytest.raises(BadInput, match="trained on the unedited model"):
        train(subject, cases(), MEND, artifacts=store)


def test_a_method_that_learns_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="rome learns nothing beforehand"):
        train(model(), cases(), Rome(1), artifacts=Artifacts(tmp_path))


@pytest.mark.parametrize("count", [0, 1])
def test_one_edit_is_too_few(tmp_path: Path, count: int) -> None:
    with pytest.raises(BadInput, match="two edits at least"):
        train(model(), cases()[:count], MEND, artifacts=Artifacts(tmp_path))


def test_edits_that_the_model_cannot_read_are_left_out(tmp_path: Path, undisturbed: Learned) -> None:
    few = cases()
    long = replace(few[0], paraphrases=("word " * 300,))
    assert same(train(model(), [long, *few], MEND, artifacts=Artifacts(tmp_path)), undisturbed)


def test_two_processes_do_not_train_the_same(tmp_path: Path) -> None:
    held: list[FileLock] = []

    def take(what: str, done: int, total: int) -> None:
        if not held:
            (path,) = (tmp_path / "training").glob("*.lock")
            held.append(FileLock(path))
            with pytest.raises(BadInput, match="another process trains mend"):
                train(model(), cases(), MEND, artifacts=Artifacts(tmp_path))

    train(model(), cases(), MEND, artifacts=Artifacts(tmp_path), progress=take)
    assert held


def test_every_epoch_has_every_edit_once_in_an_order_of_its_own() -> None:
    few = cases(7)
    taken = [case.request.id for step in range(14) for case in training._portion(few, step, 3, 0)]
    epochs: Sequence[list[str]] = [taken[start : start + 7] for start in range(0, 42, 7)]
    assert all(sorted(epoch) == sorted(case.request.id for case in few) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6


def test_the_gradient_is_clipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    original = training.adam

    def note(value: Tensor, gradient: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
        norms.append(float(gradient.norm()))
        return original(value, gradient, *rest)

    monkeypatch.setattr(training, "adam", note)
    train(model(), cases(), replace(MEND, steps=1, clip=1e-3), artifacts=Artifacts(tmp_path))
    assert sum(norm**2 for norm in norms) ** 0.5 == pytest.approx(1e-3, rel=1e-2)


def test_losses_are_told_only_of_the_edits_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learned: set[str] = set()
    validated: set[str] = set()
    original = Mend.losses

    def note(
        self: Mend, subject: EditableModel, tensors: Mapping[str, Tensor], some: Sequence[EditCase], rng: Random
    ) -> dict[str, Tensor]:
        (learned if torch.is_grad_enabled() else validated).update(case.request.id for case in some)
        return original(self, subject, tensors, some, rng)

    monkeypatch.setattr(Mend, "losses", note)
    train(model(), cases(), MEND, artifacts=Artifacts(tmp_path))
    assert validated == {case.request.id for case in cases()[-2:]}
    assert learned and not learned & validated
