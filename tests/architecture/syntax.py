"""The syntax trees of source files, each parsed and walked once for all that look at it."""

import ast
from functools import cache
from pathlib import Path


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """All of a file's tree, from the outside in."""
    return tuple(ast.walk(ast.parse(path.read_text())))
