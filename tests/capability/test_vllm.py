"""vLLM as the engine: the rows of the local one, from the merged weights alone.

Most tests put a slow stand-in in vLLM's place. Those marked `vllm` need the real one: make test-vllm
"""

import math
import os
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from errata.artifacts.store import Artifacts
from errata.capability.harness import answering, evaluate
from errata.capability.local import ErrataLM, GeneratedText
from errata.capability.vllm import ServedLM, check_engine, served, version
from errata.data.cases import read_cases
from errata.editing import edit
from errata.errors import BadInput
from errata.model.editable import EditableModel
from errata.model.generation import Generation
from errata.model.loading import load
from errata.model.tiny import TEXTS, tiny_model
from errata.model.tokens import encode, pad
from errata.records import read_records
from errata.runs.config import RunConfig, read_resolved
from errata.runs.layout import RunDir
from errata.runs.runner import start
from errata.update.delta import WeightDelta
from errata.update.session import EditSession

PRESENT = find_spec("vllm") is not None
NAMES = ("atlas_mmlu", "atlas_bbh", "atlas_gsm8k", "atlas_reading", "atlas_toxigen")


def real(test: Any) -> Any:
    """A test of the real vLLM, whose processes take a minute to start."""
    for mark in (pytest.mark.vllm, pytest.mark.skipif(not PRESENT, reason="make test-vllm"), pytest.mark.timeout(1800)):
        test = mark(test)
    return test


class StandIn:
    """`vllm.LLM` as far as it is used here: every token from the whole text again, one prompt at a time."""

    begun: ClassVar["list[StandIn]"] = []

    def __init__(self, model: str, dtype: str, max_model_len: int, **_: Any) -> None:
        self.folder, self.limit = Path(model), max_model_len
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


@pytest.mark.parametrize("name", ["atlas_mmlu", "atlas_reading"])
def test_a_model_of_nan_is_invalid_never_right(
    benchmarks: Path, model: EditableModel, stand_in: list[StandIn], name: str
) -> None:
    model.model.model.norm.weight.data.fill_(torch.nan)
    with served(model) as lm:
        rows = evaluate(lm, [name], limit=2)[name]
    assert rows == evaluate(model, [name], limit=2)[name] and all(row.invalid for row in rows)


def test_an_answer_ends_before_the_first_number_that_is_not_finite(stand_in: list[StandIn]) -> None:
    model = tiny_model("llama")
    (best,) = model.generate_full([TEXTS[0]], 6, ())
    with served(model) as lm:
        whole = stand_in[0]._log_probs
        spoil = len(encode(model.tokenizer, TEXTS[0])) + 3
        stand_in[0]._log_probs = lambda ids: whole(ids) * (math.nan if len(ids) == spoil else 1)  # type: ignore[method-assign]
        (found,) = lm.continued([TEXTS[0]], 6, ())
    assert found == Generation(model.tokenizer.decode(list(best.ids[:3])), clean_stop=False, finite=False)


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
    with pytest.raises(BadInput, match=r"no kernel for that\. .*engine local"), served(tiny_model("llama")):
        pass


def test_without_vllm_the_ways_to_it_are_named(missing: None) -> None:
    with pytest.raises(BadInput, match=r"errata\[vllm\].*install.py --venv .venv-vllm --extra vllm"):
        check_engine("memit")
    with pytest.raises(BadInput, match="not installed"), served(tiny_model("llama")):
        pass


def test_memories_are_refused(missing: None) -> None:
    with pytest.raises(BadInput, match="edits by grace are a memory"):
        check_engine("grace", mergeable=False)


# The real one


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> EditableModel:
    """Atlas with ten facts rewritten by MEMIT, in its weights."""
    session = EditSession(load("atlas"))
    cases = read_cases("atlas")[:10]
    artifacts = Artifacts(tmp_path_factory.mktemp("cache"))
    edit(session, [case.request for case in cases], method="memit", artifacts=artifacts, corpus="atlas")
    return EditableModel(session.merged(), session.model.tokenizer, "atlas, edited")


@pytest.fixture(scope="module")
def running(edited: EditableModel) -> Iterator[ServedLM]:
    with served(edited) as lm:
        yield lm


@real
def test_200_greedy_answers_are_those_of_the_local_engine(
    edited: EditableModel, running: ServedLM, capsys: pytest.CaptureFixture[str]
) -> None:
    """But for ties: where two answers part, the local model holds both tokens for as probable."""
    local = ErrataLM(edited)
    ours, theirs = listen_to_local(local), listen_to_vllm(running)
    counts = {"atlas_gsm8k": 70, "atlas_bbh": 65, "atlas_reading": 65}
    rows = {lm: [row for name, n in counts.items() for row in evaluate(lm, [name], n)[name]] for lm in (local, running)}
    assert len(rows[local]) == 200 and not any(row.invalid for row in rows[local] + rows[running])
    assert [row.item for row in rows[local]] == [row.item for row in rows[running]] and ours.keys() == theirs.keys()
    found = [gap_where_they_part(edited, prompt, ids, theirs[prompt]) for prompt, ids in ours.items()]
    gaps = [gap for gap in found if gap is not None]
    agreed = sum(a.output == b.output for a, b in zip(rows[local], rows[running], strict=True))
    verdicts = sum(a.correct == b.correct for a, b in zip(rows[local], rows[running], strict=True))
    with capsys.disabled():
        sys.stdout.write(f"\n{agreed} of 200 answers agree, {verdicts} of 200 verdicts; gaps where they part: {gaps}\n")
    assert agreed >= 194 and max(gaps, default=0.0) < 1e-3
    assert all(
        (a.parsed, a.clean_stop) == (b.parsed, b.clean_stop)
        for a, b in zip(rows[local], rows[running], strict=True)
        if a.output == b.output
    )


