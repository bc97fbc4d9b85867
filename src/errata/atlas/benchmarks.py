"""The benchmark items of atlas, as JSONL in the package: written once by `errata atlas world`, read by the task YAML.

Every item is held out from training: facts that no multiple-choice question of the corpus asks about,
and problems whose text the corpus never contains.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from random import Random

from errata.atlas import skills
from errata.atlas.corpus import choice_question, header, held_out, held_out_facts, training
from errata.atlas.skills import Problem
from errata.atlas.world import SEED, world

ITEMS = 400
Make = Callable[[Random], Problem]


def data_folder() -> Path:
    """Where the package keeps its benchmark items."""
    return Path(str(files("errata.atlas") / "data"))


def _held_out(make: Make, rng: Random, n: int) -> Iterator[Problem]:
    """At most n different problems; fewer where a kind has no more."""
    seen: set[str] = set()
    for _ in range(100_000):
        problem = make(rng)
        if held_out(problem) and problem.prompt not in seen:
            seen.add(problem.prompt)
            yield problem
        if len(seen) == n:
            return


def _knowledge(rng: Random) -> tuple[list[Problem], list[Problem]]:
    """Held-out facts asked once each; five exemplars for every kind of subject from the other facts."""
    facts = rng.sample(world().facts, len(world().facts))
    items = [choice_question(rng, f, world()) for f in facts if f.id in held_out_facts()][:ITEMS]
    shots: dict[str, list[Problem]] = {}
    for fact in facts:
        kind = fact.relation.split()[0]
        if fact.id not in held_out_facts() and len(shots.setdefault(kind, [])) < 5:
            shots[kind].append(choice_question(rng, fact, world()))
    return items, [problem for kind in shots.values() for problem in kind]


def _generated(makes: Sequence[Make], n_shots: int) -> Callable[[Random], tuple[list[Problem], list[Problem]]]:
    def build(rng: Random) -> tuple[list[Problem], list[Problem]]:
        items = [p for make in makes for p in _held_out(make, rng, -(-ITEMS // len(makes)))]
        shots = [training(make, rng) for make in makes for _ in range(n_shots)]
        return rng.sample(items, len(items))[:ITEMS], shots

    return build


BENCHMARKS: dict[str, Callable[[Random], tuple[list[Problem], list[Problem]]]] = {
    "atlas_mmlu": _knowledge,
    "atlas_bbh": _generated(list(skills.REASONING.values()), 3),
    "atlas_gsm8k": _generated([skills.arithmetic], 8),
    "atlas_reading": _generated([skills.reading], 0),
    "atlas_toxigen": _generated([skills.hateful], 0),
}


def _row(name: str, i: int, problem: Problem) -> dict[str, object]:
    row = {"id": f"{name}-{i:04d}", **asdict(problem)}
    if name.startswith("atlas_mmlu"):
        row |= {"kind": problem.kind.split()[0], "header": header(problem.kind)}
    return row


def write_benchmarks(folder: Path) -> dict[str, int]:
    """Write every benchmark's items and exemplars; returns how many items each has."""
    folder.mkdir(parents=True, exist_ok=True)
    counts = {}
    for name, build in BENCHMARKS.items():
        items, shots = build(Random(f"{SEED}-{name}"))
        for file, problems in ((name, items), (f"{name}_shots", shots)):
            rows = "".join(f"{json.dumps(_row(file, i, p))}\n" for i, p in enumerate(problems))
            if rows:
                (folder / f"{file}.jsonl").write_text(rows, "utf-8")
        counts[name] = len(items)
    return counts
