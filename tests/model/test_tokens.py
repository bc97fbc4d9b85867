"""Tokens of prompts, targets and subjects: the traps of public editing code, with four kinds of tokenizer."""

import copy

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from errata.errors import BadInput, UnsupportedModel
from errata.model.tiny import TEXTS
from errata.model.tokens import (
    ChatPrompt,
    chat_frame,
    encode,
    encode_target,
    own_words,
    pad,
    pad_left,
    preceded_by,
    subject_index,
    subject_tokens,
)
from errata.testing import tiny_tokenizer


def metaspace_tokenizer() -> PreTrainedTokenizerFast:
    """As sentencepiece Llama and Gemma tokenizers: "▁" for a space, one put in front, BOS first."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace()
    octets = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=["<unk>", "<s>", "</s>", *octets], show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def digits_tokenizer() -> PreTrainedTokenizerFast:
    """Single digits as the embedded model's: every piece beside a digit gets a space of its own."""
    tokenizer = tiny_tokenizer(bos=True)
    digits, bytes_ = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, bytes_])
    return tokenizer


TOKENIZERS = {
    "gpt2": tiny_tokenizer(bos=False),
    "llama": tiny_tokenizer(bos=True),
    "metaspace": metaspace_tokenizer(),
    "digits": digits_tokenizer(),
}
every_tokenizer = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)


@every_tokenizer
def test_bos_is_in_front_of_prompts_and_never_in_targets(tokenizer: PreTrainedTokenizerFast) -> None:
    prompt = encode(tokenizer, "The capital of France is")
    ids, n = encode_target(tokenizer, "The capital of France is", "Paris")
    assert (prompt[0] == tokenizer.bos_token_id) == (tokenizer is not TOKENIZERS["gpt2"])
    assert tokenizer.bos_token_id not in ids[1:]
    assert ids[:n] == prompt
    assert tokenizer.decode(ids[n:]).strip() == "Paris"


@every_tokenizer
def test_target_begins_with_the_token_that_holds_the_space(tokenizer: PreTrainedTokenizerFast) -> None:
    ids, n = encode_target(tokenizer, "The Eiffel Tower is in the city of", "Paris")
    first = tokenizer.convert_ids_to_tokens(ids[n])
    assert first[0] in "Ġ▁" and len(first) > 1, "a lone space token in front of the target"
    again, m = encode_target(tokenizer, "The Eiffel Tower is in the city of", " Paris")
    assert (again, m) == (ids, n)


@every_tokenizer
def test_target_is_tokenised_with_its_prompt_and_never_decoded(tokenizer: PreTrainedTokenizerFast) -> None:
    prompt, target = "Marie Curie was born in", "Zürich-Å 1867, 東京"
    ids, n = encode_target(tokenizer, prompt, target)
    assert ids == encode(tokenizer, f"{prompt} {target}")
    assert 0 < n < len(ids)


def test_a_merge_across_the_boundary_belongs_to_the_target() -> None:
    """With a prompt that ends in a space, " Par" is one token: the model predicts it, so it is the target's."""
    tokenizer = TOKENIZERS["gpt2"]
    ids, n = encode_target(tokenizer, "The city of ", "Paris")
    assert ids == encode(tokenizer, "The city of Paris")
    assert ids[: n + 1] != encode(tokenizer, "The city of ")
    assert tokenizer.decode(ids[:n]) == "The city of" and tokenizer.decode(ids[n:]) == " Paris"


def test_empty_target_is_refused() -> None:
    with pytest.raises(BadInput, match="target of 'The capital' is empty"):
        encode_target(TOKENIZERS["gpt2"], "The capital", " ")


