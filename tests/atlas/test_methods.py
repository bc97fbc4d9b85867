"""What `errata atlas methods` runs, and the page that it writes."""

import pytest

from errata.atlas.methods import EDITS, ORDERS, learn, page, plan, rows
from errata.atlas.world import cases
from errata.errors import BadInput
from errata.registry import editors
from errata.report.formats import Column, Table


def test_every_method_is_run_in_every_order() -> None:
    configs = plan(rows(), quick=False, orders=3)
    assert {(c.method, c.seed) for c in configs} == {(name, order) for name in editors() for order in ORDERS}
    assert {c.method for c in configs if c.preset} == {"grace", "kn", "mend", "pmet", "rome"}
    assert [c.options for c in configs if c.method == "memit"] == [{}, {"history": True}] * 3
    assert all(c.edits == [0, *EDITS] and c.stop_at_collapse and c.batch == 1 for c in configs)


def test_quick_is_smaller_and_variants_are_methods() -> None:
    (config,) = plan([("rome:released", {})], quick=True, orders=1)
    assert (config.method, config.preset) == ("rome", "released") and max(config.edits) < max(EDITS)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [("rmoe", {}, "rome"), ("ft:released", {}, "has none"), ("memit", {"histroy": True}, "history")],
)
def test_what_is_no_method(name: str, options: dict[str, bool], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        plan([(name, options)], quick=True, orders=1)


def test_nothing_is_learned_from_edits_that_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    taught: list[set[str]] = []
    monkeypatch.setattr("errata.model.loading.load", lambda name: name)
    monkeypatch.setattr(
        "errata.training.train", lambda model, found, method, **_: taught.append({c.request.id for c in found})
    )
    learn(["rome", "mend"])
    (ids,) = taught
    made = {case.request.id for order in ORDERS for case in cases(max(EDITS), seed=order)}
    assert len(ids) > 1000 and not ids & made


def test_the_page_says_how_it_was_made() -> None:
    table = Table(
        "methods", "Methods on the same edits", "What is what.", (Column("Edits", "count", ("n",)),), ({"n": 7},)
    )
    text = page(table, "--quick")
    assert text.startswith("# Methods on the same edits") and "`errata atlas methods --quick`" in text
    assert "| 7 |" in text and "What is what." in text
