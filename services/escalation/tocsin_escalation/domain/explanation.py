"""The input of an explanation, and its parts."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from tocsin_escalation.domain.decision import HANDED_TO_POLICY, NoteKind
from tocsin_escalation.domain.escalation import Escalation
from tocsin_escalation.domain.schedules.model import Segment
from tocsin_escalation.domain.simulate import Plan

PAGING: Final = (NoteKind.LEVEL_PAGED, NoteKind.EXHAUSTED, NoteKind.RESPONDERS_ADDED, NoteKind.URGENCY_RAISED)
"""Entries that make pages."""
_CHOSEN: Final = (
    NoteKind.OPENED,
    NoteKind.POLICY_FALLBACK,
    NoteKind.RESTARTED,
    NoteKind.HANDED_ON,
)
"""Entries after which another policy may run."""


class Verdict(StrEnum):
    """Whether the person was paged. Each is PageVerdict's value of the same name."""

    NOT_PAGED = "not_paged"
    WAITING = "waiting"
    PAGED = "paged"
    NOT_REACHED = "not_reached"
    STOPPED = "stopped"


class About(StrEnum):
    """The subject of a statement. Each is ExplanationKind's value of the same name."""

    USER = "user"
    RULE = "rule"
    PAGED = "paged"
    NOT_PAGED = "not_paged"
    SCHEDULE = "schedule"
    ABSENCE = "absence"
    OVERRIDE = "override"
    OUTCOME = "outcome"
    STOPPED = "stopped"
    CONTACT = "contact"
    NOTIFICATION = "notification"
    ATTEMPT = "attempt"
    NEXT = "next"


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement. `time` is None for a present fact."""

    about: About
    message: str
    evidence: tuple[str, ...]
    time: datetime | None = None
    level: int = 0


@dataclass(frozen=True, slots=True)
class Happened:
    """One timeline entry."""

    id: int
    time: datetime
    kind: NoteKind
    message: str
    level: int
    repeat: int
    generation: int
    paged_users: tuple[str, ...]
    pages: tuple[UUID, ...]

    @property
    def name(self) -> str:
        """The resource name."""
        return f"timelineEntries/{self.id}"

    @property
    def to_policy(self) -> bool:
        """Whether a user handed the incident to another policy."""
        return self.kind is NoteKind.REASSIGNED and self.message.startswith(HANDED_TO_POLICY)


@dataclass(frozen=True, slots=True)
class Away:
    """An absence of the person."""

    id: UUID
    start: datetime
    end: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Tried:
    """One attempt of a notification, in notify's words."""

    time: datetime
    message: str


@dataclass(frozen=True, slots=True)
class Notification:
    """One notification: its resource name, that of its page, and its state in words."""

    name: str
    page: str
    message: str
    time: datetime
    level: int
    sent: bool
    tries: tuple[Tried, ...] = ()


@dataclass(frozen=True, slots=True)
class Contact:
    """What notify knows of the person. `unreachable`: why no page can be sent to them at present; empty when one can.

    `quiet_hours`: when their pages of low urgency wait; empty: never.
    """

    notifications: tuple[Notification, ...] = ()
    unreachable: str = ""
    rules: tuple[str, ...] = ()
    quiet_hours: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """All known facts. `contact` is None when notify did not answer.

    `members`: of teams, at present. `line_ups`: all users whom a schedule names. `segments`: who was on call when an entry was
    written, by schedule and entry, according to the present schedule. `plan`: what follows if no person answers.
    """

    run: Escalation
    user: str
    known: bool
    disabled: bool
    happened: tuple[Happened, ...]
    members: Mapping[str, tuple[str, ...]]
    line_ups: Mapping[str, frozenset[str]]
    segments: Mapping[tuple[str, int], Segment]
    absences: tuple[Away, ...]
    plan: Plan
    contact: Contact | None

    @property
    def name(self) -> str:
        """The resource name of the user whom it is about."""
        return f"users/{self.user}"

    @property
    def pages(self) -> dict[UUID, Happened]:
        """The pages of this person, with the entry that made each."""
        return {
            page: entry
            for entry in self.happened
            if entry.kind in PAGING
            for user, page in zip(entry.paged_users, entry.pages, strict=False)
            if user == self.user
        }

    @property
    def chosen(self) -> int:
        """The id of the entry that chose the present policy."""
        return max((entry.id for entry in self.happened if entry.kind in _CHOSEN or entry.to_policy), default=0)


@dataclass(frozen=True, slots=True)
class Explanation:
    """The verdict, and the statements behind it."""

    verdict: Verdict
    summary: str
    statements: tuple[Statement, ...]
    next_page: datetime | None
