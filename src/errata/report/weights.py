"""How far edited matrices have moved: paper 2's table of weight changes. No torch here."""

from collections.abc import Sequence

from errata.report.formats import Column, Table
from errata.report.measures import Analysis
from errata.report.names import method_title, model_title
from errata.report.printed import rows

SIGNS = ("manhattan", "moved_077", "moved_171")


def weights_table(name: str, runs: Sequence[Analysis], published: str | None = None) -> Table:
    """Manhattan distance and shares of weights that changed by more than a share of themselves, by edits."""
    printed = {
        int(row["edits"]): (
            float(row["manhattan_distance"]),
            float(row["pct_delta_gt_0.077"]) / 100,
            float(row["pct_delta_gt_0.171"]) / 100,
        )
        for row in (rows(published) if published else ())
    }
    keys = tuple(f"published_{sign}" for sign in SIGNS)
    return Table(
        name,
        "How far the weights have moved",
        "Over all edited matrices, against the unedited ones. Distance: sum of |ΔW|. Moved by more than 7.7 % and 17.1 "
        "%: share of weights with |ΔW / W| above 0.077 and 0.171, bounds of the paper. Exact, no sample. Published: of "
        "GPT2-XL, ROME as released.",
        (
            Column("Method", "text", ("method",)),
            Column("Model", "text", ("model",)),
            Column("# Edits", "count", ("edits",)),
            Column("Distance", "number", SIGNS[:1]),
            Column("> 7.7 %", "share", SIGNS[1:2]),
            Column("> 17.1 %", "share", SIGNS[2:]),
            Column("published: distance", "number", keys[:1]),
            Column("> 7.7 %", "share", keys[1:2]),
            Column("> 17.1 %", "share", keys[2:]),
        ),
        tuple(
            {
                "method": method_title(run.results.method),
                "model": model_title(run.results.model),
                "edits": edits,
                **{sign: run.results.health[edits].get(sign) for sign in SIGNS},
                **dict(zip(keys, printed.get(edits, ()))),
            }
            for run in runs
            for edits in run.results.edited
        ),
    )
