"""errata prompts: what a benchmark asks, word by word, without a model."""

from typing import Annotated

import typer

from errata.cli.options import DataDir, Json
from errata.cli.output import emit
from errata.errors import BadInput
from errata.registry import expand_tasks, tasks, unknown


def prompts(
    names: Annotated[list[str], typer.Argument(metavar="TASK...", help="Tasks of the package, or groups of them.")],
    data_dir: DataDir = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many items of each.")] = 3,
    json: Json = False,
) -> None:
    """Show the prompts of benchmark items, exemplars included, and the right answers."""
    asked = expand_tasks(names)
    for name in asked:
        if name not in tasks():
            raise BadInput(unknown("task", name, tasks(), "errata list tasks"))
    from errata.capability.harness import prompts as render  # importing the harness takes seconds

    shown = [
        {"task": name, "prompt": prompt, "answer": answer}
        for name in asked
        for prompt, answer in render(name, data_dir, count)
    ]
    if json:
        emit({"prompts": shown})
        return
    for item in shown:
        typer.echo(f"----- {item['task']}, right: {item['answer']}\n{item['prompt']}\n")
