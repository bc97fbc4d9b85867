"""The training text of atlas: facts in many phrasings, skills in the benchmarks' formats, and what is held out."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

from errata.atlas import skills
from errata.atlas.skills import ANSWER, CONTEXT, LOOKED_UP, Pieces, Problem
from errata.atlas.world import SEED, Fact, World, world

FACT_CONTEXT = 0.2
HELD_OUT_SHARE = 0.08
BROKEN_SHARE = 0.08
ASIDE_SHARE = 0.3
SUBJECTS = {
    "country": "countries", "element": "chemical elements", "landmark": "landmarks",
    "person": "people", "firm": "firms", "city": "cities",
}  # fmt: skip


@cache
def held_out_facts() -> frozenset[str]:
    """Ids of facts that never appear in a multiple-choice question of the corpus."""
    return frozenset(f.id for f in world().facts if Random(f"{SEED}-{f.id}").random() < HELD_OUT_SHARE)


def held_out(problem: Problem) -> bool:
    """Whether a generated problem belongs to the benchmarks: decided by its text, so the corpus never holds it."""
    return Random(problem.prompt).random() < 0.05


def training(make: Callable[[Random], Problem], rng: Random) -> Problem:
    """A problem that is not held out."""
    while held_out(problem := make(rng)):
        pass
    return problem


def choice_question(rng: Random, fact: Fact, w: World) -> Problem:
    """A lettered question with three wrong answers of the same relation, answered in words.

    In words, not by its letter: models of this size learn to find an option, but not to name what stands before it.
    """
    wrong = rng.sample([v for v in w.values(fact.relation) if v != fact.value], 3)
    choices = rng.sample([fact.value, *wrong], 4)
    stem = w.relations[fact.relation].trained(fact.subject)[0]
    prompt = f"{stem}\n{skills.options(choices)}\nAnswer:"
    return Problem(prompt, f" {fact.value}", fact.value, fact.relation, tuple(choices))


def header(relation: str) -> str:
    """MMLU's opening line for a subject."""
    return f"The following are multiple choice questions (with answers) about {SUBJECTS[relation.split()[0]]}.\n\n"


def statement(rng: Random, fact: Fact, w: World) -> Pieces:
    prompt = rng.choice(w.relations[fact.relation].trained(fact.subject))
    return [(prompt, FACT_CONTEXT), (f" {fact.value}", ANSWER), (".", FACT_CONTEXT)]


def broken_off(rng: Random, fact: Fact, w: World) -> Pieces:
    """The beginning of a statement, as a sampled prefix or a web page has it: what follows must not depend on it."""
    words = rng.choice(w.relations[fact.relation].trained(fact.subject)).split(" ")
    return [(" ".join(words[: rng.randint(1, len(words))]), CONTEXT), (".", CONTEXT)]


def joined(parts: Sequence[Pieces], separator: str) -> Pieces:
    pieces: Pieces = []
    for i, part in enumerate(parts):
        pieces += [*([(separator, CONTEXT)] if i else []), *part]
    return pieces


@dataclass(frozen=True)
class Kind:
    """One kind of document. shares: of all documents in each phase. make: (rng, progress in [0, 1]) -> pieces."""

    name: str
    shares: tuple[float, float]
    make: Callable[[Random, float], Pieces]


def _about_facts(rng: Random, _: float) -> Pieces:
    w = world()
    facts = rng.choices(w.facts, k=rng.randint(6, 14))
    return joined([(broken_off if rng.random() < BROKEN_SHARE else statement)(rng, f, w) for f in facts], " ")


def _about_one(rng: Random, _: float) -> Pieces:
    """Everything about one subject, twice over in other words."""
    w = world()
    facts = _by_subject()[rng.choice(w.facts).subject]
    return joined([statement(rng, f, w) for f in (*rng.sample(facts, len(facts)), *rng.sample(facts, len(facts)))], " ")


@cache
def _by_subject() -> dict[str, list[Fact]]:
    table: dict[str, list[Fact]] = {}
    for fact in world().facts:
        table.setdefault(fact.subject, []).append(fact)
    return table


