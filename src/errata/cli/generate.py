"""errata generate: ask a model or a saved session."""

from typing import Annotated

import typer

from errata.cli.options import Device, Dtype, Json
from errata.cli.output import emit, table


def generate(
    model: Annotated[
        str, typer.Argument(help="`atlas`, a folder (also one that `errata edit --save` made), or a hub name.")
    ],
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT...", help="What to continue.")],
    max_new_tokens: Annotated[int, typer.Option(min=1, help="At most so many tokens an answer.")] = 32,
    stop: Annotated[
        list[str] | None, typer.Option(help="Text that ends an answer; repeatable. Default: a new line.")
    ] = None,
    device: Device = None,
    dtype: Dtype = None,
    json: Json = False,
) -> None:
    """Continue prompts greedily."""
    from errata.model.loading import load

    asked = load(model, device=device, dtype=dtype)
    answers = asked.generate(prompts, max_new_tokens=max_new_tokens, stop=tuple(stop or ("\n",)))
    if json:
        pairs = [{"prompt": p, "answer": a.strip()} for p, a in zip(prompts, answers, strict=True)]
        emit({"model": model, "answers": pairs})
    elif len(prompts) == 1:
        typer.echo(answers[0].strip())
    else:
        table(("prompt", "answer"), [(p, a.strip()) for p, a in zip(prompts, answers, strict=True)])
