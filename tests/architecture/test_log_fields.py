"""What an error says stands under one name in every line of the log, so that one search finds it."""

import ast
import re
from collections.abc import Iterator

from tests.architecture.syntax import nodes
from tests.architecture.test_boundaries import ROOT, SOURCES

SAID = re.compile(r"\b(error|fault)\.message\b|\b(str|repr)\(error\)")
OTHER_WORDS = {"why", "cause", "message"}
REASONS = {"reason", "detail"}


def lines() -> Iterator[tuple[str, ast.Call]]:
    """Where a line is logged."""
    for path in SOURCES:
        for node in nodes(path):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("_log."):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def test_what_an_error_says_is_logged_as_its_error() -> None:
    found = list(lines())
    assert len(found) > 100
    others = [
        f"{place} {keyword.arg}"
        for place, call in found
        for keyword in call.keywords
        if keyword.arg in OTHER_WORDS or (keyword.arg in REASONS and SAID.search(ast.unparse(keyword.value)))
    ]
    assert others == []


def test_the_event_is_a_name() -> None:
    named = re.compile(r"[a-z][a-z0-9_]*$")
    others = [
        place
        for place, call in lines()
        if call.args and isinstance(call.args[0], ast.Constant) and not named.match(str(call.args[0].value))
    ]
    assert others == []
