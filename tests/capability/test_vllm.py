"""vLLM as the engine: the rows of the local one, from the merged weights alone.

Most tests put a slow stand-in in vLLM's place. Those marked `vllm` need the real one: make test-vllm
"""

import math
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from errata.capability.harness import answering, evaluate
from errata.capability.local import ErrataLM, GeneratedText
from errata.capability.vllm import check_engine, served
from errata.errors import BadInput
from errata.model.editable import EditableModel
from errata.model.tiny import TEXTS, tiny_model
from errata.model.tokens import encode
from errata.update.delta import WeightDelta
from errata.update.session import EditSession

NAMES = ("atlas_mmlu", "atlas_bbh", "atlas_gsm8k", "atlas_reading", "atlas_toxigen")


class StandIn:
    """`vllm.LLM` as far as it is used here: every token from the whole text again, one prompt at a time."""

    begun: "list[StandIn]" = []  # noqa: RUF012

    def __init__(self, model: str, dtype: str, max_model_len: int, **options: Any) -> None:
        self.folder, self.limit, self.options = Path(model), max_model_len, options
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=dtype)
        self.tokenizer = AutoTokenizer.from_pretrained(model)
        self.stopped = False
        self.llm_engine = SimpleNamespace(engine_core=SimpleNamespace(shutdown=self._stop))
        self.begun.append(self)

    def _stop(self) -> None:
        self.stopped = True

    def generate(self, prompts: Sequence[Mapping[str, Any]], params: Any, use_tqdm: bool) -> list[Any]:
        assert not use_tqdm and params.temperature == 0 and not self.stopped
        return [self._one(list(prompt["prompt_token_ids"]), params) for prompt in prompts]

    def _one(self, ids: list[int], params: Any) -> Any:
        assert 0 < len(ids) < self.limit, "vLLM refuses a prompt that leaves no room for a token"
        scores = self._log_probs(ids)
        known = [None, *(told(row, token) for row, token in zip(scores, ids[1:], strict=False))]
        answer = self._answer(ids, params)
        return SimpleNamespace(prompt_token_ids=ids, prompt_logprobs=known, outputs=[answer])

    def _answer(self, ids: list[int], params: Any) -> Any:
        chosen: list[int] = []
        found, text, reason = [], "", "length"
        while len(chosen) < params.max_tokens and len(ids) + len(chosen) < self.limit and reason == "length":
            last = self._log_probs([*ids, *chosen])[-1]
            chosen.append(int(last.argmax()))
            found.append(told(last, chosen[-1]))
            text = self.tokenizer.decode(chosen, skip_special_tokens=True)
            ends = [text.index(end) for end in vars(params).get("stop", []) if end in text]
            if ends or chosen[-1] == self.tokenizer.eos_token_id:
                text, reason = text[: min(ends, default=len(text))], "stop"
        return SimpleNamespace(text=text, token_ids=chosen, logprobs=found, finish_reason=reason)

    @torch.no_grad()
    def _log_probs(self, ids: list[int]) -> torch.Tensor:
        scores: torch.Tensor = self.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        return scores


def told(log_probs: torch.Tensor, token: int) -> dict[int, Any]:
    """What vLLM says of one token."""
    own = log_probs[token]
    return {token: SimpleNamespace(logprob=float(own), rank=int((log_probs >= own).sum()))}


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> list[StandIn]:
    module = ModuleType("vllm")
    module.__spec__ = ModuleSpec("vllm", None)
    vars(module).update(LLM=StandIn, SamplingParams=SimpleNamespace, TokensPrompt=dict)
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setattr(StandIn, "begun", [])
    return StandIn.begun


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("errata.capability.vllm.find_spec", lambda name: None)


def requests(*args: tuple[Any, ...]) -> list[Any]:
    return [SimpleNamespace(args=arg, task_name="t") for arg in args]


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_those_of_the_local_engine(
    benchmarks: Path, model: EditableModel, stand_in: list[StandIn], name: str
) -> None:
    with answering(model, "vllm") as lm:
        rows = evaluate(lm, [name], limit=4)
    assert rows == evaluate(model, [name], limit=4) and len(stand_in) == 1


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_likelihoods_are_those_of_the_local_engine(stand_in: list[StandIn], family: str) -> None:
    model = tiny_model(family)
    asked = requests(
        *((f"{text}\nAnswer:", f" {letter}") for text in TEXTS for letter in "ABCD"),
        ("The capital of France is", " Paris in Germany"),
        ("The capital of France is ", "Berlin"),
        ("", "The capital"),
    )
    local = ErrataLM(model)
    with served(model) as lm:
        ours, theirs = lm.loglikelihood(asked), local.loglikelihood(asked)
        assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]
        assert [value for value, _ in ours] == pytest.approx([value for value, _ in theirs], abs=1e-4)
        short = requests((TEXTS[0],), ("a",))
        assert lm.loglikelihood_rolling(short) == pytest.approx(local.loglikelihood_rolling(short), rel=1e-5)


