"""Texts of edits: a fact ends in one full stop, however its answer was given."""

from dataclasses import replace
from typing import Any

import pytest

from editors.serac_trained import WithTrained, learned
from errata.editors.ike import Ike
from errata.editors.serac import _behind
from errata.model.tokens import encode
from errata.testing import tiny_model
from errata.types import EditRequest
from errata.update.notes import Notes
from errata.update.texts import ended, sentence

FRANCE = EditRequest("1", "The capital of France is", "France", "Rome", "Paris")


@pytest.mark.parametrize(
    ("answer", "told"), [("Rome", "Rome."), ("Rome.", "Rome."), ("Rome. ", "Rome."), ("U.S.", "U.S.")]
)
def test_an_answer_ends_in_one_full_stop(answer: str, told: str) -> None:
    assert ended(answer) == told
    assert sentence("It is", answer) == f"It is {told}\n"


@pytest.mark.parametrize("editor", [Ike(1, contexts=((4, 6),)), WithTrained(learned())], ids=["ike", "serac"])
def test_a_full_stop_in_the_answer_changes_nothing_that_a_prompt_is_given(editor: Any) -> None:
    model = tiny_model("llama")
    prompt, given = tuple(encode(model.tokenizer, FRANCE.prompt)), []
    for answer in ("Rome", "Rome."):
        model.attach([editor.edit(model, [replace(FRANCE, target_new=answer)], {}, None).update])
        given.append(model.routed([prompt], [4])[0].ids)
    assert given[0] == given[1] != prompt


def test_demonstrations_and_training_texts_have_one_full_stop_too() -> None:
    model = tiny_model("llama")
    dotted = replace(FRANCE, target_new="Rome.", target_true="Paris.")
    update = Ike(1, contexts=((4, 6),), demonstrations=2).edit(model, [dotted] * 3, {}, None).update  # type: ignore[arg-type]
    assert isinstance(update, Notes) and ".." not in update.context([0, 1, 2])
    assert _behind(model, dotted, "Where is Rome?") == _behind(model, FRANCE, "Where is Rome?")