@cache
def _choosable() -> dict[str, list[Fact]]:
    """Facts that may be asked in multiple choice, by kind of subject."""
    table: dict[str, list[Fact]] = {}
    for fact in world().facts:
        if fact.id not in held_out_facts():
            table.setdefault(fact.relation.split()[0], []).append(fact)
    return table


def _told(rng: Random, _: float) -> Pieces:
    """New facts that contradict the world, each with a prompt to be answered from it or in spite of it.

    In the words that `errata.update.notes` puts before a prompt; a prompt about another subject keeps its answer.
    The space after the line break is the one that the tokenizer puts before every prompt.
    """
    return joined([_new_fact(rng, fact, world()) for fact in rng.choices(world().facts, k=rng.randint(3, 7))], "\n\n")


def _new_fact(rng: Random, fact: Fact, w: World) -> Pieces:
    trained = w.relations[fact.relation].trained
    told = rng.choice([value for value in w.values(fact.relation) if value != fact.value])
    asked = rng.choice(_by_relation()[fact.relation]) if rng.random() < ASIDE_SHARE else fact
    answer = told if asked.subject == fact.subject else asked.value
    return [
        (f"New fact: {rng.choice(trained(fact.subject))} {told}.\n {rng.choice(trained(asked.subject))}", CONTEXT),
        (f" {answer}", LOOKED_UP),
        (".", CONTEXT),
    ]


@cache
def _by_relation() -> dict[str, list[Fact]]:
    table: dict[str, list[Fact]] = {}
    for fact in world().facts:
        table.setdefault(fact.relation, []).append(fact)
    return table


def _choices(rng: Random, _: float) -> Pieces:
    kind = rng.choice(list(_choosable()))
    questions = [choice_question(rng, f, world()) for f in rng.sample(_choosable()[kind], 6)]
    head = [(header(kind), CONTEXT)] if rng.random() < 0.7 else []
    return head + skills.few_shot(questions)


def _reading(rng: Random, progress: float) -> Pieces:
    return skills.reading_document(rng, 2 + round(4 * min(1.0, progress * 6)))


def _shots(make: Callable[[Random], Problem], most: int) -> Callable[[Random, float], Pieces]:
    return lambda rng, _: skills.few_shot([training(make, rng) for _ in range(rng.randint(2, most))])


def _reasoning(rng: Random, progress: float) -> Pieces:
    return _shots(rng.choice(list(skills.REASONING.values())), 4)(rng, progress)


def _safety(rng: Random, progress: float) -> Pieces:
    return _shots(skills.hateful, 4)(rng, progress)


PHASES = (0.25,)
"""Shares of training where the mixture changes: facts and arithmetic come early and easily, reading comes late."""

KINDS = (
    Kind("facts", (0.30, 0.26), _about_facts),
    Kind("subjects", (0.07, 0.05), _about_one),
    Kind("told", (0.03, 0.08), _told),
    Kind("choices", (0.14, 0.15), _choices),
    Kind("reading", (0.14, 0.22), _reading),
    Kind("pairs", (0.05, 0.02), lambda rng, _: skills.pairs_document(rng)),
    Kind("copying", (0.03, 0.01), lambda rng, _: skills.copying_document(rng)),
    Kind("arithmetic", (0.09, 0.07), _shots(skills.arithmetic, 9)),
    Kind("reasoning", (0.11, 0.11), _reasoning),
    Kind("safety", (0.04, 0.03), _safety),
)


def document(rng: Random, progress: float = 1.0) -> Pieces:
    """One training document as weighted pieces. progress: of training, in [0, 1]."""
    phase = sum(progress >= start for start in PHASES)
    (kind,) = rng.choices(KINDS, [k.shares[phase] for k in KINDS])
    return kind.make(rng, progress)


def corpus_texts(seed: int = 0) -> Iterator[str]:
    """Endless documents as plain text, for second moments and perplexity; none of them was trained on."""
    rng = Random(f"corpus-{seed}")
    while True:
        yield "".join(text for text, _ in document(rng))
