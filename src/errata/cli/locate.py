"""errata locate: which layers hold the facts."""

from typing import Annotated

import typer

from errata.cli.options import Device, Dtype, Json
from errata.cli.output import emit, progress, table


def locate(
    model: Annotated[str, typer.Argument(help="`atlas`, a folder, or a hub name.")],
    data: Annotated[str, typer.Option(help="Data set or file of edits whose prompts are traced.")] = "atlas",
    cases: Annotated[int, typer.Option(min=1, help="How many prompts.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the noise and of the choice of prompts.")] = 0,
    device: Device = None,
    dtype: Dtype = None,
    json: Json = False,
) -> None:
    """Trace facts causally: how much each layer's MLP restores of an answer lost to noise on the subject."""
    from errata.data.cases import read_cases
    from errata.model.loading import load
    from errata.model.locate import trace

    traced = load(model, device=device, dtype=dtype)
    with progress() as bar:
        found = trace(traced, read_cases(data, limit=cases, seed=seed), seed=seed, progress=bar)
    raise typer.Exit
