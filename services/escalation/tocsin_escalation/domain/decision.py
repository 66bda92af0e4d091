"""The parts of a decision: the next state, its consequences, and the timeline entries."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import NAMESPACE_URL, UUID, uuid5

from tocsin_escalation.domain.escalation import Escalation, Run
from tocsin_escalation.domain.policy import GapChoice
from tocsin_escalation.domain.words import Word


class PageType(StrEnum):
    """Why a user is notified. The first two are pages of a level, the third one of its own, the others news."""

    NEW_INCIDENT = "new_incident"
    ESCALATION = "escalation"
    URGENCY_RAISED = "urgency_raised"
    ACKNOWLEDGMENT = "acknowledgment"
    RESOLUTION = "resolution"


@dataclass(frozen=True, slots=True)
class Page:
    """A request to reach one user once. `urgent`: which contact rules apply; None for those of the incident's severity."""

    id: UUID
    user: str
    type: PageType
    level: int
    repeat: int
    generation: int
    planned_time: datetime
    actor: str = ""
    urgent: bool | None = None


@dataclass(frozen=True, slots=True)
class StopPages:
    """Stop every page of `generation` and before, or those of one `user`. `final`: also reminders that come once, because the
    incident is over."""

    generation: int
    reason: str
    final: bool = False
    user: str = ""


@dataclass(frozen=True, slots=True)
class TurnTaken:
    """The user had a turn at a level of the policy. The other users of the level come before them now."""

    policy: str
    user: str


Command = Page | StopPages | TurnTaken


HANDED_TO_POLICY: Final = "handed to policies/"
"""Begins the line of a REASSIGNED that chose another policy: one to users, teams or schedules leaves the policy as it is."""


class NoteKind(Word):
    """The kinds of timeline entries; each is TimelineKind's value of the same name."""

    OPENED = "opened"
    LEVEL_PAGED = "level_paged"
    LEVEL_SKIPPED = "level_skipped"
    REPEATED = "repeated"
    EXHAUSTED = "exhausted"
    ACKNOWLEDGED = "acknowledged"
    UNACKNOWLEDGED = "unacknowledged"
    ACK_TIMED_OUT = "ack_timed_out"
    SNOOZED = "snoozed"
    SNOOZE_ENDED = "snooze_ended"
    ESCALATED = "escalated"
    REASSIGNED = "reassigned"
    NOTE = "note"
    RESOLVED = "resolved"
    ALERTS_ADDED = "alerts_added"
    POLICY_FALLBACK = "policy_fallback"
    STALE = "stale"
    SEVERITY_RAISED = "severity_raised"
    PAGE_UNREACHABLE = "page_unreachable"
    PAGE_FAILED = "page_failed"
    PAGE_DELAYED = "page_delayed"
    PAGE_SENT = "page_sent"
    PAGE_DELIVERED = "page_delivered"
    NOBODY_REACHED = "nobody_reached"
    URGENCY_RAISED = "urgency_raised"
    RESPONDERS_ADDED = "responders_added"
    RESTARTED = "restarted"
    EDITED = "edited"
    LEVEL_HELD = "level_held"
    LEVEL_PASSED = "level_passed"
    LEVEL_DEFERRED = "level_deferred"
    HANDED_ON = "handed_on"
    MERGED = "merged"
    MERGED_FROM = "merged_from"
    UNMERGED = "unmerged"
    UNMERGED_FROM = "unmerged_from"


@dataclass(frozen=True, slots=True)
class Note:
    """One timeline entry, without what the state beside it shows already.

    `page` and `outcome` are set for the outcome of a page: the page, and the outcome's key. `gap` is set when a level found no
    user because of a gap in a schedule: what the policy did about it. `anew`: an incident starts that existed before.
    """

    kind: NoteKind
    actor: str
    message: str
    level: int = 0
    pages: tuple[Page, ...] = ()
    lateness_ms: int = 0
    page: UUID | None = None
    outcome: str = ""
    gap: GapChoice | None = None
    anew: bool = False


class Refusal(StrEnum):
    """Why a person's command is refused. Each is an ErrorReason of the same name."""

    INCIDENT_RESOLVED = "INCIDENT_RESOLVED"
    INCIDENT_STATE = "INCIDENT_STATE"
    NO_NEXT_LEVEL = "NO_NEXT_LEVEL"
    LEVEL_UNKNOWN = "LEVEL_UNKNOWN"
    NO_RESPONDERS = "NO_RESPONDERS"
    NO_POLICY = "NO_POLICY"
    INCIDENT_MERGED = "INCIDENT_MERGED"
    NOT_MERGED = "NOT_MERGED"


@dataclass(frozen=True, slots=True)
class Decision:
    """The result of one event. With a refusal no other field is set, and nothing may be written."""

    next: Escalation
    commands: tuple[Command, ...] = ()
    notes: tuple[Note, ...] = ()
    refusal: Refusal | None = None
    already: bool = False


ASKED: Final = "asked"
"""Distinguishes the page of a person who was asked for from that of their level: they may get both."""


def page_id(run: Run, type_: str, level: int, user: str) -> UUID:
    """The same page has the same id however often it is decided: a page that is sent twice stays one page."""
    return uuid5(NAMESPACE_URL, f"{run.incident_id}/{run.generation}/{run.repeat}/{level}/{type_}/{user}")