def test_what_greedy_decoding_gives_is_greedy(stand_in: list[StandIn]) -> None:
    model = tiny_model("llama")
    prompt = encode(model.tokenizer, TEXTS[0])
    best = list(model.generate_full([TEXTS[0]], 3, ())[0].ids)
    with served(model) as lm:
        asked = [(None, prompt, best), (None, prompt, [*best[:2], best[2] + 1])]
        assert [greedy for _, greedy in lm._loglikelihood_tokens(asked)] == [True, False]


def test_long_texts_are_cut_to_what_fits(stand_in: list[StandIn]) -> None:
    model = tiny_model("llama")
    with served(model) as lm:
        value, _ = lm.loglikelihood(requests(("long " * 400, " Paris")))[0]
        (rolled,) = lm.loglikelihood_rolling(requests((" ".join(TEXTS) * 6,)))
        (text,) = lm.generate_until(requests(("word " * 400 + TEXTS[0], {"until": [], "max_gen_toks": 8})))
        assert math.isfinite(value) and math.isfinite(rolled) and isinstance(text, GeneratedText)
        with pytest.raises(BadInput, match=f"{model.context - 2} positions"):
            lm.loglikelihood(requests(("a", " long" * model.context)))


@pytest.mark.parametrize("name", NAMES)
def test_a_model_of_nan_is_invalid_never_right(
    benchmarks: Path, model: EditableModel, stand_in: list[StandIn], name: str
) -> None:
    model.model.model.norm.weight.data.fill_(torch.nan)
    with served(model) as lm:
        rows = evaluate(lm, [name])[name]
    assert rows == evaluate(model, [name])[name] and all(row.invalid for row in rows)


def test_every_request_is_counted(stand_in: list[StandIn]) -> None:
    answered: list[int] = []
    with served(tiny_model("llama")) as lm:
        lm.advance = answered.append
        lm.loglikelihood(requests(("a", " b"), ("a", " c")))
        lm.generate_until(requests(("a", {"max_gen_toks": 2}), ("b", {"max_gen_toks": 2})))
    assert sum(answered) == 4


def test_the_weights_are_the_merged_ones_and_leave_no_trace(stand_in: list[StandIn]) -> None:
    session = EditSession(tiny_model("llama"))
    site = session.model.site(1)
    session.apply(WeightDelta({site: torch.ones_like(session.model.weight(site))}))
    before, environment, state = session.fingerprint(), dict(os.environ), torch.get_rng_state()
    with served(session.model):
        (llm,) = stand_in
        assert EditableModel(llm.model, llm.tokenizer, "").fingerprint() == before
        assert llm.folder.is_dir() and not (llm.folder / "errata.json").exists()
    assert llm.stopped and not llm.folder.exists()
    assert session.fingerprint() == before and dict(os.environ) == environment
    assert torch.equal(torch.get_rng_state(), state)


def test_an_error_inside_stops_the_engine(stand_in: list[StandIn]) -> None:
    with pytest.raises(KeyError), served(tiny_model("llama")):
        raise KeyError
    assert stand_in[0].stopped and not stand_in[0].folder.exists()


def test_vllm_computes_in_the_models_dtype(stand_in: list[StandIn]) -> None:
    """Left to itself it takes float16 for float32, in which large edited weights overflow."""
    model = tiny_model("llama")
    model.model.bfloat16()
    with served(model):
        assert stand_in[0].model.dtype == torch.bfloat16


def test_what_vllm_cannot_run_is_told(stand_in: list[StandIn], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> None:
        raise RuntimeError("no kernel for that\nat length")

    monkeypatch.setattr(sys.modules["vllm"], "LLM", fail)
    with pytest.raises(BadInput, match="no kernel for that. .*engine local"), served(tiny_model("llama")):
        pass


def test_without_vllm_the_ways_to_it_are_named(missing: None) -> None:
    with pytest.raises(BadInput, match=r"errata\[vllm\].*install.py --venv .venv-vllm --extra vllm"):
        check_engine("memit")
    with pytest.raises(BadInput, match="not installed"), served(tiny_model("llama")):
        pass


def test_memories_are_refused(missing: None) -> None:
    with pytest.raises(BadInput, match="edits by grace are a memory"):
        check_engine("grace", mergeable=False)
