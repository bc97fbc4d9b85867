"""What a series of checkpoints says: how far a method is safe, and where abilities break.

A curve is a mapping from the number of edits to one change for each benchmark, all against the unedited
model on the same items. The unedited model itself, 0 edits, is not part of it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from numpy.typing import ArrayLike

from errata.stats.families import holm
from errata.stats.paired import Change, PairedDifference
from errata.stats.rates import wilson_clustered

Curve = Mapping[int, Mapping[str, Change]]
"""Number of edits -> benchmark -> change against the unedited model."""


@dataclass(frozen=True)
class Break:
    """A benchmark that broke. edits: the first checkpoint where it shows. change: what is seen there."""

    benchmark: str
    edits: int
    change: Change


def excluded_loss(change: Change) -> float:
    """The loss of accuracy that the items exclude, one-sided: it is smaller than this, with 95 % confidence.

    0.05 means that a loss of five points or more is excluded. Never negative.
    """
    return max(0.0, -change.above)


def noninferior(change: Change, margin: float) -> bool:
    """Whether a loss of `margin` or more is excluded: the harmful side of two one-sided tests."""
    return change.n > 0 and change.above > -margin


def worst_excluded_loss(changes: Mapping[str, Change]) -> float:
    """The loss that is excluded on every benchmark.

    All must pass, so no correction for their number is due (intersection-union test, Berger 1982).
    """
    return max((excluded_loss(change) for change in changes.values()), default=1.0)


def safe_horizon(curve: Curve, margin: float) -> int | None:
    """The largest number of edits up to which every checkpoint excludes a loss of `margin` on all benchmarks.

    It lies beyond the first checkpoint at which some benchmark has truly lost `margin` or more with a chance of
    5 % at most, however many benchmarks and checkpoints there are: a benchmark that lost must be passed by
    mistake (intersection-union test), and at that very checkpoint, as the first failure ends the search
    (fixed-sequence test, Maurer, Hothorn and Lehmacher 1995). docs/statistics.md has the proof.

    A checkpoint at which a benchmark of the others is missing fails. None if the first one does: not shown to be
    safe, which is not shown to be unsafe.
    """
    benchmarks, horizon = set().union(*curve.values()), None
    for edits in sorted(curve):
        shown = {name for name, change in curve[edits].items() if noninferior(change, margin)}
        if not shown or shown != benchmarks:
            break
        horizon = edits
    return horizon


def collapse_point(
    curve: Curve, broken: Mapping[int, Collection[str]] | None = None, relative: float = 0.10
) -> Break | None:
    """The first checkpoint where a benchmark's whole interval lies below a loss of `relative` of its accuracy.

    Among several benchmarks at that checkpoint, the one that lost most of its accuracy. broken: edits -> benchmarks
    that have collapsed whatever their score: their answers became one and the same, or their logits not finite.
    """
    for edits in sorted(curve):
        gone = (broken or {}).get(edits, ())
        fallen = {name: c for name, c in curve[edits].items() if name in gone or collapsed(c, relative)}
        if fallen:
            worst = min(fallen, key=lambda name: fallen[name].difference / (fallen[name].before or 1.0))
            return Break(worst, edits, fallen[worst])
    return None


def collapsed(change: Change, relative: float = 0.10) -> bool:
    """Whether the interval excludes every loss smaller than `relative` of the accuracy before."""
    return change.n > 0 and change.before > 0 and change.high < -relative * change.before


def given_up(kept: ArrayLike, edit: ArrayLike, least: float = 0.3) -> bool:
    """Whether an edited model is past caring for: the 95 % interval of locality lies wholly below `least`.

    kept: (n,) bool, whether each neighbour's answer is what it was. edit: (n,), the edit it belongs to.
    """
    return wilson_clustered(kept, edit).high < least


def first_loss(curve: Mapping[int, Mapping[str, PairedDifference]], alpha: float = 0.05) -> Break | None:
    """The first checkpoint with a significant loss (McNemar, Holm over its benchmarks), and the surest one there."""
    for edits in sorted(curve):
        adjusted = holm_over(curve[edits])
        lost = [name for name, p in adjusted.items() if p <= alpha and curve[edits][name].difference < 0]
        if lost:
            surest = min(lost, key=lambda name: (curve[edits][name].p, curve[edits][name].difference))
            return Break(surest, edits, curve[edits][surest])
    return None


def holm_over(changes: Mapping[str, PairedDifference]) -> dict[str, float]:
    """Holm's adjusted p-value of each benchmark of one checkpoint."""
    return dict(zip(changes, holm([change.p for change in changes.values()]), strict=True))
