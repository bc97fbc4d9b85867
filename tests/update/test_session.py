"""The session: bit-identical undo, exact folders, and nothing half done."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoModelForCausalLM

from errata.errors import BadInput, Diverged
from errata.model.architecture import ARCHITECTURES
from errata.model.editable import EditableModel
from errata.testing import tiny_model
from errata.types import EditRequest
from errata.update import session as session_module
from errata.update.delta import LowRank, WeightDelta
from errata.update.session import EditSession

dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)


def request(key: str) -> EditRequest:
    return EditRequest(key, "The capital of France is", "France", "Lyon", "Paris")


def low_rank(model: EditableModel, seed: int, size: float = 0.01, layers: Sequence[int] = (0, 1)) -> WeightDelta:
    """Factors as methods make them: some are transposed views."""
    generator = torch.Generator().manual_seed(seed)
    d_out, d_in = model.weight(model.site(0)).shape
    return WeightDelta(
        {
            model.site(layer): LowRank(
                size * torch.randn(3, d_out, generator=generator).T, torch.randn(3, d_in, generator=generator)
            )
            for layer in layers
        }
    )


def dense(model: EditableModel, seed: int, size: float = 0.01) -> WeightDelta:
    generator = torch.Generator().manual_seed(seed)
    return WeightDelta({model.site(1): size * torch.randn(model.weight(model.site(1)).shape, generator=generator)})


@dtypes
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_undo_is_as_if_it_had_never_been(family: str, dtype: torch.dtype) -> None:
    model, other = tiny_model(family, dtype=dtype), tiny_model(family, dtype=dtype)
    session, untouched = EditSession(model), EditSession(other)
    start = session.fingerprint()
    updates = [low_rank(model, 1), dense(model, 2), low_rank(model, 3, layers=(1,)), low_rank(model, 4)]
    for update in updates:
        session.apply(update)
    assert session.fingerprint() != start
    session.undo(2)
    session.undo()
    for update in (updates[0], updates[2]):
        untouched.apply(update)
    assert session.fingerprint() == untouched.fingerprint()
    assert [applied.id for applied in session.applied] == [1, 3]
    session.undo(1)
    session.undo(3)
    assert session.fingerprint() == start
    assert session.applied == []


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.one_of(st.integers(0, 30), st.none()), max_size=10))
def test_any_history_equals_applying_what_remains(history: list[int | None]) -> None:
    """An int applies an update with that seed, None undoes the middle one in force."""
    model = tiny_model("gpt2", width=16, dtype=torch.bfloat16)
    session = EditSession(model)
    remaining: list[tuple[int, WeightDelta]] = []
    for step in history:
        if step is not None:
            update = low_rank(model, step)
            remaining.append((session.apply(update).id, update))
        elif remaining:
            edit, _ = remaining.pop(len(remaining) // 2)
            session.undo(edit)
    fresh = EditSession(tiny_model("gpt2", width=16, dtype=torch.bfloat16))
    for _, update in remaining:
        fresh.apply(update)
    assert session.fingerprint() == fresh.fingerprint()
    assert [applied.id for applied in session.applied] == [edit for edit, _ in remaining]


def test_bf16_keeps_a_float32_master() -> None:
    """Two hundred updates far below bf16's resolution add up; rounding one by one would lose them."""
    model = tiny_model("llama", dtype=torch.bfloat16)
    site = model.site(1)
    base, small = model.weight(site).float().clone(), dense(model, 7, size=2e-5)
    rounded = model.weight(site).clone()
    session = EditSession(model)
    for _ in range(200):
        session.apply(small)
        rounded += small.dense(site).to(torch.bfloat16)
    total = 200 * small.dense(site)
    lost = (model.weight(site).float() - base - total).norm() / total.norm()
    lost_by_rounding = (rounded.float() - base - total).norm() / total.norm()
    assert lost < 0.3 < 0.6 < lost_by_rounding
    assert torch.equal(model.weight(site), (base + sum_in_order(small.dense(site), 200, base) - base).bfloat16())


def sum_in_order(change: Tensor, times: int, base: Tensor) -> Tensor:
    for _ in range(times):
        base = base + change
    return base


def test_applied_says_what_was_done() -> None:
    model = tiny_model("llama")
    norm = float(model.weight(model.site(0)).norm())
    update = low_rank(model, 1)
    session = EditSession(model)
    applied = session.apply(update, [request("a")], "rome", {"layer": 1})
    assert (applied.id, applied.method, applied.options) == (1, "rome", {"layer": 1})
    assert applied.requests == (request("a"),)
    site = model.site(0)
    assert applied.norms[site] == pytest.approx(float(update.dense(site).norm()), rel=1e-5)
    assert applied.relative_norms[site] == pytest.approx(applied.norms[site] / norm, rel=1e-5)
    session.undo()
    assert session.apply(update).id == 2, "an id was used twice"


