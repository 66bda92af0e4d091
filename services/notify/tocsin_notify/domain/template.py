"""Templates of an organisation: for which messages, and of which parts a message consists."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from tocsin_notify.domain.page import Kind


class Part(StrEnum):
    """One text of a message. The words are the fields of the contract's `Template` and the columns of the table."""

    SUBJECT = "subject"
    """The subject of a mail, and the title of a push or chat message: one line."""
    TEXT = "text"
    """The body of a mail."""
    HTML = "html"
    """The same as HTML, beside it."""
    SMS = "sms"
    CHAT = "chat"
    """What stands below the title of a push or chat message."""
    VOICE = "voice"
    """What a call reads out before it names the keys."""


Wording = Mapping[Part, str]
"""The texts that a template gives for the parts of one message."""

MOST_BYTES: Final = 65_536
"""Of all templates of a tenant."""

FIXED: Final = frozenset({Kind.VERIFICATION, Kind.CONTACT_CHANGED, Kind.DIGEST})
"""Kinds without templates. The first two protect the ways to reach a user, so no tenant may change their text; a digest
has figures with a layout of their own."""

LANGUAGES: Final = ("en", "de")
"""Of the default texts; the first one is that of users who chose none."""


class BadTemplate(ValueError):
    """A template that cannot be used. `line` and `column` count from 1; 0: the whole of it."""

    def __init__(self, problem: str, line: int = 0, column: int = 0) -> None:
        super().__init__(problem)
        self.problem = problem
        self.line = line
        self.column = column

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}: {self.problem}" if self.line else self.problem
