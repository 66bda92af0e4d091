"""Statements that carry their values in their text: for scripts of several statements, to which PostgreSQL takes no parameters."""

import re
from typing import Final
from uuid import UUID

_PARAMETER: Final = re.compile(r"\$(\d+)")


def inlined(text: str, *values: str | int | UUID) -> str:
    """The statement with its values in place of `$1`, `$2` and so on. They may come from callers."""
    literals = [_literal(value) for value in values]
    return _PARAMETER.sub(lambda found: literals[int(found[1]) - 1], text)


def _literal(value: str | int | UUID) -> str:
    if isinstance(value, UUID):
        return f"'{value}'::uuid"
    if isinstance(value, int):
        return str(int(value))
    # As hexadecimal digits, in which nothing can end the text.
    return f"convert_from('\\x{value.encode().hex()}', 'UTF8')"
