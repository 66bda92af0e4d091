"""The values of this service. Text forms are those of the tables and of webhooks."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from tocsin_notify.domain.words import Word


class Kind(Word):
    """Why a user is notified."""

    NEW_INCIDENT = "new_incident"
    ESCALATION = "escalation"
    ACKNOWLEDGMENT = "acknowledgment"
    RESOLUTION = "resolution"
    TEST = "test"
    VERIFICATION = "verification"
    URGENCY_RAISED = "urgency_raised"
    CONTACT_CHANGED = "contact_changed"
    MESSAGE = "message"
    BUNDLE = "bundle"
    DIGEST = "digest"


class Channel(Word):
    """How the user is notified."""

    EMAIL = "email"
    WEBHOOK = "webhook"
    CONSOLE = "console"
    SMS = "sms"
    VOICE = "voice"
    NTFY = "ntfy"
    PUSHOVER = "pushover"
    TELEGRAM = "telegram"
    SLACK = "slack"
    MATTERMOST = "mattermost"
    DISCORD = "discord"
    TEAMS = "teams"
    WEB_PUSH = "web_push"
    APPRISE = "apprise"


RINGING: Final = frozenset({Channel.VOICE})
"""No call is made to say that an incident is over, or to read out a message or a digest: those use other channels, or
none."""


ONE_ACCOUNT: Final = (
    Channel.EMAIL,
    Channel.SMS,
    Channel.VOICE,
    Channel.PUSHOVER,
    Channel.TELEGRAM,
    Channel.SLACK,
)
"""All tenants share the operator's account at the provider."""

LAST_RESORT: Final = frozenset({Channel.APPRISE})
"""Used when the user has no other method left, or a rule names one: it reports no more than that a message was
accepted."""


class Urgency(Word):
    """How urgently a user wants to be told."""

    HIGH = "high"
    LOW = "low"


class State(Word):
    """The state of a notification: pending -> sending -> sent; back to pending for a retry. Cancelled and dead are
    final. Bundled is final as well: the page is sent together with others, by the notifications of their bundle's page."""

    PENDING = "pending"
    SENDING = "sending"
    SENT = "sent"
    CANCELLED = "cancelled"
    DEAD = "dead"
    BUNDLED = "bundled"


class DeathReason(StrEnum):
    """Why something was given up."""

    ATTEMPTS_EXHAUSTED = "ATTEMPTS_EXHAUSTED"
    PERMANENT_FAILURE = "PERMANENT_FAILURE"
    NO_CONTACT_METHOD = "NO_CONTACT_METHOD"
    UNREADABLE_JOB = "UNREADABLE_JOB"


PAGES: Final = frozenset({Kind.NEW_INCIDENT, Kind.ESCALATION, Kind.URGENCY_RAISED})
"""The kinds that escalation sends so that people react, and whose outcomes it is told."""
LATE: Final = timedelta(seconds=10)
"""Escalation is asked about a page that arrives so long after its planned time: its incident may be over."""
WAKING: Final = PAGES | {Kind.BUNDLE}
"""The kinds that wake people: pages, and bundles of them."""
NEWS: Final = frozenset({Kind.ACKNOWLEDGMENT, Kind.RESOLUTION})
ONE_WAY: Final = NEWS | {Kind.MESSAGE, Kind.DIGEST}
"""Sent through one contact method that does not ring. If that fails they go through another one, except a digest."""

CRITICAL: Final = 0
"""Priority of high-urgency pages: never behind the rest."""
NORMAL: Final = 1
SLOW: Final = {CRITICAL: 2, NORMAL: 3}
"""The lane behind each, for pages that no method of their user has accepted: new pages go first."""
_SLOW_LANES: Final = frozenset(SLOW.values())
DIGESTS: Final = 4
"""The last lane, with slots of its own: thousands may be due in one minute."""
LANES: Final = (CRITICAL, NORMAL, *SLOW.values(), DIGESTS)
"""In the order in which they are served."""


@dataclass(frozen=True, slots=True)
class Page:
    """The wish to reach one user, as far as planning needs it."""

    kind: Kind
    urgency: Urgency
    channel_override: Channel | None = None
    only_method: UUID | None = None
    """This contact method and no other: tests and verification codes."""
    outlasts: bool = False
    """Only a final stop of its incident, such as its end, stops it; an acknowledge does not."""


@dataclass(frozen=True, slots=True)
class Method:
    """A contact method of the user."""

    id: UUID
    channel: Channel
    verified: bool
    disabled: bool = False
    user_disabled: bool = False

    @property
    def usable(self) -> bool:
        """May carry pages: its owner has verified it, has not switched it off, and is not disabled."""
        return self.verified and not self.disabled and not self.user_disabled


def by_worth(methods: Sequence[Method]) -> list[Method]:
    """In their order, with those of last resort at the end."""
    return sorted(methods, key=lambda method: method.channel in LAST_RESORT)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the user: for this urgency, this method, `delay` seconds after the page."""

    urgency: Urgency
    method: UUID
    delay: float


def urgency_of(kind: Kind, *, severe: bool) -> Urgency:
    """High for pages of critical and error incidents, which must wake their receiver, and for messages about these.
    News never is."""
    return Urgency.HIGH if severe and kind in WAKING | {Kind.MESSAGE} else Urgency.LOW


def priority_of(kind: Kind, urgency: Urgency) -> int:
    """Which lane: high-urgency pages go first, digests last, everything else shares the rest."""
    if kind is Kind.DIGEST:
        return DIGESTS
    return CRITICAL if kind in WAKING and urgency is Urgency.HIGH else NORMAL


def is_slow(priority: int) -> bool:
    """Whether this is one of the slow lanes."""
    return priority in _SLOW_LANES


def is_late(kind: Kind, planned: datetime | None, arrived: datetime) -> bool:
    """Whether a page arrived so long after its planned time that its incident may be over."""
    return kind in PAGES and planned is not None and arrived - planned > LATE