def test_apply_adds_once_whatever_came_before(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    session = EditSession(model)
    made: list[str] = []
    real = WeightDelta.dense
    monkeypatch.setattr(WeightDelta, "dense", lambda self, site: (made.append(site), real(self, site))[1])
    for seed in range(5):
        session.apply(low_rank(model, seed))
    assert len(made) == 5 * 2


def test_the_session_owns_what_it_was_given() -> None:
    model = tiny_model("llama")
    session, update = EditSession(model), dense(model, 1)
    session.apply(update)
    edited = session.fingerprint()
    update.sites[model.site(1)].zero_()  # type: ignore[union-attr]
    session.apply(low_rank(model, 2))
    session.undo()
    assert session.fingerprint() == edited


@dtypes
def test_divergence_leaves_the_model_as_it_was(dtype: torch.dtype) -> None:
    model = tiny_model("llama", dtype=dtype)
    session = EditSession(model)
    session.apply(low_rank(model, 1))
    before = session.fingerprint()
    bad = low_rank(model, 2)
    # The first site is fine: it must not be written either.
    bad = WeightDelta({**bad.sites, model.site(1): torch.full((32, 64), torch.inf)})
    with pytest.raises(Diverged, match=r"edit 2 makes model\.layers\.1\.mlp\.down_proj of tiny-llama"):
        session.apply(bad)
    assert session.fingerprint() == before
    assert len(session.applied) == 1
    session.undo()
    session.apply(low_rank(model, 1))
    assert session.fingerprint() == before


def test_what_overflows_only_in_half_precision_diverges() -> None:
    model = tiny_model("llama", dtype=torch.float16)
    with pytest.raises(Diverged):
        EditSession(model).apply(WeightDelta({model.site(0): torch.full((32, 64), 1e5)}))
    EditSession(tiny_model("llama")).apply(WeightDelta({model.site(0): torch.full((32, 64), 1e5)}))


def test_sites_that_cannot_be_edited() -> None:
    model = tiny_model("gpt2")
    session, before = EditSession(model), model.fingerprint()
    rows = model.weight("lm_head").shape
    for tied in ("lm_head", "transformer.wte"):
        with pytest.raises(BadInput, match="the same tensor as"):
            session.apply(WeightDelta({tied: torch.ones(rows)}))
    with pytest.raises(BadInput, match=r"has the shape \(64, 32\); the matrix is \(32, 128\)"):
        session.apply(WeightDelta({model.site(0): torch.ones(64, 32)}))
    with pytest.raises(BadInput, match="has no module"):
        session.apply(WeightDelta({"transformer.h.9.mlp.c_proj": torch.ones(2, 2)}))
    assert model.fingerprint() == before and not session.applied


def test_untied_heads_can_be_edited() -> None:
    model = tiny_model("llama")
    session, before = EditSession(model), model.fingerprint()
    session.apply(WeightDelta({"lm_head": torch.ones(model.weight("lm_head").shape)}))
    session.undo()
    assert model.fingerprint() == before


def test_undo_of_what_is_not_in_force() -> None:
    model = tiny_model("llama")
    session = EditSession(model)
    with pytest.raises(BadInput, match="in force: none"):
        session.undo()
    session.apply(dense(model, 1))
    with pytest.raises(BadInput, match="edit 7 is not in force in this session; in force: 1"):
        session.undo(7)


def test_one_request_of_a_batch_is_dropped_by_solving_again() -> None:
    model, plain = tiny_model("llama"), tiny_model("llama")
    session, expected = EditSession(model), EditSession(plain)
    first, batch, again, last = low_rank(model, 1), low_rank(model, 2), low_rank(model, 5, layers=(0,)), dense(model, 3)
    session.apply(first)
    before_batch = session.fingerprint()
    session.apply(batch, [request("a"), request("b"), request("c")], "memit", {"x": 1})
    session.apply(last)

    def resolve(requests: Sequence[EditRequest]) -> WeightDelta:
        assert [r.id for r in requests] == ["a", "c"]
        assert session.fingerprint() == before_batch, "the batch must be solved on the model before it"
        return again

    applied = session.drop_request(2, "b", resolve)
    assert applied is not None and [r.id for r in applied.requests] == ["a", "c"]
    assert (applied.id, applied.method, set(applied.norms)) == (2, "memit", {model.site(0)})
    for update in (first, again, last):
        expected.apply(update)
    assert session.fingerprint() == expected.fingerprint()
    assert [a.id for a in session.applied] == [1, 2, 3]


def test_dropping_the_only_request_undoes_the_edit() -> None:
    model = tiny_model("llama")
    session, before = EditSession(model), model.fingerprint()
    session.apply(dense(model, 1), [request("a")])
    assert session.drop_request(1, "a", lambda _: pytest.fail("nothing to solve")) is None
    assert session.fingerprint() == before


def test_a_failing_solver_leaves_the_session_as_it_was() -> None:
    model = tiny_model("llama")
    session = EditSession(model)
    for seed in (1, 2):
        session.apply(low_rank(model, seed), [request("a"), request("b")])
    before, applied = session.fingerprint(), session.applied

    def broken(requests: Sequence[EditRequest]) -> WeightDelta:
        raise KeyboardInterrupt

    def diverging(requests: Sequence[EditRequest]) -> WeightDelta:
        return WeightDelta({model.site(0): torch.full((32, 64), torch.nan)})

    for error, resolve in ((KeyboardInterrupt, broken), (Diverged, diverging)):
        with pytest.raises(error):
            session.drop_request(1, "a", resolve)
        assert session.fingerprint() == before and session.applied == applied
    with pytest.raises(BadInput, match="has no request 'z'; it holds a, b"):
        session.drop_request(1, "z", broken)


@dtypes
@pytest.mark.parametrize("family", ARCHITECTURES)
def test_a_saved_session_is_bit_identical_and_goes_on(family: str, dtype: torch.dtype, tmp_path: Path) -> None:
    session = EditSession(tiny_model(family, dtype=dtype))
    model, start = session.model, session.fingerprint()
    for seed in (1, 2):
        session.apply(low_rank(model, seed), [request(f"r{seed}")], "memit", {"layers": [0, 1]})
    session.apply(dense(model, 3))
    session.undo(2)
    session.save(tmp_path / "edited")
    loaded = EditSession.load(tmp_path / "edited")
    assert loaded.fingerprint() == session.fingerprint()
    assert [(a.id, a.method, a.requests, a.norms) for a in loaded.applied] == [
        (a.id, a.method, a.requests, a.norms) for a in session.applied
    ]
    assert loaded.origin == f"tiny-{family}"
    assert session.apply(low_rank(model, 9)).id == loaded.apply(low_rank(model, 9)).id == 4
    assert loaded.fingerprint() == session.fingerprint()
    loaded.undo(3)
    session.undo(3)
    assert loaded.fingerprint() == session.fingerprint()
    loaded.undo()
    loaded.undo()
    assert loaded.fingerprint() == start


def test_a_saved_session_is_an_ordinary_model(tmp_path: Path) -> None:
    session = EditSession(tiny_model("llama"))
    session.apply(low_rank(session.model, 1))
    session.save(tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    site = session.model.site(1)
    assert torch.equal(plain.get_submodule(site).weight, session.model.weight(site))


def test_undo_in_a_folder_replaces_it_whole(tmp_path: Path) -> None:
    session = EditSession(tiny_model("llama"))
    start = session.fingerprint()
    session.apply(low_rank(session.model, 1))
    session.save(tmp_path / "it")
    again = EditSession.load(tmp_path / "it")
    again.undo()
    again.save(tmp_path / "it")
    assert EditSession.load(tmp_path / "it").fingerprint() == start
    assert not (tmp_path / "it" / "edits").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["it"], "something was left beside the folder"


def test_folders_that_are_not_ours_are_kept(tmp_path: Path) -> None:
    session = EditSession(tiny_model("llama"))
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(BadInput, match="exists and is not a saved session"):
        session.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(BadInput, match="cannot be written"):
        session.save(tmp_path / "thesis.tex" / "inside")


def test_a_save_that_fails_keeps_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = EditSession(tiny_model("llama"))
    session.apply(low_rank(session.model, 1))
    session.save(tmp_path / "it")
    kept = session.fingerprint()
    session.undo()

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(session_module, "LEDGER", "no/such/folder.json")
    with pytest.raises(BadInput, match="cannot be written"):
        session.save(tmp_path / "it")
    monkeypatch.undo()
    assert EditSession.load(tmp_path / "it").fingerprint() == kept
    assert [path.name for path in tmp_path.iterdir()] == ["it"]


def test_folders_that_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"not a saved session: it has no errata\.json"):
        EditSession.load(tmp_path)
    session = EditSession(tiny_model("llama"))
    session.apply(low_rank(session.model, 1))
    session.save(tmp_path / "it")
    edit = tmp_path / "it" / "edits" / "00001.safetensors"
    edit.write_bytes(edit.read_bytes()[:40])
    with pytest.raises(BadInput, match=r"00001\.safetensors cannot be read"):
        EditSession.load(tmp_path / "it")
    (tmp_path / "it" / "errata.json").write_text("{")
    with pytest.raises(BadInput, match=r"errata\.json cannot be read"):
        EditSession.load(tmp_path / "it")


def test_weights_changed_behind_the_sessions_back_are_noticed(tmp_path: Path) -> None:
    session = EditSession(tiny_model("llama"))
    session.apply(low_rank(session.model, 1))
    session.save(tmp_path / "it")
    session.model.model.lm_head.weight[0, 0] += 1
    session.model.model.save_pretrained(tmp_path / "it")
    with pytest.raises(BadInput, match="not those that were saved"):
        EditSession.load(tmp_path / "it")
