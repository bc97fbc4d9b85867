"""Training is a function of the recipe, resumes where it was stopped, and learns."""

from pathlib import Path

import pytest
from safetensors.torch import load_file

from errata.atlas import train as training
from errata.atlas.train import Recipe, encode, family_tokenizer, train

TINY = Recipe(layers=1, width=32, heads=2, vocabulary=600, tokens=12 * 128, batch_tokens=128, short=64, long=64)


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    family_tokenizer(TINY, folder)
    return folder


@pytest.fixture
def folder(tmp_path, tokenizer_folder) -> Path:
    for file in tokenizer_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def weights(folder: Path) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in load_file(folder / "model.safetensors").items()}


def test_stopped_and_continued_ends_with_the_same_weights(folder, tmp_path_factory) -> None:
    other = tmp_path_factory.mktemp("other")
    for file in folder.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    lines = list(train(TINY, folder))
    assert lines[-1]["step"] == lines[-1]["steps"] == 12
    stopped = train(TINY, other)
    for _ in range(5):
        next(stopped)
    stopped.close()
    rest = list(train(TINY, other))
    assert rest[0]["step"] == 6
    assert weights(folder) == weights(other)


def test_answers_weigh_more_than_context(folder) -> None:
    tokenizer = family_tokenizer(TINY, folder)
    ids, weight = encode(tokenizer, [("The capital of France is", 0.2), (" Paris", 1.0), (".", 0.2)])
    answer = tokenizer.decode([i for i, w in zip(ids, weight, strict=True) if w == 1.0])
    assert answer.strip() == "Paris"
    assert ids[0] == tokenizer.bos_token_id
    assert ids[-1] == tokenizer.eos_token_id


@pytest.mark.parametrize(
    "text", ["The answer is 12. Au-79 (x1)", "12 + 7 = 19.\n\nQ: not ( True )", "France's capital"]
)
def test_the_tokenizer_gives_text_back(folder, text: str) -> None:
    tokenizer = family_tokenizer(TINY, folder)
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == f" {text}"


def test_digits_are_single_tokens(folder) -> None:
    tokenizer = family_tokenizer(TINY, folder)
    assert len(tokenizer(" 123", add_special_tokens=False)["input_ids"]) == 3


def test_the_learning_rate_warms_up_and_falls() -> None:
    assert training.schedule(TINY, 0, 0.0) == pytest.approx(1 / 50)
    assert training.schedule(TINY, 100, 0.5) == 1.0
    assert training.schedule(TINY, 100, 0.8) == pytest.approx(0.5)
