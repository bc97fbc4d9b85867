"""Packed and shared scoring equals one plain forward pass a row, for every family."""

import random

import pytest
import torch

from errata.model import prefixes, scoring
from errata.model.architecture import ARCHITECTURES
from errata.model.prefixes import lay_out, share
from errata.model.scoring import Row, score_targets, tail_log_probs
from errata.model.tiny import tiny_model


def some_rows(seed: int = 0) -> list[Row]:
    rng = random.Random(seed)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(rng.randrange(5, 300) for _ in range(n))

    head = ids(30)
    rows = [Row(head + ids(rng.randint(4, 12)), rng.randint(1, 3)) for _ in range(9)]
    return rng.sample([*rows, *(Row(ids(rng.randint(4, 30)), 2) for _ in range(4))], 13)


@pytest.mark.parametrize("family", sorted(ARCHITECTURES))
def test_equal_to_a_plain_forward_pass(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefixes, "WORTH_SHARING", 20)
    monkeypatch.setattr(scoring, "TOKENS_AT_ONCE", 150)
    model, rows = tiny_model(family), some_rows()
    assert max(group.prefix for group in share([row.given for row in rows])) == 30
    seen = set()
    for index, log_probs in tail_log_probs(model, rows):
        plain = model.model(torch.tensor([rows[index].ids])).logits[0].float().log_softmax(-1)
        torch.testing.assert_close(log_probs, plain[-rows[index].scored :], atol=5e-6, rtol=1e-5)
        seen.add(index)
    assert seen == set(range(len(rows)))


def questions() -> list[Row]:
    """Four answers of up to three tokens to each of three questions, one token of them shared, behind one head."""
    rng = random.Random(1)
    head = [rng.randrange(5, 300) for _ in range(24)]
    stems = [[*head, *(rng.randrange(5, 300) for _ in range(9))] for _ in range(3)]
    answers = ([7], [7, 8], [7, 9, 10], [11, 12])
    return [Row(tuple([*stem, *answer][:-1]), len(answer)) for stem in stems for answer in answers]


@pytest.mark.parametrize("family", sorted(ARCHITECTURES))
@pytest.mark.parametrize("line", [20, 60, 200])
def test_rows_in_one_line_do_not_see_each_other(family: str, line: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines behind a shared prefix, lines that hold it, and all rows in one."""
    monkeypatch.setattr(prefixes, "WORTH_SHARING", 20)
    monkeypatch.setattr(scoring, "LINE", line)
    model, rows, tokens = tiny_model(family), questions(), []
    forward = model.model.forward
    monkeypatch.setattr(model.model, "forward", lambda **kw: tokens.append(kw["input_ids"].numel()) or forward(**kw))
    found = dict(tail_log_probs(model, rows))
    assert sum(tokens) < 2 * len({row.ids[: n + 1] for row in rows for n in range(len(row.ids))})
    for index, row in enumerate(rows):
        plain = forward(input_ids=torch.tensor([row.ids])).logits[0].float().log_softmax(-1)
        torch.testing.assert_close(found[index], plain[-row.scored :], atol=5e-6, rtol=1e-5)


def test_a_line_holds_every_token_once_and_shows_rows_their_own() -> None:
    rows = [(1, 2, 3), (1, 2), (1, 2, 4, 5), (6,)]
    line = lay_out(rows)
    assert [tuple(line.ids[i] for i in path) for path in line.paths] == rows
    assert len(line.ids) == 6 and not line.plain and lay_out([(1, 2), (1, 2, 3)]).plain
    for row, path in zip(rows, line.paths, strict=True):
        assert [line.depths[i] for i in path] == list(range(len(row)))
        for n, place in enumerate(path):
            assert set(line.visible()[place].nonzero().flatten().tolist()) == set(path[: n + 1])


def test_no_hook_stays() -> None:
    model, rows = tiny_model("llama"), some_rows()
    list(tail_log_probs(model, rows))
    assert not model.model.get_output_embeddings()._forward_pre_hooks


def test_groups_cover_every_row_once_and_leave_what_is_scored() -> None:
    rows = [Row((1, 2, 3, 4), 1), Row((1, 2, 3, 4), 3), *some_rows(), *(Row((*range(600), n), 1) for n in range(3))]
    groups = share([row.given for row in rows])
    assert sorted(i for group in groups for i in group.members) == list(range(len(rows)))
    assert groups[0].prefix == 600 and groups[-1].prefix == 0
    for group in groups:
        heads = {rows[i].ids[: group.prefix] for i in group.members}
        assert len(heads) == 1
        assert all(len(rows[i].ids) - rows[i].scored >= group.prefix for i in group.members)


def test_what_is_not_finite_is_nan_in_its_own_row_alone() -> None:
    model = tiny_model("llama")
    model.model.get_input_embeddings().weight[7] = torch.nan
    rows = [Row((1, 5, 9), 1), Row((1, 7, 9), 1), Row((1, 5, 6, 7), 1), Row((1, 5, 6, 9), 1)]
    result = dict(tail_log_probs(model, rows))
    assert result[0].isfinite().all() and result[1].isnan().all()
    assert result[2].isnan().all() and result[3].isfinite().all(), "a row in the same line saw it"


def test_targets() -> None:
    model = tiny_model("gpt2")
    long, short = score_targets(model, [("The capital of France is", "Paris in Germany"), ("x", "y")])
    assert long.total < long.mean < 0 and 0 <= long.matched <= 1 and short.total <= short.mean


@pytest.mark.parametrize("family", ["mistral", "gemma2", "gemma3_text"])
def test_a_prefix_longer_than_the_attention_window(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefixes, "WORTH_SHARING", 20)
    model, rows = tiny_model(family), some_rows()
    model.model.config.sliding_window = 8
    for module in model.model.modules():
        if getattr(module, "sliding_window", None) is not None:
            module.sliding_window = 8
    for index, log_probs in tail_log_probs(model, rows):
        plain = model.model(torch.tensor([rows[index].ids])).logits[0].float().log_softmax(-1)
        torch.testing.assert_close(log_probs, plain[-rows[index].scored :], atol=5e-6, rtol=1e-5)
