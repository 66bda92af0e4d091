"""Pages of docs/ that are generated: `generate` writes one, `check` says whether it is stale."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

DOCS: Final = Path(__file__).resolve().parent.parent / "docs"


class Undocumented(Exception):
    """Something that the page must explain has no explanation."""


def run(name: str, page: Callable[[], str], arguments: Sequence[str]) -> int:
    """The exit code of `generate` or `check` of docs/`name`.md, whose text is what `page` returns."""
    path = DOCS / f"{name}.md"
    try:
        wanted = page()
    except Undocumented as problem:
        print(f"{name}: {problem}", file=sys.stderr)
        return 1
    match arguments:
        case ["generate"]:
            path.write_text(wanted)
            return 0
        case ["check"]:
            if path.exists() and path.read_text() == wanted:
                print(f"{name}: docs/{name}.md is fresh")
                return 0
            print(f"{name}: docs/{name}.md is stale: run `make {name}`", file=sys.stderr)
            return 1
        case _:
            print(f"usage: {name}.py generate | check", file=sys.stderr)
            return 2
