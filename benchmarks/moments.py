"""Second moments of five sites in one truncated pass, against one whole forward for each site."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor

from benchmarks.harness import Contest, Row, Trial, largest, timed
from benchmarks.machine import Work
from benchmarks.oracles.moments import second_moment
from benchmarks.oracles.rome import Plain
from benchmarks.shapes import SMALL, TINY, random_model, texts
from errata.artifacts.build import build_second_moments
from errata.artifacts.store import Artifacts

TRIALS = 3
TEXTS = 32
"""In each trial, of a hundred words: what runs at once."""


def contest(quick: bool) -> Contest:
    """Each trial has texts of its own. Times are those of a token, hashing the weights and writing files included."""
    shape = TINY if quick else SMALL
    tokens: list[int] = []

    def trials() -> Iterator[Trial]:
        model = random_model(shape)
        plain = Plain(model.model, model.tokenizer, model.arch.layers, model.arch.down)
        everything = texts(100 * TEXTS * TRIALS)
        for _ in range(TRIALS):
            part = list(islice(everything, TEXTS))
            with TemporaryDirectory() as folder:
                build = partial(build_second_moments, model, shape.edited, part, 10**6, Artifacts(Path(folder)))
                fast, found = timed(build)
            slow, expected = timed(partial(_one_by_one, plain, shape.edited, part))
            tokens.append(found[shape.edited[0]].tokens)
            ours = {layer: moment.C for layer, moment in found.items()}
            yield Trial(fast / tokens[-1], slow / tokens[-1], largest(ours, expected))

    def work() -> Work:
        """One token: up to the last edited layer but for its down projection, and half of each symmetric product."""
        forward = 2 * (shape.layer_weights * (shape.edited[-1] + 1) - shape.width * shape.inner)
        sums = len(shape.edited) * shape.inner**2
        return Work(float32=forward + sums, bytes=4 * shape.layer_weights * (shape.edited[-1] + 1) / tokens[0])

    return Contest(trials(), TRIALS, work)


def _one_by_one(plain: Plain, layers: Sequence[int], part: Sequence[str]) -> dict[int, Tensor]:
    return {layer: second_moment(plain, layer, part) for layer in layers}


ROWS = (Row("second moments", "a token, 5 sites, GPT-2 small", 4, contest),)
