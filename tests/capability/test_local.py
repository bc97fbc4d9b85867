"""Our harness model gives the answers of the harness' own `hf` model."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lm_eval.api.registry import get_model
from lm_eval.models.huggingface import HFLM

from errata.capability.local import ErrataLM, GeneratedText
from errata.errors import BadInput
from errata.model.editable import EditableModel
from errata.model.tiny import TEXTS, tiny_model

FAMILIES = ("llama", "gpt2", "gemma2", "gpt_neox")


def requests(*args: tuple[Any, ...]) -> list[Any]:
    return [SimpleNamespace(args=arg, task_name="t") for arg in args]


def reference(model: EditableModel) -> HFLM:
    return HFLM(pretrained=model.model, tokenizer=model.tokenizer, batch_size=4, device="cpu")


QUESTIONS = requests(
    *((f"{text}\nAnswer:", f" {letter}") for text in TEXTS for letter in "ABCD"),
    ("The capital of France is", " Paris"),
    ("The capital of France is", " Paris in Germany"),
    ("The capital of France is ", "Berlin"),
    ("", "The capital"),
    ("long " * 300, " Paris"),
    ("The capital of France is", " Paris"),
)


@pytest.mark.parametrize("family", FAMILIES)
def test_loglikelihood(family: str) -> None:
    model = tiny_model(family)
    theirs = reference(model).loglikelihood(QUESTIONS, disable_tqdm=True)
    ours = ErrataLM(model).loglikelihood(QUESTIONS)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]
    assert [value for value, _ in ours] == pytest.approx([value for value, _ in theirs], abs=1e-4)


def test_letters_share_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = tiny_model("llama"), []
    forward = model.model.forward
    monkeypatch.setattr(model.model, "forward", lambda **kw: seen.append(kw["input_ids"].shape[0]) or forward(**kw))
    ErrataLM(model).loglikelihood(requests(*((text, mark) for text in TEXTS for mark in "!?;#")))
    assert sum(seen) == len(TEXTS)


@pytest.mark.parametrize("family", FAMILIES)
def test_rolling(family: str) -> None:
    model = tiny_model(family)
    texts = requests((TEXTS[0],), (" ".join(TEXTS) * 6,), ("a",))
    theirs = reference(model).loglikelihood_rolling(texts, disable_tqdm=True)
    assert ErrataLM(model).loglikelihood_rolling(texts) == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_generation(family: str) -> None:
    model = tiny_model(family)
    kwargs = ({"until": ["\n", "e"], "max_gen_toks": 12}, {"until": "the", "max_gen_toks": 20, "do_sample": False})
    asked = requests(*((text[: 20 + 9 * n], kwargs[n % 2]) for n, text in enumerate(TEXTS * 2)))
    theirs = reference(model).generate_until(asked, disable_tqdm=True)
    ours = ErrataLM(model).generate_until(asked)
    assert ours == theirs
    assert all(isinstance(text, GeneratedText) for text in ours)


def test_long_prompts_are_cut_on_the_left() -> None:
    model = tiny_model("llama")
    (text,) = ErrataLM(model).generate_until(requests(("word " * 400 + TEXTS[0], {"until": [], "max_gen_toks": 8})))
    assert isinstance(text, str)


def test_sampling_is_refused() -> None:
    with pytest.raises(BadInput, match="greedily"):
        ErrataLM(tiny_model("gpt2")).generate_until(requests(("a", {"do_sample": True, "temperature": 1.0})))


def test_what_is_not_finite_is_said() -> None:
    model = tiny_model("llama")
    model.model.model.norm.weight.data.fill_(torch.nan)
    lm = ErrataLM(model)
    value, greedy = lm.loglikelihood(requests(("a", " b")))[0]
    assert value != value and not greedy
    (text,) = lm.generate_until(requests(("a", {"until": ["\n"], "max_gen_toks": 4})))
    assert isinstance(text, GeneratedText) and not text.finite


def test_every_request_is_counted() -> None:
    answered: list[int] = []
    lm = ErrataLM(tiny_model("llama"), advance=answered.append)
    lm.loglikelihood(QUESTIONS)
    assert sum(answered) == len(QUESTIONS)
    lm.generate_until(requests(("a", {"max_gen_toks": 2}), ("b", {"max_gen_toks": 2})))
    assert sum(answered) == len(QUESTIONS) + 2


def test_the_harness_finds_it_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # the harness names a GPU all the same
    model = tiny_model("llama")
    model.model.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    lm = get_model("errata").create_from_arg_string(f"pretrained={tmp_path}", {"batch_size": 4, "device": "cuda:0"})
    assert lm.loglikelihood(QUESTIONS) == ErrataLM(model).loglikelihood(QUESTIONS)


def test_chat_template() -> None:
    lm = ErrataLM(tiny_model("llama"))
    turns = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}"
    lm.tokenizer.chat_template = "<s>" + turns + "{% if add_generation_prompt %} [bot]{% endif %}"
    text = lm.apply_chat_template([{"role": "user", "content": "hi"}])
    assert text == "<s>[user] hi [bot]"
    assert lm.tok_encode(text).count(lm.prefix_token_id) == 1