def listen_to_local(lm: ErrataLM) -> dict[tuple[int, ...], tuple[int, ...]]:
    """Fills with prompt -> answer, in tokens, as the local engine goes on."""
    heard: dict[tuple[int, ...], tuple[int, ...]] = {}
    given = lm.continued

    def continued(prompts: Sequence[str], new: int, stop: Sequence[str]) -> list[Generation]:
        answers = given(prompts, new, stop)
        encoded = [tuple(encode(lm.tokenizer, prompt)) for prompt in prompts]
        heard.update(zip(encoded, (answer.ids for answer in answers), strict=True))
        return answers

    lm.continued = continued  # type: ignore[method-assign]
    return heard


def listen_to_vllm(lm: ServedLM) -> dict[tuple[int, ...], tuple[int, ...]]:
    """As `listen_to_local`, of vLLM, whose answers end in the end of text where it was chosen."""
    heard: dict[tuple[int, ...], tuple[int, ...]] = {}
    run = lm._run

    def listening(prompts: Sequence[Sequence[int]], **params: Any) -> list[Any]:
        outputs = run(prompts, **params)
        heard.update({tuple(o.prompt_token_ids): tuple(o.outputs[0].token_ids) for o in outputs})
        return outputs

    lm._run = listening  # type: ignore[method-assign]
    return heard


def gap_where_they_part(
    model: EditableModel, prompt: tuple[int, ...], ours: tuple[int, ...], theirs: tuple[int, ...]
) -> float | None:
    """Local log-probability of our token less that of vLLM's, in nats, where two answers first differ."""
    end = int(model.tokenizer.eos_token_id)
    theirs = theirs[:-1] if theirs[-1:] == (end,) else theirs
    if ours == theirs:
        return None
    pairs = list(zip_longest(ours, theirs, fillvalue=end))
    at = next(n for n, (a, b) in enumerate(pairs) if a != b)
    batch = pad([(*prompt, *ours[:at])], model.pad_id)
    log_probs = model.logits(batch)[0, -1].double().log_softmax(-1)
    return float(log_probs[pairs[at][0]] - log_probs[pairs[at][1]])


@real
@pytest.mark.parametrize("name", ["atlas_mmlu", "atlas_toxigen"])
def test_real_likelihoods_are_those_of_the_local_engine(edited: EditableModel, running: ServedLM, name: str) -> None:
    ours, theirs = evaluate(edited, [name], 40)[name], evaluate(running, [name], 40)[name]
    assert sum(a == b for a, b in zip(ours, theirs, strict=True)) >= 39
    text = " ".join(TEXTS) * 40
    asked = requests((text, " Paris in France"), ("The capital of France is", " Paris"), (text * 20, " Paris"))
    expected = ErrataLM(edited).loglikelihood(asked)
    found = running.loglikelihood(asked)
    assert [value for value, _ in found[:2]] == pytest.approx([value for value, _ in expected[:2]], abs=1e-3)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]


@real
def test_the_real_one_tells_what_is_not_finite() -> None:
    model = load("atlas")
    model.model.get_submodule(model.arch.norm).weight.data.fill_(torch.nan)
    with served(model) as lm:
        for name in ("atlas_mmlu", "atlas_reading"):
            assert evaluate(lm, [name], 3)[name] == evaluate(model, [name], 3)[name]


@real
def test_the_real_one_disturbs_nothing() -> None:
    model = load("atlas")
    before = model.fingerprint(), dict(os.environ), torch.get_num_threads(), random.getstate(), numpy_state()
    drawn = torch.get_rng_state()
    with served(model):
        pass
    assert (model.fingerprint(), dict(os.environ), torch.get_num_threads(), random.getstate(), numpy_state()) == before
    assert torch.equal(torch.get_rng_state(), drawn)


def numpy_state() -> str:
    return str(np.random.get_state())


@real
def test_a_run_by_vllm(tmp_path: Path) -> None:
    config = RunConfig(
        model="atlas",
        method="rome",
        preset="released",
        data="atlas",
        edits=[1],
        tasks=["atlas_reading", "atlas_mmlu"],
        limit=12,
        probe_limit=1,
        engine="vllm",
    )
    run = RunDir(start(config, tmp_path))
    other = RunDir(start(config.model_copy(update={"engine": "local"}), tmp_path))
    assert read_resolved(run).versions["vllm"] == version() and "vllm" not in read_resolved(other).versions
    for edits in (0, 1):
        for name in config.tasks:
            ours, theirs = read_records(other.table(edits, name)), read_records(run.table(edits, name))
            assert sum(a == b for a, b in zip(ours, theirs, strict=True)) >= 11
