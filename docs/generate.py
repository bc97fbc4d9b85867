"""Write docs/cli.md from the commands' help; with --check, say whether it is current."""

import sys
from pathlib import Path

from typer import Context
from typer.cli import get_docs_for_click
from typer.main import get_command

from errata.cli.app import app

PAGE = Path(__file__).with_name("cli.md")
HEAD = "<!-- Written by `make docs` from the commands' help; do not edit. -->\n\n"


def render() -> str:
    """The page as it should be."""
    command = get_command(app)
    text = get_docs_for_click(obj=command, ctx=Context(command), name="errata", title="Commands")
    return HEAD + "\n".join(line.rstrip() for line in text.strip().splitlines()) + "\n"


def main() -> int:
    """0 if the page is written or current."""
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(render(), encoding="utf-8")
        return 0
    if PAGE.read_text(encoding="utf-8") == render():
        return 0
    sys.stderr.write("docs/cli.md is not what the commands' help says; write it anew: make docs\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
