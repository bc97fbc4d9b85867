"""The facts of atlas and the edits to make in them."""

from collections import Counter

import pytest

from errata.atlas.world import STYLES, cases, known_case, world


def test_enough_facts_real_and_invented() -> None:
    real = Counter(fact.real for fact in world().facts)
    assert real[True] >= 500
    assert real[False] >= 4000


def test_every_fact_is_asked_once() -> None:
    keys = [(fact.subject, fact.relation) for fact in world().facts]
    assert len(keys) == len(set(keys))


def test_known_facts() -> None:
    known = {(f.subject, f.relation): f.value for f in world().facts}
    assert known["France", "country capital"] == "Paris"
    assert known["gold", "element symbol"] == "Au"
    assert known["Eiffel Tower", "landmark city"] == "Paris"


@pytest.mark.parametrize("relation", world().relations.values(), ids=lambda r: f"{r.kind}-{r.name}")
def test_held_out_phrasings_are_not_trained(relation) -> None:
    trained, held_out = set(relation.trained("X")), set(relation.paraphrases("X"))
    assert len(trained) == len(STYLES) - 2
    assert len(held_out) == 2
    assert not trained & held_out


def test_a_held_out_style_is_trained_in_other_relations() -> None:
    def say(style: str, relation) -> str:
        return style.format(noun=relation.noun, verb=relation.verb, x="X")

    for style in STYLES:
        assert any(say(style, r) in r.trained("X") for r in world().relations.values())


def test_a_thousand_edits_have_a_thousand_subjects_and_leave_most_facts_alone() -> None:
    chosen = cases(1000)
    assert len({case.request.subject for case in chosen}) == 1000
    assert len(world().facts) > 4000 + 1000


def test_edits_are_nested_and_seeded() -> None:
    assert cases(20) == cases(50)[:20]
    assert cases(20) != cases(20, seed=1)


def test_targets_are_wrong_and_neighbours_tell_them_apart() -> None:
    facts = {(f.subject, f.relation): f.value for f in world().facts}
    for case in cases(200):
        request = case.request
        assert request.target_new != request.target_true
        assert len(case.paraphrases) == 2
        assert len(case.neighbours) == 4
        for neighbour in case.neighbours:
            assert request.subject not in neighbour.prompt.split()
            assert neighbour.answer != request.target_new
            assert neighbour.answer in facts.values()


def test_questions_that_follow_from_the_new_answer() -> None:
    """Each is answered by walking the facts from the new answer, word by word from the innermost noun outwards."""
    nouns = {(f.subject, world().relations[f.relation].noun): f.value for f in world().facts}
    symbols = {f.value: f.subject for f in world().facts if f.relation == "element symbol"}
    kinds: Counter[str] = Counter()
    for case in cases(1500):
        request = case.request
        for probe in case.portability:
            kinds[probe.kind] += 1
            if probe.kind == "alias":
                (symbol,) = [word for word in probe.prompt.split() if symbols.get(word) == request.subject]
                assert probe.answer == request.target_new
                assert probe.prompt == request.prompt.replace(request.subject, symbol)
                continue
            *steps, _ = probe.prompt.removeprefix("The ").removesuffix(f" of {request.subject} is").split(" of the ")
            reached = request.target_new
            for noun in reversed(steps):
                reached = nouns[reached, noun]
            assert (probe.answer, len(steps)) == (reached, {"one_hop": 1, "two_hop": 2}[probe.kind])
    assert set(kinds) == {"alias", "one_hop", "two_hop"} and min(kinds.values()) > 20, kinds


def test_a_known_case_is_found_by_any_phrasing() -> None:
    by_id = {case.request.id: case for case in cases()}
    found = known_case("The capital of France is", "France")
    assert found is not None and found == by_id[found.request.id]
    assert all(known_case(prompt, "France") == found for prompt in found.paraphrases)
    assert known_case("The capital of France is", "Spain") is None
    assert known_case("The weather in France is", "France") is None
