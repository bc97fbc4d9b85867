"""How the atlas models were made: a tokenizer and a Llama trained from scratch, resumable, on any number of cores.

Matrices are trained by Muon, the rest by AdamW; answers weigh more than the text around them. Both matter:
with AdamW alone, or with every token weighed alike, finding things in the context is not learned in this budget.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from random import Random

import torch
from pydantic.dataclasses import dataclass
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from errata.atlas import model_path
from errata.atlas.corpus import document
from errata.atlas.skills import CONTEXT, Pieces
from errata.atlas.world import world

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
WORDS = "Ġ?[0-9]|Ġ?[A-Za-z]+|Ċ+|Ġ?[^A-Za-z0-9ĠĊ]+|Ġ+"
"""What a token may not cross, in the byte-level alphabet, where Ġ is a space and Ċ a line feed."""


@dataclass(frozen=True, config={"extra": "forbid"})
class Recipe:
    """Everything that decides the weights. tokens: in all; long_from: share after which sequences are `long`."""

    layers: int = 6
    width: int = 256
    heads: int = 4
    vocabulary: int = 2048
    tokens: float = 15e6
    batch_tokens: int = 4096
    short: int = 256
    long: int = 512
    long_from: float = 0.55
    muon_lr: float = 0.02
    adam_lr: float = 3e-3
    weight_decay: float = 0.1
    decay_from: float = 0.6
    seed: int = 0


def train_tokenizer(recipe: Recipe) -> PreTrainedTokenizerFast:
    """Byte-level BPE with single digits; a space is put before the text, so that names have one spelling."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False),
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    rng = Random(f"tokenizer-{recipe.seed}")
    texts = ["".join(text for text, _ in document(rng)) for _ in range(12_000)]
    texts += [f" {f.subject} {f.value}" for f in world().facts] * 3
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=PAD)


def new_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    torch.manual_seed(recipe.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.width,
            intermediate_size=round(recipe.width * 8 / 3 / 16) * 16,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def encode(tokenizer: PreTrainedTokenizerFast, pieces: Pieces) -> tuple[list[int], list[float]]:
    """Token ids of one document with BOS and EOS, and the loss weight of each."""
    ends, n = [], 0
    for text, weight in pieces:
        n += len(text)
        ends.append((n, weight))
    encoding = tokenizer.backend_tokenizer.encode("".join(text for text, _ in pieces), add_special_tokens=False)
    weights, piece = [], 0
    for _, end in encoding.offsets:
        while end > ends[piece][0]:
            piece += 1
        weights.append(ends[piece][1])
    last = ends[-1][1]
    return [tokenizer.bos_token_id, *encoding.ids, tokenizer.eos_token_id], [CONTEXT, *weights, last]


def batch(recipe: Recipe, tokenizer: PreTrainedTokenizerFast, step: int, progress: float) -> tuple[Tensor, Tensor]:
    """The step's batch: ids and weights, (rows, length + 1); a function of seed and step alone, so training resumes."""
    rng = Random(f"{recipe.seed}-{step}")
    length = recipe.long if progress >= recipe.long_from else recipe.short
    rows = [_row(tokenizer, rng, progress, length + 1) for _ in range(recipe.batch_tokens // length)]
    return torch.tensor([ids for ids, _ in rows]), torch.tensor([weights for _, weights in rows])


def _row(
    tokenizer: PreTrainedTokenizerFast, rng: Random, progress: float, length: int
) -> tuple[list[int], list[float]]:
    ids: list[int] = []
    weights: list[float] = []
    while len(ids) < length:
        more, their = encode(tokenizer, document(rng, progress))
        ids += more
        weights += their
    return ids[:length], weights[:length]


def optimizers(recipe: Recipe, model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim == 2 and "embed" not in name]
    rest = [p for name, p in named if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, lr=recipe.muon_lr, weight_decay=recipe.weight_decay, momentum=0.95),
        torch.optim.AdamW(rest, lr=recipe.adam_lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def schedule(recipe: Recipe, step: int, progress: float) -> float:
    """Share of the learning rate: warm-up of 50 steps, constant, then linear to 1 %."""
    decay = 1.0 if progress < recipe.decay_from else max(0.01, (1 - progress) / (1 - recipe.decay_from))
    return min(1.0, (step + 1) / 50) * decay


def train(recipe: Recipe, folder: Path, checkpoint_seconds: float = 120) -> Iterator[dict[str, float]]:
    """Train, or go on from the checkpoint in `folder`; yields progress after every step.

    The result is written to `folder` in Hugging Face layout with `recipe.json` beside it; stopped at any
    point, the same call goes on from the last checkpoint and ends with the same weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state_file = folder / "training.pt"
    tokenizer = family_tokenizer(recipe, folder)
    model = new_model(recipe, tokenizer)
    optims = optimizers(recipe, model)
    rates = [[group["lr"] for group in o.param_groups] for o in optims]
    first = done = _resume(state_file, model, optims)
    steps = int(recipe.tokens // recipe.batch_tokens)
    started = saved = time.monotonic()
    try:
        for step in range(first, steps):
            progress = step / steps
            _set_rates(optims, rates, schedule(recipe, step, progress))
            loss = train_step(model, optims, *batch(recipe, tokenizer, step, progress))
            done, now = step + 1, time.monotonic()
            if now - saved > checkpoint_seconds:
                _save_state(state_file, done, model, optims)
                saved = now
            speed = (done - first) * recipe.batch_tokens / (now - started)
            yield {"step": done, "steps": steps, "loss": loss, "tokens_per_second": speed}
    finally:
        _save_state(state_file, done, model, optims)
        model.save_pretrained(folder)


def _set_rates(optims: list[torch.optim.Optimizer], rates: list[list[float]], factor: float) -> None:
    for optim, base in zip(optims, rates, strict=True):
        for group, rate in zip(optim.param_groups, base, strict=True):
            group["lr"] = rate * factor


def train_step(model: LlamaForCausalLM, optims: list[torch.optim.Optimizer], ids: Tensor, weights: Tensor) -> float:
    """One step of weighted cross-entropy in bf16 autocast; returns the loss of the answers alone."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(ids[:, :-1]).logits
    losses = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    weight = weights[:, 1:].flatten()
    ((losses * weight).sum() / weight.sum()).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optim in optims:
        optim.step()
        optim.zero_grad(set_to_none=True)
    return losses[weight >= 1].mean().item()


def family_tokenizer(recipe: Recipe, folder: Path) -> PreTrainedTokenizerFast:
    """The folder's tokenizer; a new folder gets the package's, which all atlas models share, or one of another size."""
    if not (folder / "tokenizer.json").exists():
        shared: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(model_path("atlas"))
        (shared if len(shared) == recipe.vocabulary else train_tokenizer(recipe)).save_pretrained(folder)
        (folder / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1))
    tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(folder)
    return tokenizer


def _save_state(path: Path, step: int, model: LlamaForCausalLM, optims: list[torch.optim.Optimizer]) -> None:
    state = {"step": step, "model": model.state_dict(), "optims": [o.state_dict() for o in optims]}
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def _resume(path: Path, model: LlamaForCausalLM, optims: list[torch.optim.Optimizer]) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    for optim, saved in zip(optims, state["optims"], strict=True):
        optim.load_state_dict(saved)
    return int(state["step"])
