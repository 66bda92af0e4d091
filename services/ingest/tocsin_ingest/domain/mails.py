"""The effect of a mail, and the alert it is about."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from tocsin_ingest.domain.message import Action

SEARCHED: Final = 4096
"""Characters of a body that the rules search."""
_REPLY: Final = re.compile(r"\s*(?:re|aw|sv|vs|antw|odp|ref|rif|fwd?|wg|tr|rv|enc)(?:\[\d{1,3}\])?\s*:", re.IGNORECASE)
"""Prefixes that mail programs add to the subject of an answer or a forwarded mail."""
_PREFIXES: Final = 20


class Refusal(StrEnum):
    """Why a mail has no effect."""

    OWN = "it is a page of Tocsin's own, and would page for itself without end"
    AUTOMATIC = "it is an automatic answer or a bounce, and the integration does not take those (integration.mail.take_automatic)"
    NO_RULE = "neither the rule for mails that open nor the one for mails that resolve holds for it (integration.mail)"


ABOUT: Final = "about"
"""The group of a rule's expression that finds the identity of the alert."""


class Match(Protocol):
    """A place where an expression was found."""

    def span(self) -> tuple[int, int]:
        """From and to."""

    def group(self, name: str, /) -> str | None:
        """What a group found; None when it was not used."""


class Expression(Protocol):
    """A compiled regular expression."""

    @property
    def groupindex(self) -> Mapping[str, int]:
        """The groups that have names."""

    def search(self, text: str, /) -> Match | None:
        """The first place where it is found."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Both hold; one that is None always does."""

    subject: Expression | None = None
    body: Expression | None = None

    def holds(self, mail: "Mail") -> bool:
        """Whether the condition holds for the mail."""
        return (self.subject is None or self.subject.search(mail.subject) is not None) and (
            self.body is None or self.body.search(mail.text[:SEARCHED]) is not None
        )


@dataclass(frozen=True, slots=True)
class Rules:
    """`resolves`: None: no mail does. `opens`: an empty condition is every other mail."""

    resolves: Condition | None = None
    opens: Condition = field(default_factory=Condition)
    take_automatic: bool = False


class Mail(Protocol):
    """What is read of a mail. Texts may be shortened."""

    @property
    def subject(self) -> str:
        """Decoded, in one line."""

    @property
    def text(self) -> str:
        """Of its body."""

    @property
    def automatic(self) -> bool:
        """It is an automatic answer to another mail."""

    @property
    def own(self) -> bool:
        """Tocsin sent it."""


def about(mail: Mail) -> str:
    """Its subject; for a mail without one its first line, as two of those need not be about the same."""
    return mail.subject or mail.text.partition("\n")[0]


def is_reply(mail: Mail) -> bool:
    """Whether a mail program derived its subject from the mail it answers."""
    return _REPLY.match(mail.subject) is not None


def judge(rules: Rules, mail: Mail, *, bounce: bool) -> Action | Refusal:
    """The wanted action. `bounce`: its envelope names no sender."""
    if mail.own:
        return Refusal.OWN
    if (bounce or mail.automatic) and not rules.take_automatic:
        return Refusal.AUTOMATIC
    if rules.resolves is not None and rules.resolves.holds(mail):
        return Action.RESOLVE
    return Action.TRIGGER if rules.opens.holds(mail) else Refusal.NO_RULE


def key_of(rules: Rules, subject: str) -> str:
    """The identity in the subject (`about`), ignoring case and spaces.

    It is the text of a group `ABOUT` of the rules; otherwise the subject without the matches of the rules, or the whole subject
    if nothing is left. Most programs end a subject with the state ("is CRITICAL"), which the rules cannot remove together with
    its beginning.
    """
    rest = subject
    for _ in range(_PREFIXES):
        prefix = _REPLY.match(rest)
        if prefix is None:
            break
        rest = rest[prefix.end() :].lstrip()
    conditions = [each for each in (rules.resolves, rules.opens) if each is not None]
    expressions = [each.subject for each in conditions if each.subject is not None]
    return _words(_named(rest, expressions)) or _words(_without(rest, expressions)) or _words(subject)


def _named(subject: str, expressions: Sequence[Expression]) -> str:
    for each in expressions:
        found = each.search(subject) if ABOUT in each.groupindex else None
        if found is not None and (named := found.group(ABOUT)):
            return named
    return ""


def _without(subject: str, expressions: Sequence[Expression]) -> str:
    for each in expressions:
        found = each.search(subject)
        if found is not None:
            start, end = found.span()
            subject = f"{subject[:start]} {subject[end:]}"
    return subject


def _words(text: str) -> str:
    return " ".join(text.casefold().split())
