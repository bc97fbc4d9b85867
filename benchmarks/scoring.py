"""Scoring against the `hf` model of lm-evaluation-harness: the same requests, equal answers, the same threads.

`hf` gets the batch size that its users choose most, 8. Both are new for each trial, so that nothing is kept from
trial to trial, and both tokenise what they are asked. Items are made from the embedded world.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from random import Random
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from benchmarks.harness import Contest, Row, Trial, timed
from benchmarks.machine import Work
from benchmarks.shapes import SMALL, random_model
from errata.atlas import skills
from errata.atlas.corpus import choice_question, header
from errata.atlas.skills import Problem
from errata.atlas.world import world
from errata.capability.local import ErrataLM
from errata.capability.quiet import quiet
from errata.model.caches import GIB
from errata.model.editable import EditableModel
from errata.model.loading import load
from errata.model.lower import LowerStates
from errata.update.delta import WeightDelta
from errata.update.session import EditSession

BATCH = 8
LETTERS = "ABCD"
LAYER = 3
"""The first edited layer of GPT-2 small, at the depth of the published layers of GPT-2 XL, 13 of 48."""
CLOSE = 1e-3
"""Log-probabilities, summed over the tokens of an answer, may differ by so much in float32."""
Make = Callable[[], EditableModel]


def gpt2() -> EditableModel:
    return random_model(SMALL)


def atlas() -> EditableModel:
    return load("atlas", "cpu")


def choices(count: int, subjects: int, letters: bool, seed: int = 0) -> list[Instance]:
    """Requests for so many questions of four choices after five exemplars, those of one of the subjects.

    letters: whether A to D are compared, one token each, or the answers themselves.
    """
    rng, w = Random(seed), world()
    facts = rng.sample(w.facts, len(w.facts))[: count + 5 * subjects]
    asked = [choice_question(rng, fact, w) for fact in facts]
    shots, asked = asked[: 5 * subjects], asked[5 * subjects :]
    found: list[Instance] = []
    for index, problem in enumerate(asked):
        subject = index % subjects
        shown = [f"{shot.prompt}{_answer(shot, letters)}\n\n" for shot in shots[5 * subject : 5 * subject + 5]]
        context = header(shots[5 * subject].kind) + "".join(shown) + problem.prompt
        options = LETTERS if letters else problem.choices
        found += [_request("loglikelihood", index, context, f" {option}") for option in options]
    return found


def word_problems(count: int, seed: int = 0) -> list[Instance]:
    """Requests for so many chains of thought after eight worked exemplars, of 48 tokens at most."""
    rng = Random(seed)
    shots = [skills.arithmetic(rng) for _ in range(8)]
    shown = "".join(f"{shot.prompt}{shot.answer}\n\n" for shot in shots)
    kwargs = {"until": ["\n"], "max_gen_toks": 48, "do_sample": False}
    return [_request("generate_until", n, shown + skills.arithmetic(rng).prompt, kwargs) for n in range(count)]


def _answer(problem: Problem, letters: bool) -> str:
    return f" {LETTERS[problem.choices.index(problem.reference)]}" if letters else problem.answer


def _request(kind: Any, index: int, *arguments: Any) -> Instance:
    return Instance(kind, {}, arguments, index, task_name="benchmark")


def against_hf(make: Make, ask: Callable[[int], list[Instance]], items: int, rounds: int, quick: bool) -> Contest:
    """Trials of all items for each round."""
    model = make()
    requests = ask(16 if quick else items)

    def trials() -> Iterator[Trial]:
        _answers(_hf(model), requests[:4]), _answers(ErrataLM(model), requests[:4])
        for _ in range(rounds):
            reference, expected = timed(partial(_answers, _hf(model), requests))
            ours, found = timed(partial(_answers, ErrataLM(model), requests))
            yield Trial(ours, reference, apart(found, expected))

    choosing = requests[0].request_type == "loglikelihood"
    return Contest(trials(), rounds, partial(needed, model, requests) if choosing else None)


def _answers(lm: Any, requests: Sequence[Instance]) -> list[Any]:
    with quiet():
        answers: list[Any] = getattr(lm, requests[0].request_type)(list(requests), disable_tqdm=True)
    return answers


def _hf(model: EditableModel) -> Any:
    with quiet():
        return HFLM(pretrained=model.model, tokenizer=model.tokenizer, batch_size=BATCH, device=str(model.device))


def apart(found: Sequence[Any], expected: Sequence[Any]) -> float:
    """The largest difference of log-probabilities, or the share of texts that differ.

    Texts may where two tokens are as probable to the last bits, which random weights make likely.
    """
    if isinstance(expected[0], str):
        return float(sum(a != b for a, b in zip(found, expected, strict=True)) / len(expected))
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected], "other tokens are the most probable"
    largest = float(max(abs(a - b) for (a, _), (b, _) in zip(found, expected, strict=True)))
    assert largest < CLOSE, f"log-probabilities differ by {largest}"
    return largest


def needed(model: EditableModel, requests: Sequence[Instance]) -> Work:
    """Every token that requests begin with alike once through all layers, and the head where answers are read."""
    lm, tokens, read = ErrataLM(model), set(), set()
    for request in requests:
        context, answer = lm._encode_pair(*request.args)
        ids = (*context, *answer)[:-1]
        hashes = [hash(ids[: n + 1]) for n in range(len(ids))]
        tokens.update(hashes)
        read.update(hashes[-len(answer) :])
    layers = sum(p.numel() for layer in range(model.n_layers) for p in model.layer(layer).parameters())
    head = sum(p.numel() for p in model.head.parameters())
    return Work(float32=2.0 * (len(tokens) * layers + len(read) * head))


def later_checkpoint(items: int, rounds: int, quick: bool) -> Contest:
    """The same questions after each of several edits, with what enters the first edited layer kept, and without."""
    model, layer = gpt2(), LAYER
    session, requests = EditSession(model), choices(16 if quick else items, 6, True)
    kept = ErrataLM(model, lower=LowerStates(layer, 4 * GIB))
    site = model.site(layer)

    def trials() -> Iterator[Trial]:
        kept.loglikelihood(requests)
        for _ in range(rounds):
            session.apply(WeightDelta({site: model.weight(site) / 10}))
            reference, expected = timed(partial(ErrataLM(model).loglikelihood, requests))
            ours, found = timed(partial(kept.loglikelihood, requests))
            assert found == expected, "the answers depend on what was kept"
            yield Trial(ours, reference, 0.0)

    return Contest(trials(), rounds)


def _hf_row(name: str, unit: str, target: float, make: Make, ask: Callable[[int], list[Instance]], items: int) -> Row:
    rounds = 5 if make is atlas else 3
    return Row(name, unit, target, partial(against_hf, make, ask, items, rounds))


LETTERED = partial(choices, letters=True)
IN_WORDS = partial(choices, letters=False)
ROWS = (
    _hf_row("5-shot choice, letters, GPT-2 small", "500 items", 5, gpt2, partial(LETTERED, subjects=6), 500),
    _hf_row("5-shot choice, letters, atlas", "500 items", 5, atlas, partial(LETTERED, subjects=6), 500),
    _hf_row("5-shot choice, 57 subjects, atlas", "500 items", 2, atlas, partial(LETTERED, subjects=57), 500),
    _hf_row("5-shot choice, in words, atlas", "500 items", 5, atlas, partial(IN_WORDS, subjects=6), 500),
    _hf_row("8-shot generation, GPT-2 small", "100 items", 2, gpt2, word_problems, 100),
    _hf_row("8-shot generation, atlas", "100 items", 2, atlas, word_problems, 100),
    Row("5-shot choice, lower states kept", "100 items, a checkpoint", 1.15, partial(later_checkpoint, 100, 5)),
)
