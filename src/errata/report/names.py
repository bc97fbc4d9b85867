"""What things are called and how they look, the same in every sentence, table and figure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

METHODS = {
    "rome": "ROME",
    "r_rome": "R-ROME",
    "memit": "MEMIT",
    "emmet": "EMMET",
    "pmet": "PMET",
    "alphaedit": "AlphaEdit",
    "mend": "MEND",
    "serac": "SERAC",
    "grace": "GRACE",
    "kn": "KN",
    "ft": "FT",
    "ike": "IKE",
    "ft_l": "FT-L",
    "ft_m": "FT-M",
    "lora": "LoRA",
}
ABILITIES = {
    "atlas_mmlu": "World knowledge",
    "atlas_bbh": "Reasoning",
    "atlas_gsm8k": "Arithmetic",
    "atlas_reading": "Reading",
    "atlas_toxigen": "Safety",
    "p1_mmlu": "MMLU",
    "p1_bbh": "BBH",
    "p1_gsm8k": "GSM8K",
    "p1_commonsenseqa": "CommonsenseQA",
    "p1_triviaqa": "TriviaQA",
    "p1_truthfulqa": "TruthfulQA",
    "p1_toxigen": "ToxiGen",
    "p2_gsm8k": "GSM8K, zero-shot",
    "p2_rte": "RTE",
    "p2_nq": "Natural Questions",
    "p2_boolq": "BoolQ",
    "p2_mutual": "MuTual",
    "p2_samsum": "SAMSum",
    "p2_conll2003": "CoNLL-2003",
    "p2_sst2": "SST-2",
}
PROBE_NOTES = {
    "efficacy": "the edit's own prompt gives the new answer",
    "generalization": "a paraphrase gives the new answer",
    "locality": "a neighbour's answer is unchanged",
    "retention": "an earlier edit still gives the new answer",
    "portability": "what follows from the edit is answered",
}
KIND_NOTES = {
    "retention/first": "one of the first edits still gives the new answer",
    "retention/last": "one of the last edits before the newest batch does",
    "portability/alias": "the subject by another name gives the new answer",
    "portability/one_hop": "a further fact about the new answer is given",
    "portability/two_hop": "a fact two steps beyond the edited one is given",
}


@dataclass(frozen=True)
class Sign:
    """A measure of health. title, note: what it is. share: from 0 to 1, else without end. drawn: as a curve."""

    title: str
    note: str = ""
    share: bool = False
    drawn: bool = False


SIGNS = {
    "perplexity": Sign("Perplexity", "on fixed text", drawn=True),
    "norm_drift": Sign("Norm drift", "of the matrix that grew most, over unedited", drawn=True),
    "degenerate": Sign("Degenerate text", "empty, looping or not finite, of free continuations", True, True),
    "empty": Sign("Empty text", share=True),
    "looping": Sign("Looping text", share=True),
    "nonfinite": Sign("Text not finite", share=True),
    "nonfinite_weights": Sign("Weights not finite"),
    "manhattan": Sign("Distance of weights", "sum of the changes of edited matrices, without sign"),
    "moved_077": Sign("Moved by 7.7 %", "weights of edited matrices changed by more than this, in proportion", True),
    "moved_171": Sign("Moved by 17.1 %", share=True),
}


@dataclass(frozen=True)
class Ink:
    """One colour on a light page and on a dark one, and the point's shape, so that hue never stands alone."""

    light: str
    dark: str
    shape: str


# Okabe and Ito's colours, told apart by all common kinds of colour blindness, moved just enough to keep a
# contrast of 3 to 1 on both pages. Grey is kept for the unedited model.
PALETTE = (
    Ink("#c8501a", "#f07c45", "circle"),
    Ink("#0072b2", "#56a8e0", "square"),
    Ink("#008864", "#35c297", "triangle-up"),
    Ink("#a8508a", "#dd8fc2", "diamond"),
    Ink("#9a6b00", "#e0a92e", "triangle-down"),
    Ink("#5b4fc4", "#a79df5", "cross"),
    Ink("#2f7f8f", "#6cc5d6", "triangle-right"),
    Ink("#b3263f", "#f0748a", "triangle-left"),
)
_HOME = {"rome": 0, "memit": 1, "r_rome": 2, "alphaedit": 3, "grace": 4, "mend": 5, "pmet": 6, "emmet": 7}


def method_title(method: str) -> str:
    """ "rome" -> "ROME", "rome:released" -> "ROME (released)"."""
    name, _, variant = method.partition(":")
    return METHODS.get(name, name) + (f" ({variant})" if variant else "")


def probe_title(probe: str) -> str:
    """ "portability/one_hop" -> "portability, one hop"."""
    return probe.replace("/", ", ").replace("_", " ")


def ability_title(task: str) -> str:
    """ "p1_mmlu" -> "MMLU", "p1_mmlu:paper" -> "MMLU (paper)"."""
    name, _, protocol = task.partition(":")
    return ABILITIES.get(name, name) + (f" ({protocol})" if protocol else "")


def sign(name: str) -> Sign:
    """A measure that is not known here is drawn as one that grows."""
    return SIGNS.get(name, Sign(name.replace("_", " ").capitalize(), drawn=True))


def signs(found: Iterable[str]) -> list[str]:
    """Measures of health in the order of `SIGNS`, then the others by name."""
    names = set(found)
    return [*(name for name in SIGNS if name in names), *sorted(names.difference(SIGNS))]


def model_title(model: str) -> str:
    """The last part of a path or of a name on the hub."""
    return re.split(r"[/\\]", model.rstrip("/\\"))[-1]


def inks(methods: Sequence[str]) -> Mapping[str, Ink]:
    """The look of each method: known ones keep theirs in every report, others take what is left by name."""
    names = sorted(set(methods))
    taken = {method: _HOME[method] for method in names if method in _HOME}
    for method in names:
        if method not in taken:
            free = [slot for slot in range(len(PALETTE)) if slot not in taken.values()] or list(range(len(PALETTE)))
            taken[method] = free[crc32(method.encode()) % len(free)]
    return {method: PALETTE[slot] for method, slot in taken.items()}
