"""What a set of edits holds and lacks, counted by hand."""

from errata.data.survey import survey
from errata.types import EditCase, EditRequest, Probe


def case(name: str, subject: str, target: str, true: str | None = None, **parts: object) -> EditCase:
    return EditCase(EditRequest(name, f"The capital of {subject} is", subject, target, true), **parts)  # type: ignore[arg-type]


CASES = [
    case("a", "France", "Lyon", "Paris", paraphrases=("x", "y"), neighbours=(Probe("p", "q"),)),
    case("b", "Spain", "Toledo", portability=(Probe("p", "q", "alias"), Probe("p", "q", "one_hop"), Probe("p", "q"))),
    case("c", "France", "Bonn", group="g", portability=(Probe("p", "q", "one_hop"),)),
    case("d", "Spain", "Toledo", group="g"),
    case("e", "France", "Oslo"),
]


def test_counts() -> None:
    found = survey(iter(CASES))
    assert [each.request for each in found.cases] == [each.request for each in CASES]
    assert found.lacking == {"target_true": 4, "paraphrases": 4, "neighbours": 4, "portability": 3}
    assert found.probes == {"paraphrases": 2, "neighbours": 1, "portability": 4}
    assert found.portability == {"alias": 1, "one_hop": 2, "": 1} and found.groups == 1


def test_what_is_asked_again() -> None:
    found = survey(CASES)
    names = [
        [(early.request.id, late.request.id) for early, late in pairs]
        for pairs in (found.contradictory, found.repeated)
    ]
    assert names == [[("a", "c"), ("a", "e")], [("b", "d")]]


def test_probes_are_not_kept() -> None:
    assert not any(each.paraphrases or each.neighbours or each.portability for each in survey(CASES).cases)


def test_nothing() -> None:
    found = survey([])
    assert not found.cases and not any(found.lacking.values()) and not found.contradictory
