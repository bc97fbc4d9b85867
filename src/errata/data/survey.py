"""What a set of edits holds, what it lacks, and where it contradicts itself."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from errata.data.cases import contradictions, repetitions
from errata.types import EditCase

PARTS = ("target_true", "paraphrases", "neighbours", "portability")
Pair = tuple[EditCase, EditCase]


@dataclass(frozen=True)
class Survey:
    """Counts over a set of edits.

    cases: the edits, without their probes. lacking: how many edits have none of a part (`PARTS`). probes: how many
    questions there are in all; portability: of which kind, "" where it is not told. groups: sets of edits that
    belong together. contradictory, repeated: first and later edit with the same prompt and subject.
    """

    cases: Sequence[EditCase]
    lacking: Mapping[str, int]
    probes: Mapping[str, int]
    portability: Mapping[str, int]
    groups: int
    contradictory: Sequence[Pair]
    repeated: Sequence[Pair]


def survey(cases: Iterable[EditCase]) -> Survey:
    """Count the edits. The probes of one are forgotten before the next one is read."""
    bare: list[EditCase] = []
    lacking, probes, kinds = Counter(dict.fromkeys(PARTS, 0)), Counter(dict.fromkeys(PARTS[1:], 0)), Counter[str]()
    for case in cases:
        bare.append(replace(case, paraphrases=(), neighbours=(), portability=()))
        lacking.update(part for part in PARTS if not _part(case, part))
        for part in PARTS[1:]:
            probes[part] += len(getattr(case, part))
        kinds.update(probe.kind for probe in case.portability)
    by_request = {id(case.request): case for case in bare}
    opposed, again = (
        [(by_request[id(early)], by_request[id(late)]) for early, late in find(case.request for case in bare)]
        for find in (contradictions, repetitions)
    )
    groups = len({case.group for case in bare if case.group})
    return Survey(bare, lacking, probes, kinds, groups, opposed, again)


def _part(case: EditCase, name: str) -> object:
    return case.request.target_true if name == "target_true" else getattr(case, name)