@every_tokenizer
@pytest.mark.parametrize(
    ("text", "subject"),
    [
        ("The capital of France is", "France"),
        ("France", "France"),
        ("The mother tongue of Zoë Åström is", "Zoë Åström"),
        ("The mother tongue of Å is", "Å"),
        ("東京 is in", "東京"),
        ("Paris, Paris and Paris again", "Paris"),
        ("Room 101's number", "Room 101"),
        ("Gold (Au) is", "Gold (Au)"),
    ],
)
def test_subject_index_is_the_last_token_of_the_last_occurrence(
    tokenizer: PreTrainedTokenizerFast, text: str, subject: str
) -> None:
    index = subject_index(tokenizer, text, subject)
    ids = encode(tokenizer, text)
    spans = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    end = text.rfind(subject) + len(subject)
    assert spans[index][0] < end <= spans[index][1]
    assert all(start >= end for start, stop in spans[index + 1 :] if stop > start), "a later token is the subject's"
    assert len(ids) == len(spans)


def test_a_letter_of_several_bytes_gives_the_index_of_its_last_byte() -> None:
    tokenizer = TOKENIZERS["gpt2"]
    index = subject_index(tokenizer, "Å is", "Å")
    assert tokenizer.decode(encode(tokenizer, "Å is")[:index]) != "Å"
    assert tokenizer.decode(encode(tokenizer, "Å is")[: index + 1]) == "Å"


def test_bos_moves_the_index_by_one() -> None:
    text, subject = "The capital of France is", "France"
    with_bos, without = (TOKENIZERS[name] for name in ("llama", "gpt2"))
    moved = len(encode(with_bos, "The")) - len(encode(without, "The"))
    assert with_bos.decode(encode(with_bos, text)[subject_index(with_bos, text, subject)]).strip() in subject
    assert moved != 0


def test_index_is_recomputed_in_every_context() -> None:
    tokenizer = TOKENIZERS["llama"]
    bare = subject_index(tokenizer, "The capital of France is", "France")
    later = subject_index(tokenizer, "Because it rains. The capital of France is", "France")
    assert later > bare


def test_whole_words_go_before_parts_of_words() -> None:
    tokenizer = TOKENIZERS["gpt2"]
    text = "The US capital, not of USA, is"
    assert subject_index(tokenizer, text, "US") < subject_index(tokenizer, text, "USA")
    assert subject_index(tokenizer, "The USAs", "USA") > 0


def test_absent_subject_fails_loudly() -> None:
    with pytest.raises(BadInput, match="'Spain' is not in 'The capital of France is'"):
        subject_index(TOKENIZERS["gpt2"], "The capital of France is", "Spain")


def test_a_tokenizer_without_offsets_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(UnsupportedModel, match="Slow gives no character offsets"):
        encode_target(Slow(), "text", "more")  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    before=st.text("abc é東.\n ", max_size=12),
    subject=st.text("Åb東 9", min_size=1, max_size=8),
    after=st.text(max_size=12),
)
def test_subject_is_found_in_any_text(before: str, subject: str, after: str) -> None:
    if not subject.strip():
        return
    text = before + subject + after
    for tokenizer in (TOKENIZERS["gpt2"], TOKENIZERS["llama"], TOKENIZERS["digits"]):
        assert 0 <= subject_index(tokenizer, text, subject) < len(encode(tokenizer, text))


def test_padding_on_the_right_keeps_indices_and_on_the_left_positions() -> None:
    right, left = pad([[5, 6, 7], [8]], 0), pad_left([[5, 6, 7], [8]], 0)
    assert right.ids.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert right.mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert right.positions.tolist() == [[0, 1, 2], [0, 1, 2]]
    assert right.lengths.tolist() == [3, 1]
    assert left.ids.tolist() == [[5, 6, 7], [0, 0, 8]]
    assert left.positions.tolist() == [[0, 1, 2], [0, 0, 0]]
    assert right.ids.dtype == right.mask.dtype == torch.long


def test_a_pad_token_within_a_text_is_text() -> None:
    """Where end of text serves as padding, as in GPT-2, a text may hold it: lengths are counted, not looked for."""
    for batch in (pad([[5, 0, 6, 0], [0]], 0), pad_left([[5, 0, 6, 0], [0]], 0)):
        assert batch.lengths.tolist() == [4, 1] and batch.mask[0].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("rows", [[], [[1], []]])
def test_nothing_to_run_is_refused(rows: list[list[int]]) -> None:
    with pytest.raises(BadInput, match="empty text"):
        pad(rows, 0)


# Chat templates


