"""errata locate: which layers hold the facts."""

from dataclasses import asdict
from typing import Annotated

import typer

from errata.cli.options import Device, Dtype, Json
from errata.cli.output import emit, progress, table


def locate(
    model: Annotated[str, typer.Argument(help="`atlas`, a folder, or a hub name.")],
    data: Annotated[str, typer.Option(help="Data set or file of edits whose prompts are traced.")] = "atlas",
    cases: Annotated[int, typer.Option(min=1, help="How many prompts.")] = 100,
    samples: Annotated[int, typer.Option(min=1, help="Draws of noise for each prompt.")] = 8,
    window: Annotated[int | None, typer.Option(min=1, help="MLPs restored together; a fifth of the layers.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise and of the choice of prompts.")] = 0,
    device: Device = None,
    dtype: Dtype = None,
    json: Json = False,
) -> None:
    """Trace facts causally: how much of an answer each layer brings back after noise on the subject."""
    from errata.data.cases import read_cases
    from errata.model.loading import load
    from errata.model.locate import trace

    chosen = read_cases(data, limit=cases, seed=seed)
    traced = load(model, device=device, dtype=dtype)
    with progress() as bar:
        found = trace(traced, chosen, samples, window=window, seed=seed, progress=bar)
    if json:
        emit({**asdict(found), "peak": found.peak()})
        return
    mlp, hidden = ([e for e in found.effects if e.kind == kind] for kind in ("mlp", "hidden"))
    rows = [
        (str(m.layer), f"{m.effect:.3f}", f"{m.low:.3f} to {m.high:.3f}", f"{h.effect:.3f}")
        for m, h in zip(mlp, hidden, strict=True)
    ]
    table(("layer", "effect of its MLP", "95 % interval", "effect of the residual stream"), rows)
    typer.echo(f"{found.cases} answers traced, {found.skipped} not known; probability of the answer:")
    typer.echo(
        f"{found.clean:.3f} without noise, {found.corrupted:.3f} with it. The MLPs' effect peaks at {found.peak()}."
    )
