"""Memories beside the weights: GRACE's rules against a literal oracle, folding, undoing, saving, routing."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from editors.serac_trained import WithTrained, learned
from errata.editors.grace import Grace
from errata.editors.ike import Ike
from errata.errors import BadInput, Diverged
from errata.model.editable import EditableModel
from errata.model.loading import load
from errata.model.scoring import score_targets
from errata.model.tokens import encode, encode_target, pad, pad_left
from errata.testing import tiny_model
from errata.types import EditRequest
from errata.update.codebook import Codebook
from errata.update.delta import LowRank, WeightDelta
from errata.update.notes import Notes
from errata.update.patch import Patch, fold, overlaid
from errata.update.session import EditSession
from oracles.grace import answer, codebook

REQUESTS = (
    EditRequest("1", "The capital of France is", "France", "Rome", "Paris"),
    EditRequest("2", "Marie Curie was born in", "Marie Curie", "Ulm", "Warsaw"),
    EditRequest("3", "The symbol of gold is", "gold", "Rome", "Au"),
)
GRACE = Grace(1, steps=15, lr=0.3, contexts=((4, 6),))
IKE = Ike(1, threshold=0.9, contexts=((4, 6),))
SERAC = WithTrained(learned())
RELEASED = replace(GRACE, last_only=True)
IDS = ["grace", "grace as released", "ike", "serac"]
EDITORS: Any = pytest.mark.parametrize("editor", [GRACE, RELEASED, IKE, SERAC], ids=IDS)
PROMPTS = [request.prompt for request in REQUESTS] + ["Norway", "Question: where was he born? Answer:"]


def entries(n: int, seed: int, spread: float = 1.0) -> Codebook:
    """Random entries with few labels and some keys at the same place."""
    rng = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    keys = spread * torch.randn(n, 3, generator=generator, dtype=torch.float64)
    for index in range(1, n):
        if rng.random() < 0.2:
            keys[index] = keys[rng.randrange(index)] * (1 + 1e-4 * rng.random())
    values = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    radii = torch.tensor([rng.choice([0.2, 0.5, 1.0]) for _ in range(n)], dtype=torch.float64)
    return Codebook("site", keys, values, radii, tuple(rng.choice("abc") for _ in range(n)))


def literal(book: Codebook) -> list[dict[str, Any]]:
    each = zip(book.keys.tolist(), book.values.tolist(), book.labels, book.radii.tolist(), strict=True)
    return codebook(list(each))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 12), st.integers(0, 10_000))
def test_regions_are_those_of_the_algorithm(n: int, seed: int) -> None:
    book = entries(n, seed)
    expected = literal(book)
    assert book.regions.labels == tuple(region["label"] for region in expected)
    for name, found in (("key", book.regions.keys), ("value", book.regions.values), ("radius", book.regions.radii)):
        wanted = torch.tensor([region[name] for region in expected], dtype=torch.float64)
        torch.testing.assert_close(found, wanted.reshape(found.shape), rtol=0, atol=1e-8)


def test_lookups_are_those_of_the_algorithm() -> None:
    hits = 0
    for seed in range(20):
        book = entries(9, seed)
        expected = literal(book)
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(4, 5, 3, generator=generator, dtype=torch.float64)
        y = torch.randn(4, 5, 2, generator=generator, dtype=torch.float64)
        found = book.regions.replaced(x, y)
        for row in range(4):
            for column in range(5):
                wanted = answer(expected, x[row, column].tolist(), y[row, column].tolist())
                torch.testing.assert_close(
                    found[row, column], torch.tensor(wanted, dtype=torch.float64), rtol=0, atol=1e-8
                )
                hits += wanted != y[row, column].tolist()
    assert 50 < hits < 350, "lookups that always hit, or never, test nothing"


def test_each_rule_by_hand() -> None:
    def book(*entries: tuple[float, str]) -> Codebook:
        keys = torch.tensor([[place, 1.0] for place, _ in entries], dtype=torch.float64)
        labels = tuple(label for _, label in entries)
        return Codebook("s", keys, keys.clone(), torch.ones(len(entries), dtype=torch.float64), labels)

    assert book((0, "a"), (2.5, "b")).regions.radii.tolist() == [1, 1], "far apart: each its own"
    assert book((0, "a"), (1.5, "a")).regions.radii.tolist() == [1.5], "the same answer: wider"
    assert book((0, "a"), (0.5, "a")).regions.radii.tolist() == [1], "already inside: as wide as before"
    split = book((0, "a"), (1.5, "b")).regions
    assert split.radii.tolist() == [0.75 - 1e-5, 0.75] and split.labels == ("a", "b")
    again = book((0, "a"), (0, "b")).regions
    assert again.labels == ("b",) and again.radii.tolist() == [1], "the same place: the later answer"


def test_answers_are_compared_as_texts() -> None:
    """The mean of token ids, which the released code compares, is the same for 'ab' and 'ba'."""
    keys = torch.tensor([[0.0, 1.0], [1.5, 1.0]], dtype=torch.float64)
    book = Codebook("s", keys, keys.clone(), torch.ones(2, dtype=torch.float64), ("ab", "ba"))
    assert len(book.regions.labels) == 2


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 3), min_size=1, max_size=6), st.integers(0, 1000), st.data())
def test_taking_out_any_part_leaves_the_fold_of_the_rest(sizes: list[int], seed: int, data: st.DataObject) -> None:
    parts = [entries(size, seed + index) for index, size in enumerate(sizes)]
    gone = data.draw(st.integers(0, len(parts) - 1))
    rest = parts[:gone] + parts[gone + 1 :]
    if not rest:
        return
    (folded,) = fold(rest)
    assert isinstance(folded, Codebook)
    whole = Codebook(
        "site",
        torch.cat([part.keys for part in rest]),
        torch.cat([part.values for part in rest]),
        torch.cat([part.radii for part in rest]),
        tuple(label for part in rest for label in part.labels),
    )
    for name in ("keys", "values", "radii", "labels"):
        assert same(getattr(folded.regions, name), getattr(whole.regions, name))


def same(a: Any, b: Any) -> bool:
    return torch.equal(a, b) if isinstance(a, Tensor) else a == b


# In a model


def edited(editor: Any, model: EditableModel, requests: Any = REQUESTS) -> EditSession:
    session, state = EditSession(model), {}
    for request in requests:
        result = editor.edit(model, [request], state, None)  # type: ignore[arg-type]
        state = result.state
        session.apply(result.update, [request], editor.name, {})
    return session


@EDITORS
def test_undo_of_any_edit_is_as_if_it_had_never_been(editor: Any) -> None:
    session = edited(editor, tiny_model("llama"))
    updates = [session.update(edit) for edit in (1, 2, 3)]
    start = tiny_model("llama").fingerprint()
    for gone in (1, 2, 3):
        session = EditSession(tiny_model("llama"))
        for update in updates:
            session.apply(update)
        full = session.fingerprint()
        session.undo(gone)
        fresh = EditSession(tiny_model("llama"))
        for edit in {1, 2, 3} - {gone}:
            fresh.apply(updates[edit - 1])
        assert session.fingerprint() == fresh.fingerprint() != full
        logits = [s.model.logits(pad([encode(s.model.tokenizer, PROMPTS[0])], 0)) for s in (session, fresh)]
        assert torch.equal(*logits)
        session.undo()
        session.undo()
        assert session.fingerprint() == start and not session.model.patches


@EDITORS
def test_a_saved_memory_answers_wherever_it_is_loaded(editor: Any, tmp_path: Path) -> None:
    session = edited(editor, tiny_model("llama"))
    session.save(tmp_path / "it")
    told = session.model.generate(PROMPTS, 8)
    loaded, again = load(str(tmp_path / "it"), device="cpu"), EditSession.load(tmp_path / "it", device="cpu")
    assert loaded.fingerprint() == session.fingerprint() == again.fingerprint()
    assert (
        loaded.generate(PROMPTS, 8)
        == again.model.generate(PROMPTS, 8)
        == told
        != tiny_model("llama").generate(PROMPTS, 8)
    )
    for edit in (1, 2, 3):
        ours, theirs = session.update(edit), again.update(edit)
        assert isinstance(ours, Patch) and isinstance(theirs, Patch) and ours.meta() == theirs.meta()
        assert all(torch.equal(value, theirs.tensors()[name]) for name, value in ours.tensors().items())
    assert [(a.entries, a.bytes, a.norms) for a in again.applied] == [(1, u.bytes, {}) for u in session.applied]
    again.undo(2)
    session.undo(2)
    assert again.fingerprint() == session.fingerprint()
    again.save(tmp_path / "it")
    assert load(str(tmp_path / "it"), device="cpu").fingerprint() == session.fingerprint()


@EDITORS
def test_the_weights_are_not_touched_and_cannot_be_merged(editor: Any) -> None:
    model = tiny_model("llama")
    before = {name: tensor.clone() for name, tensor in model.model.state_dict().items()}
    session = EditSession(model)
    assert session.merged() is model.model
    session = edited(editor, model)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.model.state_dict().items())
    with pytest.raises(BadInput, match=f"edits by {editor.name} are a memory .* memit"):
        session.merged()


@EDITORS
def test_two_models_in_one_process_do_not_mix(editor: Any) -> None:
    first, second = tiny_model("llama"), tiny_model("llama")
    plain = tiny_model("llama").generate(PROMPTS, 6)
    session = edited(editor, first)
    assert second.generate(PROMPTS, 6) == plain != first.generate(PROMPTS, 6)
    edited(editor, second, REQUESTS[1:2])
    session.undo()
    session.undo()
    session.undo()
    assert first.generate(PROMPTS, 6) == plain != second.generate(PROMPTS, 6)


@EDITORS
def test_changes_of_weights_and_memories_are_in_force_together(editor: Any) -> None:
    model = tiny_model("llama")
    delta = WeightDelta({model.site(0): LowRank(0.1 * torch.ones(32, 1), torch.ones(1, 64))})
    update = editor.edit(model, REQUESTS[:1], {}, None).update
    sessions = [EditSession(tiny_model("llama")) for _ in range(3)]
    sessions[0].apply(delta)
    sessions[0].apply(update)
    sessions[1].apply(update)
    sessions[1].apply(delta)
    sessions[2].apply(update)
    assert sessions[0].fingerprint() == sessions[1].fingerprint() != sessions[2].fingerprint()
    sessions[0].undo(1)
    assert sessions[0].fingerprint() == sessions[2].fingerprint()
    sessions[1].undo(1)
    assert not sessions[1].model.patches and sessions[1].base


@EDITORS
def test_generation_is_the_same_with_and_without_cache_and_in_transformers(editor: Any) -> None:
    session = edited(editor, tiny_model("llama", dtype=torch.float64))
    model = session.model
    batched = model.generate_full(PROMPTS, 8, stop=())
    assert [row.ids for row in batched] == [model.generate_full([text], 8, stop=())[0].ids for text in PROMPTS]
    for text, row in zip(PROMPTS, batched, strict=True):
        (run,) = model.routed([tuple(encode(model.tokenizer, text))], [8])
        ids = run.ids
        for token in row.ids:
            with run.model.asked_at(torch.tensor([len(run.ids) - 1])):
                assert int(run.model.forward(pad([ids], model.pad_id))[0, -1].argmax()) == token
            ids = (*ids, token)
    rows = pad_left([encode(model.tokenizer, text) for text in PROMPTS], model.pad_id)
    for cached in (True, False):
        out = model.model.generate(
            input_ids=rows.ids, attention_mask=rows.mask, max_new_tokens=8, do_sample=False, use_cache=cached
        )
        assert torch.equal(out[:, : rows.ids.shape[1]], rows.ids), "what is returned begins with the prompts as given"
        for found, row in zip(out[:, rows.ids.shape[1] :].tolist(), batched, strict=True):
            assert found[: len(row.ids)] == list(row.ids)


def test_a_codebook_is_blind_to_padding() -> None:
    model = edited(GRACE, tiny_model("llama", dtype=torch.float64)).model
    rows = [encode(model.tokenizer, text) for text in PROMPTS]
    right, left = model.forward(pad(rows, model.pad_id)), model.forward(pad_left(rows, model.pad_id))
    with torch.no_grad():
        for index, row in enumerate(rows):
            alone = model.forward(pad([row], model.pad_id))[0]
            torch.testing.assert_close(right[index, : len(row)], alone, rtol=0, atol=1e-8)
            torch.testing.assert_close(left[index, -len(row) :], alone, rtol=0, atol=1e-8)
    plain = tiny_model("llama", dtype=torch.float64)
    assert (plain.forward(pad([rows[0]], 0))[0, -1] - alone_last(model, rows[0])).abs().max() > 1e-3


def alone_last(model: EditableModel, row: list[int]) -> Tensor:
    return model.forward(pad([row], model.pad_id))[0, -1]


@EDITORS
def test_shared_prefixes_change_nothing(editor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from errata.model import prefixes

    model = edited(editor, tiny_model("llama", dtype=torch.float64)).model
    pairs = [(f"{request.prompt}", answer) for request in REQUESTS for answer in ("Rome", "Ulm", "Paris")]
    apart, said = score_targets(model, pairs), model.generate([prompt for prompt, _ in pairs], 5)
    monkeypatch.setattr(prefixes, "WORTH_SHARING", 1)
    shared = score_targets(model, pairs)
    assert [score.mean for score in shared] == pytest.approx([score.mean for score in apart], abs=1e-9)
    assert model.generate([prompt for prompt, _ in pairs], 5) == said


def test_scores_are_those_of_the_prompt_behind_its_fact() -> None:
    model = edited(IKE, tiny_model("llama", dtype=torch.float64)).model
    (score,) = score_targets(model, [(REQUESTS[0].prompt, "Ulm was")])
    whole, start = encode_target(model.tokenizer, REQUESTS[0].prompt, "Ulm was")
    head = model.routed([tuple(whole[:start])], [8])[0].ids
    ids = [*head, *whole[start:]]
    assert len(head) > start
    logp = model.forward(pad([ids], 0))[0].log_softmax(-1)
    literal = sum(float(logp[place - 1, ids[place]]) for place in range(len(head), len(ids)))
    assert score.total == pytest.approx(literal, abs=1e-5)
    (plain,) = score_targets(tiny_model("llama", dtype=torch.float64), [(REQUESTS[0].prompt, "Ulm was")])
    assert abs(plain.total - literal) > 1e-2


def test_a_memory_that_is_not_finite_diverges() -> None:
    model = tiny_model("llama")
    update = GRACE.edit(model, REQUESTS[:1], {}, None).update  # type: ignore[arg-type]
    session, before = EditSession(model), model.fingerprint()
    with pytest.raises(Diverged, match="grace entry"):
        session.apply(update.mapped(lambda tensor: tensor * torch.nan))
    assert model.fingerprint() == before and not session.applied


def test_memories_of_one_kind_share_their_settings() -> None:
    session = edited(GRACE, tiny_model("llama"), REQUESTS[:1])
    before = session.fingerprint()
    other = replace(GRACE, layer=0).edit(session.model, REQUESTS[1:2], {}, None).update  # type: ignore[arg-type]
    with pytest.raises(BadInput, match=r"site 'model\.layers\.1\.mlp\.down_proj', not 'model\.layers\.0"):
        session.apply(other)
    assert session.fingerprint() == before and len(session.applied) == 1


def test_a_codebook_of_another_model_is_refused() -> None:
    session = edited(GRACE, tiny_model("llama"), REQUESTS[:1])
    before, told = session.fingerprint(), session.model.generate(PROMPTS, 4)
    narrow = GRACE.edit(tiny_model("llama", width=16), REQUESTS[:1], {}, None).update  # type: ignore[arg-type]
    fresh = EditSession(tiny_model("llama"))
    with pytest.raises(BadInput, match=r"values and keys of \(16, 32\); the matrix is \(32, 64\)"):
        fresh.apply(narrow)
    with pytest.raises(BadInput, match=r"shape \(32, 64\), not \(16, 32\)"):
        session.apply(narrow)
    assert session.fingerprint() == before and session.model.generate(PROMPTS, 4) == told
    assert len(session.applied) == 1
    noted = edited(IKE, tiny_model("llama"), REQUESTS[:1])
    with pytest.raises(BadInput, match="the matrix is"):
        noted.apply(narrow)
    assert [patch.kind for patch in noted.model.patches] == ["ike"] and len(noted.applied) == 1
    assert "Rome." in text_of(noted.model, REQUESTS[0].prompt)


def test_one_fact_of_a_batch_is_taken_out() -> None:
    def noted(requests: Any) -> Any:
        return IKE.edit(tiny_model("llama"), requests, {}, None).update  # type: ignore[arg-type]

    session, expected = EditSession(tiny_model("llama")), EditSession(tiny_model("llama"))
    session.apply(noted(REQUESTS[:2]), REQUESTS[:2], "ike")
    session.apply(noted(REQUESTS[2:]), REQUESTS[2:], "ike")
    fewer = session.drop_request(1, "1", noted)
    for part in (REQUESTS[1:2], REQUESTS[2:]):
        expected.apply(noted(part))
    assert fewer is not None and fewer.entries == 1
    assert session.fingerprint() == expected.fingerprint()


def test_a_model_with_memories_can_be_edited_further_but_not_saved_alone(tmp_path: Path) -> None:
    edited(GRACE, tiny_model("llama"), REQUESTS[:2]).save(tmp_path / "it")
    session = EditSession(load(str(tmp_path / "it"), device="cpu"))
    before = session.fingerprint()
    session.apply(GRACE.edit(session.model, REQUESTS[2:], {}, None).update)  # type: ignore[arg-type]
    assert [len(patch) for patch in session.model.patches] == [3]
    with pytest.raises(BadInput, match=r"EditSession\.load"):
        session.save(tmp_path / "other")
    session.undo()
    assert session.fingerprint() == before


@EDITORS
def test_overlaid_leaves_the_model_as_it_was(editor: Any) -> None:
    model = edited(editor, tiny_model("llama"), REQUESTS[:1]).model
    before, update = model.fingerprint(), editor.edit(model, REQUESTS[1:2], {}, None).update
    with overlaid(model, update):
        assert [len(patch) for patch in model.patches] == [2]
    assert model.fingerprint() == before and model.patches[0].kind == editor.name


# Notes


def notes(model: EditableModel) -> Notes:
    (patch,) = model.patches
    assert isinstance(patch, Notes)
    return patch


def text_of(model: EditableModel, prompt: str, spare: int = 4) -> str:
    (run,) = model.routed([tuple(encode(model.tokenizer, prompt))], [spare])
    return str(model.tokenizer.decode(run.ids, skip_special_tokens=True)).strip()


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_prompt_gets_its_fact_and_no_other(family: str) -> None:
    model = edited(IKE, tiny_model(family)).model
    for request in REQUESTS:
        assert text_of(
            model, request.prompt
        ) == f"New fact: {request.prompt} {request.target_new}.\n{request.prompt}" or (
            text_of(model, request.prompt).replace("\n ", "\n")
            == f"New fact: {request.prompt} {request.target_new}.\n{request.prompt}"
        )
    strict = replace(IKE, threshold=1.0)
    assert text_of(edited(strict, tiny_model(family)).model, "Norway") == "Norway"


@EDITORS
def test_nothing_asked_is_nothing_answered(editor: Any) -> None:
    model = edited(editor, tiny_model("llama"), REQUESTS[:1]).model
    assert model.generate([]) == [] == score_targets(model, [])


def test_a_prompt_that_leaves_no_room_is_left_alone() -> None:
    model = edited(IKE, tiny_model("llama")).model
    assert text_of(model, REQUESTS[0].prompt, spare=model.context - 20) == REQUESTS[0].prompt


def test_a_later_fact_replaces_an_earlier_one_until_it_is_undone() -> None:
    session = edited(IKE, tiny_model("llama"), [REQUESTS[0], replace(REQUESTS[0], id="4", target_new="Ulm")])
    assert "Ulm." in text_of(session.model, REQUESTS[0].prompt)
    assert "Rome" not in text_of(session.model, REQUESTS[0].prompt)
    session.undo()
    assert "Rome." in text_of(session.model, REQUESTS[0].prompt)


def test_demonstrations_are_other_facts() -> None:
    model = edited(replace(IKE, demonstrations=2), tiny_model("llama")).model
    order = notes(model).similarities(model, [tuple(encode(model.tokenizer, REQUESTS[0].prompt))])[0]
    first, second, third = order.argsort(descending=True).tolist()
    assert first == 0
    copy, retain = REQUESTS[second], REQUESTS[third]
    # The farthest fact is shown with an unrelated question, the nearer one with its own.
    assert notes(model).context([first, second, third]) == (
        f"New fact: {retain.prompt} {retain.target_new}.\n{copy.prompt} {copy.target_true}.\n\n"
        f"New fact: {copy.prompt} {copy.target_new}.\n{copy.prompt} {copy.target_new}.\n\n"
        f"New fact: {REQUESTS[0].prompt} {REQUESTS[0].target_new}.\n"
    )


def test_embeddings_are_means_over_tokens_but_the_first() -> None:
    model = tiny_model("llama", dtype=torch.float64)
    update = Ike(0, contexts=((4, 6),)).edit(model, REQUESTS, {}, None).update  # type: ignore[arg-type]
    assert isinstance(update, Notes)
    for request, found in zip(REQUESTS, update.embeddings, strict=True):
        ids = encode(model.tokenizer, request.prompt)
        total = torch.zeros(32, dtype=torch.float64)
        for place in range(1, len(ids)):
            total += model.hidden_at(pad([ids], 0), 0, torch.tensor([place]))[0]
        torch.testing.assert_close(found, total / (len(ids) - 1), rtol=0, atol=1e-8)


def test_an_encoder_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(BadInput, match=r"errata\[encoder\]"):
        edited(replace(IKE, encoder="all-MiniLM-L6-v2"), tiny_model("llama"))


def test_an_encoder_stands_for_the_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    from types import SimpleNamespace

    seen: list[str] = []

    class Letters:
        """Counts of letters as embedding."""

        def __init__(self, name: str) -> None:
            seen.append(name)

        def encode(self, texts: list[str], convert_to_tensor: bool) -> Tensor:
            return torch.tensor([[float(text.count(letter)) for letter in "abcdefghijklmnop"] for text in texts])

    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=Letters))
    model = edited(replace(IKE, encoder="letters", threshold=0.999), tiny_model("llama")).model
    assert "Rome." in text_of(model, REQUESTS[0].prompt)
    assert text_of(model, "Norway") == "Norway"
    assert set(seen) == {"letters"}
