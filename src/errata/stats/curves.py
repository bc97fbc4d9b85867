"""What a series of checkpoints says: how far a method is safe, and where abilities break.

A curve is a mapping from the number of edits to one change for each benchmark, all against the unedited
model on the same items. The unedited model itself, 0 edits, is not part of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from numpy.typing import ArrayLike
from scipy.stats import norm

from errata.stats.families import holm
from errata.stats.paired import PairedDifference, tango, wilson_clustered

Curve = Mapping[int, Mapping[str, PairedDifference]]
"""Number of edits -> benchmark -> change against the unedited model."""

MARGINS = (0.01, 0.02, 0.05, 0.10, 0.20)


@dataclass(frozen=True)
class Break:
    """A benchmark that broke. edits: the first checkpoint where it shows. change: what is seen there."""

    benchmark: str
    edits: int
    change: PairedDifference


def excluded_loss(change: PairedDifference, level: float = 0.95) -> float:
    """The loss of accuracy that the items exclude, one-sided: it is smaller than this, at `level` confidence.

    0.05 means that a loss of five points or more is excluded. Never negative.
    """
    share = change.effective / change.n if change.n else 1.0
    return max(0.0, -tango(change.broke * share, change.fixed * share, change.effective, 2 * level - 1).low)


def noninferior(change: PairedDifference, margin: float, level: float = 0.95) -> bool:
    """Whether a loss of `margin` or more is excluded: the harmful side of two one-sided tests."""
    return change.n > 0 and excluded_loss(change, level) < margin


def worst_excluded_loss(changes: Mapping[str, PairedDifference], level: float = 0.95) -> float:
    """The loss that is excluded on every benchmark.

    All must pass, so no correction for their number is due (intersection-union test, Berger 1982).
    """
    return max((excluded_loss(change, level) for change in changes.values()), default=1.0)


def safe_horizon(curve: Curve, margin: float, level: float = 0.95) -> int | None:
    """The largest number of edits up to which every checkpoint excludes a loss of `margin` on all benchmarks.

    None if the first checkpoint fails already: not shown to be safe, which is not shown to be unsafe.
    """
    horizon = None
    for edits in sorted(curve):
        if not curve[edits] or not all(noninferior(change, margin, level) for change in curve[edits].values()):
            break
        horizon = edits
    return horizon


def collapse_point(curve: Curve, relative: float = 0.10) -> Break | None:
    """The first checkpoint where a benchmark's whole interval lies below a loss of `relative` of its accuracy.

    Among several benchmarks at that checkpoint, the one that lost most of its accuracy.
    """
    for edits in sorted(curve):
        fallen = {name: change for name, change in curve[edits].items() if collapsed(change, relative)}
        if fallen:
            worst = min(fallen, key=lambda name: fallen[name].difference / fallen[name].before)
            return Break(worst, edits, fallen[worst])
    return None


def collapsed(change: PairedDifference, relative: float = 0.10) -> bool:
    """Whether the interval excludes every loss smaller than `relative` of the accuracy before."""
    return change.n > 0 and change.before > 0 and change.high < -relative * change.before


def given_up(kept: ArrayLike, edit: ArrayLike, least: float = 0.3) -> bool:
    """Whether an edited model is past caring for: the 95 % interval of locality lies wholly below `least`.

    kept: (n,) bool, whether each neighbour's answer is what it was. edit: (n,), the edit it belongs to.
    """
    return wilson_clustered(kept, edit).high < least


def first_loss(curve: Curve, alpha: float = 0.05) -> Break | None:
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


def certifiable_margin(n: int, churn: float = 0.05, level: float = 0.95) -> float | None:
    """The smallest of `MARGINS` that n items can certify if a share `churn` of answers changes, half of them for worse.

    None if no margin of the list can be certified with so few items.
    """
    half = round(n * churn / 2)
    limit = -tango(half, half, n, 2 * level - 1).low
    return next((margin for margin in MARGINS if limit < margin), None)


def items_needed(margin: float, churn: float = 0.05, level: float = 0.95) -> int:
    """Items that certify `margin` if a share `churn` of answers changes, half of them for worse.

    From the standard error of a paired change, sqrt(churn / n), as a round upper figure.
    """
    z = float(norm.ppf(level))
    return ceil(churn * (z / margin) ** 2 / 10) * 10
