"""The papers' findings on synthetic runs that bear them out, contradict them, or cannot tell."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from synthetic_runs import config_of, probes, rows, signs, write_run

from errata.records import write_records
from errata.report.findings import (
    Finding,
    Vote,
    every,
    evidence_table,
    findings,
    findings_table,
    most,
    some,
    statements,
)
from errata.report.findings import judged as judge
from errata.report.findings_p1 import parameters
from errata.report.summary import read

TASKS = {"p1_mmlu": 0.8, "p1_gsm8k": 0.8, "p1_bbh": 0.8, "p1_commonsenseqa": 0.8}
N = 200


def run(root: Path, kept: Mapping[int, float | Mapping[str, float]], works: float = 0.95, **changes: Any) -> Path:
    """Each task keeps a share of its unedited score after so many edits: one for all tasks, or one for each."""
    tasks = changes.pop("tasks", TASKS)
    extra = changes.pop("extra", {})
    tables = {
        edits: {
            task: rows(task, N, right * (share if isinstance(share, float) else share[task]), **extra.get(edits, {}))
            for task, right in tasks.items()
        }
        | probes(edits, works)
        for edits, share in {0: 1.0, **kept}.items()
    }
    moved = changes.pop("moved", {})
    config = config_of(changes.pop("method", "rome"), edits=[0, *kept], tasks=list(tasks), limit=None, **changes)
    health = {edits: signs(3.0) | moved.get(edits, {}) for edits in tables}
    return write_run(root, config, tables, health=health)


def judged(name: str, *folders: Path) -> Finding:
    statement = next(statement for statement in statements() if statement.id == name)
    return judge(statement, read(folders))


def ballots(found: Finding) -> list[str]:
    return [vote.ballot for vote in found.votes]


@pytest.mark.parametrize(
    ("ballots", "expected"),
    [
        ("ffa", ("supported", "contradicted", "supported")),
        ("ff", ("supported", "supported", "supported")),
        ("ffv", ("supported", "supported", "supported")),
        ("fo", ("undecided", "undecided", "supported")),
        ("fa", ("contradicted", "contradicted", "supported")),
        ("aa", ("contradicted", "contradicted", "contradicted")),
        ("ao", ("contradicted", "contradicted", "undecided")),
        ("aoo", ("undecided", "contradicted", "undecided")),
        ("v", ("undecided", "undecided", "undecided")),
        ("", ("undecided", "undecided", "undecided")),
    ],
)
def test_verdicts_of_votes(ballots: str, expected: tuple[str, str, str]) -> None:
    names = {"f": "for", "a": "against", "o": "open", "v": "void"}
    votes = [Vote("", names[letter], "") for letter in ballots]  # type: ignore[arg-type]
    assert (most(votes), every(votes), some(votes)) == expected


@pytest.mark.parametrize(
    ("kept", "works", "expected"),
    [
        (1.0, 0.95, ("for", "supported")),
        (0.5, 0.95, ("against", "contradicted")),
        (0.96, 0.95, ("open", "undecided")),
        (1.0, 0.1, ("void", "undecided")),
        (0.5, 0.1, ("against", "contradicted")),
    ],
)
def test_dozens(tmp_path: Path, kept: float, works: float, expected: tuple[str, str]) -> None:
    """4.1a: an ability that is kept by edits that do not work is no evidence; a loss is."""
    found = judged("4.1a", run(tmp_path, {1: 1.0, 20: kept, 90: 0.1}, works))
    assert (ballots(found), found.verdict) == ([expected[0]], expected[1])
    assert "20 edits" in found.votes[0].unit, "20 stands for dozens, not 90"


def test_thousands(tmp_path: Path) -> None:
    """4.1b: what was not measured so far is an open vote, so that a few that collapsed early do not decide."""
    gone = run(tmp_path, {10: 1.0, 100: 0.1})
    holds = run(tmp_path, {10: 1.0, 1000: 1.0}, method="memit")
    short = [run(tmp_path, {10: 1.0}, method=name) for name in ("pmet", "kn")]
    assert (ballots(judged("4.1b", gone)), judged("4.1b", gone).verdict) == (["for"], "supported")
    assert judged("4.1b", holds).verdict == "contradicted"
    longer = judged("4.1b", holds, run(tmp_path / "short", {10: 1.0}, method="memit"))
    assert ballots(longer) == ["against"], "a shorter run of the same method says nothing more"
    found = judged("4.1b", gone, *short)
    assert (ballots(found), found.verdict) == (["for", "open", "open"], "undecided")


def test_muting_needs_ten_thousand_edits(tmp_path: Path) -> None:
    """4.1c: empty answers to all but multiple choice, after so many edits."""
    mute = {"empty": 1.0}
    soon = run(tmp_path, {100: 0.0}, extra={100: mute})
    late = run(tmp_path, {100: 1.0, 10_000: 0.0}, extra={10_000: mute}, method="memit")
    speaks = run(tmp_path, {10_000: 1.0}, method="pmet")
    assert judged("4.1c", soon).verdict == "undecided" and "100 %" in judged("4.1c", soon).votes[0].told
    assert ballots(judged("4.1c", soon)) == ["void"] and "after 10,000 edits" in judged("4.1c", soon).reason
    assert ballots(judged("4.1c", soon, late)) == ["void", "for"] and judged("4.1c", soon, late).verdict == "supported"
    assert judged("4.1c", late, speaks).verdict == "contradicted"


@pytest.mark.parametrize(
    ("base", "tuned", "verdict"), [(0.3, 0.9, "supported"), (0.9, 0.3, "contradicted"), (0.6, 0.6, "undecided")]
)
def test_instruct(tmp_path: Path, base: float, tuned: float, verdict: str) -> None:
    """4.2: the pair is found by the names of its models, at any scale."""
    models = ("atlas", "atlas-chat"), ("mistralai/Mistral-7B-v0.1", "mistralai/Mistral-7B-Instruct-v0.1")
    for number, pair in enumerate(models):
        folders = [run(tmp_path / str(number), {10: k, 100: k / 2}, model=m) for m, k in zip(pair, (base, tuned))]
        found = judged("4.2", *folders)
        assert (len(found.votes), found.verdict) == (1, verdict)
        assert judged("4.2", folders[0]).votes == ()


def test_sizes_are_read_from_names() -> None:
    assert parameters("atlas-neox-12m") == ("atlas-neox-", 12e6)
    assert parameters("EleutherAI/pythia-2.8b") == ("pythia-", 2.8e9)
    assert parameters("meta-llama/Llama-2-7b-hf") == ("Llama-2--hf", 7e9)
    assert parameters("atlas") is None and parameters("openai-community/gpt2-xl") is None


@pytest.mark.parametrize(
    ("kept", "verdict"),
    [((0.2, 0.5, 0.9), "supported"), ((0.9, 0.5, 0.2), "contradicted"), ((0.5, 0.5, 0.5), "undecided")],
)
def test_sizes(tmp_path: Path, kept: tuple[float, ...], verdict: str) -> None:
    """4.3: kept share over the logarithm of size, in one family."""
    names = ("atlas-neox-1m", "atlas-neox-4m", "atlas-neox-12m")
    folders = [run(tmp_path, {10: share, 100: 0.1}, model=name) for name, share in zip(names, kept)]
    found = judged("4.3", *reversed(folders))
    assert (len(found.votes), found.verdict) == (1, verdict)
    assert not judged("4.3", *folders[:2]).votes, "two sizes show no slope"


def test_abilities_degrade_alike_or_not(tmp_path: Path) -> None:
    """4.4: judged where the model declines, and only there."""
    alike = run(tmp_path, {10: 1.0, 50: 0.5, 100: 0.0})
    apart = run(tmp_path, {50: dict(zip(TASKS, (0.9, 0.9, 0.1, 0.5)))}, method="memit")
    assert (ballots(judged("4.4", alike)), judged("4.4", alike).verdict) == (["for"], "supported")
    assert (ballots(judged("4.4", apart)), judged("4.4", apart).verdict) == (["against"], "contradicted")


def test_safety(tmp_path: Path) -> None:
    """4.5: a loss of safety counts if other abilities are kept, and answers that became constant do not."""
    tasks = TASKS | {"p1_truthfulqa": 0.7}
    safe = dict.fromkeys(TASKS, 1.0)
    falls = run(tmp_path, {20: safe | {"p1_truthfulqa": 0.6}}, tasks=tasks)
    all_fall = run(tmp_path, {20: 0.5}, tasks=tasks, method="memit")
    holds = run(tmp_path, {20: 1.0}, tasks=tasks, method="pmet")
    assert (ballots(judged("4.5", falls)), judged("4.5", falls).verdict) == (["for"], "supported")
    found = judged("4.5", all_fall)
    assert (ballots(found), found.verdict) == (["open"], "undecided") and "other abilities fall too" in found.votes[
        0
    ].told
    assert judged("4.5", holds).verdict == "contradicted" and judged("4.5", holds, falls).verdict == "supported"


def test_the_abilities_beside_safety_may_be_of_another_run(tmp_path: Path) -> None:
    """Table 5 of the paper has runs of its own."""
    alone = run(tmp_path, {20: 0.6}, tasks={"p1_truthfulqa": 0.7})
    abilities = run(tmp_path, {20: 0.5})
    assert ballots(judged("4.5", alone)) == ["for"] and ballots(judged("4.5", alone, abilities)) == ["open"]


@pytest.mark.parametrize(("kept", "verdict"), [(0.0, "supported"), (0.9, "contradicted"), (0.12, "undecided")])
def test_kn(tmp_path: Path, kept: float, verdict: str) -> None:
    """P2-1."""
    assert judged("P2-1", run(tmp_path, {1: kept, 4: 0.0}, method="kn")).verdict == verdict
    assert not judged("P2-1", run(tmp_path / "rome", {1: kept})).votes


@pytest.mark.parametrize(
    ("curve", "verdict"),
    [((1.0, 0.7, 0.8, 0.3), "supported"), ((0.8, 0.9, 1.0, 1.1), "contradicted"), ((1.0, 1.0, 1.0, 1.0), "undecided")],
)
def test_rome_declines(tmp_path: Path, curve: tuple[float, ...], verdict: str) -> None:
    """P2-2: not steadily, but along a straight line."""
    found = judged("P2-2", run(tmp_path, dict(zip((5, 10, 15, 20), curve))))
    assert (len(found.votes), found.verdict) == (len(TASKS), verdict)


@pytest.mark.parametrize(
    ("kept", "verdict"),
    [((1.0, 0.8, 0.3), "supported"), ((0.3, 0.8, 1.0), "contradicted"), ((0.6, 0.6, 0.6), "undecided")],
)
def test_larger_batches(tmp_path: Path, kept: tuple[float, ...], verdict: str) -> None:
    """P2-3: one batch of each size, a run each."""
    folders = [run(tmp_path, {n: share}, method="memit", batch=n) for n, share in zip((1, 10, 100), kept)]
    found = judged("P2-3", *folders)
    assert (len(found.votes), found.verdict) == (len(TASKS), verdict)


def test_both_hurt(tmp_path: Path) -> None:
    """P2-4: three sizes and two numbers of operations; where sizes do not matter, it is not shown."""
    joint = {2: (0.9, 0.7), 3: (0.7, 0.5), 4: (0.5, 0.3)}
    edits_only = dict.fromkeys(joint, (0.9, 0.5))
    for number, (kept, verdict) in enumerate(((joint, "supported"), (edits_only, "undecided"))):
        folders = [
            run(tmp_path / str(number), {2 * size: few, 4 * size: many}, method="memit", batch=size)
            for size, (few, many) in kept.items()
        ]
        assert judged("P2-4", *folders).verdict == verdict
        single = [run(tmp_path / f"{number}-one", {n: 0.1}, method="memit", batch=n) for n in (2, 3)]
        assert judged("P2-4", *folders, *single).verdict == verdict, "runs of one batch are another matter"
        assert len(judged("P2-3", *folders, *single).votes) == len(TASKS)


@pytest.mark.parametrize(
    ("moved", "verdict"),
    [((0.2, 0.5, 0.7), "supported"), ((0.7, 0.8, 0.9), "contradicted"), ((0.2, 0.5, 0.1), "contradicted")],
)
def test_weights(tmp_path: Path, moved: tuple[float, ...], verdict: str) -> None:
    """P2-5: sparse at first, and growing."""
    health = {n: {"moved_077": m, "moved_171": m / 2, "manhattan": 100 * m} for n, m in zip((1, 5, 10), moved)}
    assert judged("P2-5", run(tmp_path, dict.fromkeys((1, 5, 10), 1.0), moved=health)).verdict == verdict


@pytest.mark.parametrize(
    ("kept", "works", "locality", "verdict"),
    [(0.9, 0.95, 0.95, "supported"), (0.9, 0.5, 0.95, "contradicted"), (0.2, 0.95, 0.95, "contradicted")],
)
def test_rect(tmp_path: Path, kept: float, works: float, locality: float, verdict: str) -> None:
    """P2-6: RECT at 40 % beside the same run without it."""
    plain = run(tmp_path, {10: 0.5}, 0.95)
    clip = run(tmp_path, {10: kept}, works, filter={"name": "rect", "keep": 0.4})
    for folder, share in ((plain, 0.5), (clip, locality)):
        write_records(folder / "scores/00010/locality.parquet", rows("locality", 400, share))
        write_records(
            folder / "scores/00010/efficacy.parquet", rows("efficacy", 400, 0.95 if folder == plain else works)
        )
        (folder / "scores/00010/generalization.parquet").unlink()
    assert judged("P2-6", plain, clip).verdict == verdict
    assert not judged("P2-6", clip).votes


def test_tables_of_findings(tmp_path: Path) -> None:
    found = findings(read([run(tmp_path, {20: 1.0})]))
    table, evidence = findings_table(found), evidence_table(found)
    assert [row["id"] for row in table.rows][:3] == ["4.1a", "4.1b", "4.1c"] and len(table.rows) == 13
    assert {row["verdict"] for row in table.rows} <= {"supported", "contradicted", "undecided"}
    assert all(row["reason"] and row["printed"] for row in table.rows)
    assert [row["vote"] for row in evidence.rows if row["id"] == "4.1a"] == ["for"]
