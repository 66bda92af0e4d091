"""The escalation: the run that pages people for one incident."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from operator import attrgetter
from typing import Any, Final
from uuid import UUID

from tocsin_escalation.domain.policy import Policy
from tocsin_escalation.domain.words import Word


class State(Word):
    """The state of an escalation. The database's CHECKs name the same words."""

    TRIGGERED = "triggered"
    ACKNOWLEDGED = "acknowledged"
    SNOOZED = "snoozed"
    EXHAUSTED = "exhausted"
    MERGED = "merged"
    RESOLVED = "resolved"


class PageState(Word):
    """The state of a page. The words are kept in `escalations.pages`."""

    OPEN = "open"
    SENT = "sent"
    FAILED = "failed"


class Reached(Word):
    """Whether a provider accepted any page of an incident. The database's CHECK names the same words."""

    UNKNOWN = "unknown"
    SOMEBODY = "somebody"
    NOBODY = "nobody"


class TimerKind(Word):
    """The effect of a timer when it is due."""

    LEVEL_TIMEOUT = "level_timeout"
    ACK_TIMEOUT = "ack_timeout"
    SNOOZE_END = "snooze_end"
    GAP_HOLD = "gap_hold"
    """The level waits until a user comes on call: its schedules are checked again."""
    DEFERRED = "deferred"
    """The level waits for the hours in which the policy pages incidents of this urgency."""
    DEFERRED_END = "deferred_end"
    """The fallback target after the last level waits for these hours. A version without this word does the same."""


@dataclass(frozen=True, slots=True)
class Timer:
    """One due time of one escalation and generation. An escalation has at most one.

    `level_end`: set while people of the level are paged one after the other, or repeatedly. The level ends at that time; the
    timer before it ends a turn, or starts the next repeat.
    """

    id: UUID
    kind: TimerKind
    due_time: datetime
    generation: int
    level_end: datetime | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts about the incident that responders see. `severity` is tocsin.type.v1.Severity's number: 1 is the worst."""

    title: str
    source: str
    severity: int
    integration: str
    create_time: datetime
    labels: dict[str, str] = field(default_factory=dict)
    links: tuple[tuple[str, str], ...] = ()
    alert_count: int = 1

    @property
    def urgent(self) -> bool:
        """Critical or error: never waits behind others."""
        return self.severity <= 2


@dataclass(frozen=True, slots=True)
class Escalation:
    """One incident's run. `level` counts from 1 and is 0 before the first page; `repeat` counts from 0.

    `pages` holds every page whose outcome matters: those of the current level, and open ones of earlier levels. `handed_on`: how
    often the run was handed on at the end of a policy since one was chosen for it. `merged_into`: the incident into which this
    one was merged; also when it was resolved afterwards. `followers`: users who hear of each change, and the channel, empty for
    the channels of their rules. `severity_set`: a person has set the severity, so repeats of known alerts do not change it.
    """

    org_id: str
    incident_id: UUID
    facts: Facts
    state: State = State.TRIGGERED
    policy: Policy | None = None
    on_fallback_policy: bool = False
    level: int = 0
    repeat: int = 0
    generation: int = 1
    timer: Timer | None = None
    assignees: tuple[str, ...] = ()
    paged_users: tuple[str, ...] = ()
    pages: Mapping[UUID, PageState] = field(default_factory=dict)
    reached: Reached = Reached.UNKNOWN
    acknowledged_by: str = ""
    acknowledge_time: datetime | None = None
    resolved_by: str = ""
    resolve_time: datetime | None = None
    added_alerts_noted: bool = False
    severity_set: bool = False
    handed_on: int = 0
    merged_into: UUID | None = None
    followers: Mapping[str, str] = field(default_factory=dict)
    last_sequence: int = 0
    version: int = 1


_NAMES: Final = tuple(each.name for each in fields(Escalation))
_PLACES: Final = {name: place for place, name in enumerate(_NAMES)}
_VALUES: Final = attrgetter(*_NAMES)


def changed(run: Escalation, **values: Any) -> Escalation:
    """Like `dataclasses.replace`, in a third of the time: every page goes through several of these."""
    given = list(_VALUES(run))
    for name, value in values.items():
        given[_PLACES[name]] = value
    return Escalation(*given)


@dataclass(frozen=True, slots=True)
class PagedRun:
    """The part of an escalation that a page's id, a timeline entry and an outcome without effect on the level need."""

    org_id: str
    incident_id: UUID
    state: State
    level: int
    repeat: int
    generation: int
    assignees: tuple[str, ...]
    pages: Mapping[UUID, PageState]
    reached: Reached


Run = Escalation | PagedRun
"""Where the rest of an escalation is not needed."""
