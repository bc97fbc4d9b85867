"""Output that is no text, told from text."""

from math import log2

import pytest

from errata.stats.texts import FEWEST, Reference, is_looping, muting

SUMS = [(a, b, a + b) for a in range(2, 9) for b in (3, 8, 11)]
ANSWERS = [f"{a} + {b} = {c}. {c} - 1 = {c - 1}. The answer is {c - 1}." for a, b, c in SUMS]


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference(ANSWERS)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("4. 4. 4. 4. 4. 4. 4. 4. 4.8. 4.8. 4.8.", "repeating"),
        ("is and the is and the is and the is and the is and the", "repeating"),
        ("a b c d a b c e a b c d a b c e a b c d a b c e a b c", "repeating"),
        ("...", "random"),
        ("Cong in C*C *C* qx zv the j] w§ kq", "random"),
        ("9 + 12 = 21. 21 - 1 = 20. The answer is 20.", None),
        ("The answer is 5.", None),
    ],
)
def test_kinds_of_muting(text: str, kind: str | None, reference: Reference) -> None:
    assert muting(text, reference) == kind


def test_no_text_that_a_reference_is_made_of_is_mute(reference: Reference) -> None:
    assert [muting(text, reference) for text in ANSWERS] == [None] * len(ANSWERS)


def test_a_letter_that_was_never_the_answer_is_text() -> None:
    letters = Reference(["A", "B"] * 20)
    assert muting("E", letters) is None and muting("(E)", letters) is None and muting("§", letters) == "random"
    assert muting("qx zv the j]", letters) == "random"


def test_too_few_texts_say_nothing_of_what_is_random() -> None:
    few = Reference(ANSWERS[: FEWEST - 1])
    assert few.limit is None and muting("qx zv the j] w§ kq", few) is None
    assert muting("qx zv", None) is None and muting("", None) == "empty"


def test_bits_are_those_of_the_trigrams() -> None:
    """By hand: of "ab" three characters at a time after two line breaks, among ten equal texts."""
    reference = Reference(["ab"] * 10)
    alphabet = 3
    seen = (10 + 0.5 / alphabet) / 10.5
    assert reference.bits("ab") == pytest.approx(-log2(seen))
    assert reference.bits("zz") == pytest.approx(-(log2((0.5 / alphabet) / 10.5) + log2(1 / alphabet)) / 2)


@pytest.mark.parametrize(
    ("text", "looping"),
    [
        (" Lyon Lyon Lyon Lyon Lyon Lyon", True),
        ("the the the the the end of it all, as it was told", False),
        ("4. 4. 4. 4. 4. 4.", True),
        ("aaaaaaaaaaaaaaaa", True),
        (" Paris is the capital of France. It is large.", False),
        ("no no no", False),
        ("", False),
    ],
)
def test_looping(text: str, looping: bool) -> None:
    assert is_looping(text) is looping
