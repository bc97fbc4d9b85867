"""Write the pages that say what the program says: docs/cli.md and docs/benchmarks.md.

--check: say whether they are current. --data-dir DIR: print docs/benchmarks.md with the prompts of the rows in DIR.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from typer import Context
from typer.cli import get_docs_for_click
from typer.main import get_command

from errata.capability.harness import prompts
from errata.cli.app import app
from errata.registry import tasks

HERE = Path(__file__).parent
FIXTURES = HERE.parent / "tests" / "capability" / "data"
MARK = "<!-- prompts -->\n"
SHOWN = 12
"""Lines of a prompt that are shown at its beginning, and at its end."""


def commands() -> str:
    """docs/cli.md as it should be."""
    command = get_command(app)
    text = get_docs_for_click(obj=command, ctx=Context(command), name="errata", title="Commands")
    head = "<!-- Written by `make docs` from the commands' help; do not edit. -->\n\n"
    return head + "\n".join(line.rstrip() for line in text.strip().splitlines()) + "\n"


def benchmarks(data_dir: Path = FIXTURES) -> str:
    """docs/benchmarks.md as it should be: what is written by hand, then the prompts."""
    text = (HERE / "benchmarks.md").read_text("utf-8").partition(MARK)[0]
    sections = [_section(name, data_dir) for name in sorted(tasks()) if name.startswith(("p1_", "p2_"))]
    return text + MARK + "".join(sections)


def _section(task: str, data_dir: Path) -> str:
    shown = [_prompt(prompt, answer) for prompt, answer in prompts(task, str(data_dir), 3)]
    return f"\n### `{task}`\n\n{tasks()[task].summary[0].upper()}{tasks()[task].summary[1:]}.\n" + "".join(shown)


def _prompt(prompt: str, answer: str) -> str:
    """A prompt, without the middle of a long one, and what is right."""
    lines = prompt.split("\n")
    left_out = len(lines) - 2 * SHOWN
    if left_out > 1:
        lines = [*lines[:SHOWN], f"[... {left_out} lines]", *lines[-SHOWN:]]
    body = "\n".join(line.rstrip() for line in lines)
    return f"\n````text\n{body}\n````\n\nRight: `{answer}`\n"


PAGES: dict[str, Callable[[], str]] = {"cli.md": commands, "benchmarks.md": benchmarks}


def main() -> int:
    """0 if the pages are written or current."""
    arguments = sys.argv[1:]
    if "--data-dir" in arguments:
        sys.stdout.write(benchmarks(Path(arguments[arguments.index("--data-dir") + 1])))
        return 0
    if "--check" not in arguments:
        for name, render in PAGES.items():
            (HERE / name).write_text(render(), encoding="utf-8")
        return 0
    stale = [name for name, render in PAGES.items() if (HERE / name).read_text(encoding="utf-8") != render()]
    for name in stale:
        sys.stderr.write(f"docs/{name} is not what the program says; write it anew: make docs\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
