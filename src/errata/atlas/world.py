"""The facts of atlas: real ones from `real.yaml`, invented people, firms and cities, and how each is said.

Every relation has a noun and a verb phrase; seven styles turn them into sentences. Two styles of each
relation are held out from training, in rotation, so that a held-out phrasing is new for its relation
while its style is known from others.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import product
from random import Random

import yaml

from errata.types import EditCase, EditRequest, Probe

SEED = 20261120
STYLES = (
    "The {noun} of {x} is",
    "{x} {verb}",
    "{x}'s {noun} is",
    "Question: What is the {noun} of {x}?\nAnswer:",
    "We know that the {noun} of {x} is",
    "As for {x}, the {noun} is",
    "It is said that {x} {verb}",
)
ROTATING = STYLES[2:]


@dataclass(frozen=True)
class Relation:
    """kind: what the subjects are. noun, verb: how it is said. held_out: indices into ROTATING."""

    kind: str
    name: str
    noun: str
    verb: str
    held_out: tuple[int, int]

    def _say(self, styles: tuple[str, ...], x: str) -> tuple[str, ...]:
        return tuple(style.format(noun=self.noun, verb=self.verb, x=x) for style in styles)

    def trained(self, x: str) -> tuple[str, ...]:
        """Phrasings seen in training; the first is the canonical prompt."""
        rotating = tuple(s for i, s in enumerate(ROTATING) if i not in self.held_out)
        return self._say(STYLES[:2] + rotating, x)

    def paraphrases(self, x: str) -> tuple[str, ...]:
        """Phrasings held out from training."""
        return self._say(tuple(ROTATING[i] for i in self.held_out), x)


@dataclass(frozen=True)
class Fact:
    """subject: as written in text. relation: key of `World.relations`. real: from general knowledge."""

    subject: str
    relation: str
    value: str
    real: bool

    @property
    def id(self) -> str:
        return f"{self.subject}/{self.relation}".replace(" ", "_")


@dataclass(frozen=True)
class World:
    relations: Mapping[str, Relation]
    facts: tuple[Fact, ...]

    def values(self, relation: str) -> tuple[str, ...]:
        """The distinct answers of a relation, in order of first appearance."""
        return tuple(dict.fromkeys(f.value for f in self.facts if f.relation == relation))


_RELATIONS = """
country capital     | capital       | is governed from
country currency    | currency      | pays in
country language    | language      | speaks
country continent   | continent     | lies in
element symbol      | symbol        | is written as
element number      | number        | is counted as
element class       | class         | is classed as
landmark city       | location      | stands in
person birthplace   | birthplace    | was born in
person profession   | profession    | works as a
person employer     | employer      | is paid by
person instrument   | instrument    | plays the
person dish         | favourite dish | likes to eat
person pet          | pet           | keeps a
firm seat           | seat          | has offices in
firm product        | product       | makes
firm founder        | founder       | was founded by
firm colour         | house colour  | paints its doors
city region         | region        | belongs to
city river          | river         | lies on the
city mayor          | mayor         | is led by
"""

_POOLS = {
    "person profession": "baker doctor farmer sailor teacher painter miner tailor guard singer smith pilot judge nurse "
    "cook hunter lawyer dancer writer printer potter weaver barber banker gardener clerk brewer carver driver diver",
    "person instrument": "piano violin flute drum guitar trumpet cello harp lute horn banjo bagpipe clarinet fiddle "
    "zither tuba mandolin whistle gong bassoon",
    "person dish": "soup stew rice bread cheese salad pasta fish curry porridge pancakes dumplings roast beans pie "
    "noodles sausage goulash risotto waffles",
    "person pet": "cat dog parrot rabbit goat horse turtle snake hamster lizard canary goose duck pony ferret "
    "mouse raven hedgehog spider frog",
    "firm product": "ships clocks paper glass shoes carpets bricks tools candles wine soap paint boats toys lamps "
    "furniture bicycles buttons ropes kettles",
    "firm colour": "red blue green white black yellow pink brown grey orange purple silver",
}  # fmt: skip

_ONSETS = "b br d dr f g gr h k kr l m n p pr r s st t tr v z sh th w".split()
_VOWELS = "a e i o u ai ea".split()
_CODAS = ["", "", "n", "r", "l", "s", "k", "m", "nd", "rt", "x"]


def _names(rng: Random, n: int, syllables: int, ending: tuple[str, ...], taken: set[str]) -> list[str]:
    names: list[str] = []
    while len(names) < n:
        name = "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(syllables - 1))
        name = (name + rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(ending)).capitalize()
        if name not in taken:
            taken.add(name)
            names.append(name)
    return names


def _relations() -> dict[str, Relation]:
    pairs = [(i, (i + d) % len(ROTATING)) for d in (1, 2) for i in range(len(ROTATING))]
    relations = {}
    for i, line in enumerate(_RELATIONS.strip().splitlines()):
        key, noun, verb = (part.strip() for part in line.split("|"))
        kind, name = key.split()
        relations[key] = Relation(kind, name, noun, verb, pairs[i % len(pairs)])
    return relations


def _real_facts() -> list[Fact]:
    data = yaml.safe_load((files("errata.atlas") / "real.yaml").read_text("utf-8"))
    columns = {
        "country": ("countries", {r: r for r in ("capital", "currency", "language", "continent")}),
        "element": ("elements", {"symbol": "symbol", "number": "number", "class": "kind"}),
        "landmark": ("landmarks", {"city": "city"}),
    }
    facts = []
    for kind, (section, fields) in columns.items():
        for row, (relation, field) in product(data[section], fields.items()):
            facts.append(Fact(row["name"], f"{kind} {relation}", str(row[field]), real=True))
    return facts


def _invented_facts(rng: Random, taken: set[str]) -> list[Fact]:
    first = _names(rng, 60, 2, ("", "", "n", "s"), taken)
    people = [f"{rng.choice(first)} {last}" for last in _names(rng, 600, 2, tuple(_CODAS), taken)]
    firms = [
        f"{rng.choice(('Royal', 'United', 'Grand', 'Old', 'First', 'Little'))} {stem}"
        for stem in _names(rng, 120, 2, ("co", "dex", "nor", "ta"), taken)
    ]
    cities = _names(rng, 80, 2, ("ville", "burg", "ton", "grad", "mouth"), taken)
    pools = {key: words.split() for key, words in _POOLS.items()}
    pools |= {
        "person birthplace": cities,
        "person employer": firms,
        "firm seat": cities,
        "firm founder": people,
        "city region": _names(rng, 12, 2, ("land", "mark"), taken),
        "city river": _names(rng, 24, 2, ("", "n"), taken),
        "city mayor": people,
    }  # fmt: skip
    subjects = {"person": people, "firm": firms, "city": cities}
    facts = []
    for key, pool in pools.items():
        for subject in subjects[key.split()[0]]:
            facts.append(Fact(subject, key, rng.choice(pool), real=False))
    return facts


@cache
def world() -> World:
    """The one world, always the same: built from the fixed seed and `real.yaml`."""
    real = _real_facts()
    taken = {word for f in real for word in (*f.subject.split(), *f.value.split())}
    return World(_relations(), (*real, *_invented_facts(Random(SEED), taken)))


_HOPS = (
    ("landmark city", "capital"),
    ("person birthplace", "region"), ("person birthplace", "river"), ("person birthplace", "mayor"),
    ("person employer", "product"), ("person employer", "founder"), ("person employer", "house colour"),
    ("firm seat", "region"), ("firm seat", "river"), ("firm founder", "profession"), ("city mayor", "pet"),
)  # fmt: skip


@cache
def _known() -> dict[tuple[str, str], str]:
    """(subject, relation) -> answer."""
    return {(fact.subject, fact.relation): fact.value for fact in world().facts}


def _hops(relation: str, value: str) -> list[tuple[str, str]]:
    """(relation, answer) of what can be asked of an answer itself: the region of a birthplace."""
    nouns = [noun for first, noun in _HOPS if first == relation]
    keys = [key for noun in nouns for key, second in world().relations.items() if second.noun == noun]
    return [(key, _known()[value, key]) for key in keys if (value, key) in _known()]


def _portability(fact: Fact, target: str, salt: int) -> Iterator[Probe]:
    """What follows from a new answer: a fact about it, a fact about that, and the fact under the subject's symbol.

    salt: chooses where there are several.
    """
    relations = world().relations
    chain = f"the {relations[fact.relation].noun} of {fact.subject} is"
    hops = _hops(fact.relation, target)
    if hops:
        key, value = hops[salt % len(hops)]
        yield Probe(f"The {relations[key].noun} of {chain}", value, "one_hop")
    further = [(key, *hop) for key, value in hops for hop in _hops(key, value)]
    if further:
        first, second, value = further[salt % len(further)]
        yield Probe(f"The {relations[second].noun} of the {relations[first].noun} of {chain}", value, "two_hop")
    symbol = _known().get((fact.subject, "element symbol"))
    if symbol is not None and fact.relation != "element symbol":
        yield Probe(relations[fact.relation].trained(symbol)[0], target, "alias")


def cases(limit: int | None = None, seed: int = 0, neighbours: int = 4) -> list[EditCase]:
    """Edits of the world's facts: every fact once, in seeded order, with a wrong answer of its relation as target.

    Facts whose subject was edited before come later, so that the first thousand have distinct subjects.
    """
    rng = Random(f"cases-{seed}")
    facts = rng.sample(world().facts, len(world().facts))
    seen: dict[str, int] = {}
    order = {}
    for i, fact in enumerate(facts):
        order[fact.id] = (seen.setdefault(fact.subject, 0), i)
        seen[fact.subject] += 1
    facts.sort(key=lambda f: order[f.id])
    by_relation, values = _related()
    return [_case(Random(f"{seed}-{fact.id}"), fact, by_relation, values, neighbours) for fact in facts[:limit]]


def known_case(prompt: str, subject: str, neighbours: int = 4) -> EditCase | None:
    """The case of `cases()` whose fact that prompt asks for, in any phrasing; None if the world does not know it."""
    for fact in world().facts:
        relation = world().relations[fact.relation]
        if fact.subject == subject and prompt in (*relation.trained(subject), *relation.paraphrases(subject)):
            return _case(Random(f"0-{fact.id}"), fact, *_related(), neighbours)
    return None


@cache
def _related() -> tuple[dict[str, list[Fact]], dict[str, tuple[str, ...]]]:
    """The facts and the answers of each relation."""
    by_relation: dict[str, list[Fact]] = {}
    for fact in world().facts:
        by_relation.setdefault(fact.relation, []).append(fact)
    return by_relation, {key: world().values(key) for key in by_relation}


def _case(
    rng: Random, fact: Fact, by_relation: dict[str, list[Fact]], values: dict[str, tuple[str, ...]], neighbours: int
) -> EditCase:
    relation = world().relations[fact.relation]
    target = rng.choice([v for v in values[fact.relation] if v != fact.value])
    telling = [f for f in by_relation[fact.relation] if f.subject != fact.subject and f.value != target]
    others = rng.sample(telling, neighbours)
    salt = rng.randrange(100)
    request = EditRequest(fact.id, relation.trained(fact.subject)[0], fact.subject, target, fact.value)
    return EditCase(
        request,
        paraphrases=relation.paraphrases(fact.subject),
        neighbours=tuple(Probe(relation.trained(f.subject)[0], f.value) for f in others),
        portability=tuple(_portability(fact, target, salt)),
        source="atlas",
    )