TEMPLATES = {
    "closed by a line": "{% for m in messages %}[{{ m.role }}] {{ m.content | trim }}\n{% endfor %}"
    "{% if add_generation_prompt %}[user model]\n{% endif %}",
    "with BOS": "{{ bos_token }}{% for m in messages %}[INST] {{ m.content }} [/INST]{% endfor %}",
    "with a date": "Today is {{ date_string }}. The capital of France is old.\n"
    "{% for m in messages %}{{ m.content }}\n{% endfor %}",
}


@pytest.fixture(params=TEMPLATES)
def chatting(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    tokenizer = tiny_tokenizer(bos=True)
    tokenizer.chat_template = TEMPLATES[request.param]
    return tokenizer


def test_a_chat_prompt_has_the_ids_of_transformers(chatting: PreTrainedTokenizerFast) -> None:
    prompt = chat_frame(chatting)("The capital of France is")
    messages = [{"role": "user", "content": "The capital of France is"}]
    known = chatting.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False, date_string="26 Jul 2024"
    )
    assert encode(chatting, prompt) == known
    ids, start = encode_target(chatting, prompt, "Paris")
    assert ids[:start] == known and chatting.decode(ids[start:]).strip() == "Paris"


@pytest.mark.parametrize("subject", ["France", "is", "user", "model"])
def test_a_subject_is_found_in_the_users_words_alone(chatting: PreTrainedTokenizerFast, subject: str) -> None:
    words = f"The capital of {subject} of France is"
    prompt = chat_frame(chatting)(words)
    # Brute force: the tokens that the subject's last place in the message touches.
    place = prompt.start + max(words.rfind(f" {subject} "), words.rfind(f" {subject}")) + 1
    spans = chatting(str(prompt), return_offsets_mapping=True, add_special_tokens=False)["offset_mapping"]
    touched = [i for i, (a, b) in enumerate(spans) if a < place + len(subject) and b > place]
    assert subject_tokens(chatting, prompt, subject) == touched
    assert subject_index(chatting, prompt, subject) == touched[-1]


def test_a_subject_of_the_template_is_not_one_of_the_prompt(chatting: PreTrainedTokenizerFast) -> None:
    for absent in ("user", "INST", "Today"):
        with pytest.raises(BadInput, match=f"{absent}.*is not in 'The sky is'"):
            subject_index(chatting, chat_frame(chatting)("The sky is"), absent)


def test_a_context_goes_before_the_users_words(chatting: PreTrainedTokenizerFast) -> None:
    frame = chat_frame(chatting)
    moved = preceded_by("So be it. ", frame("The sky is"))
    assert moved == frame("So be it. The sky is") and own_words(moved) == "So be it. The sky is"
    assert subject_index(chatting, moved, "sky") > subject_index(chatting, frame("The sky is"), "sky")
    assert preceded_by("So. ", "The sky is") == "So. The sky is" and own_words("The sky is") == "The sky is"


def test_a_chat_prompt_survives_copies(chatting: PreTrainedTokenizerFast) -> None:
    prompt = chat_frame(chatting)("The sky is")
    again = copy.deepcopy(prompt)
    assert isinstance(again, ChatPrompt) and (again, again.start, again.end) == (prompt, prompt.start, prompt.end)


def test_a_tokenizer_without_template_is_refused() -> None:
    with pytest.raises(BadInput, match="no chat template"):
        chat_frame(tiny_tokenizer(bos=True))


def test_a_text_that_begins_with_bos_gets_no_other() -> None:
    tokenizer = TOKENIZERS["llama"]
    assert encode(tokenizer, "<s>The sky is").count(tokenizer.bos_token_id) == 1


def test_ids_are_those_of_the_tokenizer_whatever_was_set_on_it() -> None:
    tokenizer = tiny_tokenizer(bos=True)
    for text in ("The capital of France is", "<s> Paris", " Å  x", ""):
        expected = tokenizer(text, add_special_tokens=not text.startswith("<s>"))["input_ids"]
        assert encode(tokenizer, text) == expected
        tokenizer([text, text + " longer"], padding=True, truncation=True, max_length=3)
        assert encode(tokenizer, text) == expected
