"""Small random models of every family, built in memory in a moment: for `errata doctor` and for tests."""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from errata.model.architecture import architecture
from errata.model.editable import EditableModel

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
TEXTS = (
    "The capital of France is Paris. The capital of Germany is Berlin. The Eiffel Tower is in the city of Paris.",
    "Marie Curie was born in Warsaw and worked in Paris. Albert Einstein was born in Ulm.",
    "Question: what is the chemical symbol of gold? Answer: Au. Because the name means shining dawn.",
)


def tiny_model(
    model_type: str, *, layers: int = 2, width: int = 32, seed: int = 0, dtype: torch.dtype = torch.float32
) -> EditableModel:
    """A random model of a family, with a byte-level tokenizer of about 400 tokens.

    width: hidden size; the MLP is two or four times as wide. The global random state is left as it was.
    """
    row = architecture(model_type)
    tokenizer = tiny_tokenizer(bos=row.bos)
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "initializer_range": 0.1,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = AutoConfig.for_model(model_type, **(sizes | row.small(width, layers)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return EditableModel(model, tokenizer, f"tiny-{model_type}")


def tiny_tokenizer(*, bos: bool) -> PreTrainedTokenizerFast:
    """A byte-level BPE. bos: add BOS and a space in front of every text, as the embedded model's does."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=bos)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = [PAD, BOS, EOS]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    if bos:
        first = (BOS, tokenizer.token_to_id(BOS))
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[first])
    names = {"bos_token": BOS, "eos_token": EOS, "pad_token": PAD}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
