"""Random models of published shapes, with text that they can read, and facts to write into them."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from errata.atlas.corpus import corpus_texts
from errata.atlas.world import cases
from errata.model.editable import EditableModel
from errata.types import EditRequest

END = "<|endoftext|>"
SYLLABLES = "bcdfghjklmnprstvwz", "aeiou"


@dataclass(frozen=True)
class Shape:
    """A shape of the GPT-2 family. edited: layers that methods of several layers write, the last one for ROME."""

    layers: int
    width: int
    vocabulary: int
    edited: tuple[int, ...]

    @property
    def inner(self) -> int:
        """d_in of the edited matrices."""
        return 4 * self.width

    @property
    def layer_weights(self) -> int:
        """Of the four matrices of a layer."""
        return 12 * self.width**2

    @property
    def head_weights(self) -> int:
        return self.vocabulary * self.width


TINY = Shape(4, 64, 2_000, (0, 1))
# The published layers of GPT-2 XL, 13 to 17 of 48, at the same share of the depth.
SMALL = Shape(12, 768, 50_257, (1, 2, 3, 4, 5))
XL = Shape(48, 1600, 50_257, (13, 14, 15, 16, 17))


def random_model(shape: Shape, seed: int = 0) -> EditableModel:
    """A model with weights as they are before training, float32."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = GPT2Config(
            n_layer=shape.layers, n_embd=shape.width, n_head=max(1, shape.width // 64), vocab_size=shape.vocabulary,
            bos_token_id=0, eos_token_id=0,
        )  # fmt: skip
        model = GPT2LMHeadModel(config)
    return EditableModel(model, tokenizer(shape.vocabulary), f"random-gpt2-{shape.layers}x{shape.width}")


@cache
def tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE whose merges are those of the world's text and of made-up words, as many as are wanted."""
    built = Tokenizer(models.BPE())
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        min_frequency=1,
    )
    built.train_from_iterator([*islice(corpus_texts(), 1000), *texts(2 * vocabulary)], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=built, bos_token=END, eos_token=END)


def texts(words: int, seed: int = 0) -> Iterator[str]:
    """So many made-up words, a hundred in each text."""
    rng = random.Random(seed)
    for _ in range(0, words, 100):
        yield " ".join(_word(rng) for _ in range(100))


def _word(rng: random.Random) -> str:
    return "".join(rng.choice(letters) for _ in range(rng.randint(2, 4)) for letters in SYLLABLES)


def requests(count: int) -> list[EditRequest]:
    """Facts of the embedded world, each in another of its phrasings, so that subjects stand near the end and far."""
    found = cases(count)
    return [replace(case.request, prompt=case.phrasings[i % len(case.phrasings)]) for i, case in enumerate(found)]


def moment(d_in: int, seed: int = 0) -> Tensor:
    """A second moment (d_in, d_in), float32: variances over four orders of magnitude, and shared directions."""
    generator = torch.Generator().manual_seed(seed)
    spectrum = torch.logspace(-4, 0, d_in)[torch.randperm(d_in, generator=generator)]
    mixed = torch.randn(d_in // 8, d_in, generator=generator) * spectrum.sqrt()
    return torch.diag(spectrum) + mixed.T @ mixed / len(mixed)
