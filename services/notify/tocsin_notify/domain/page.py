"""What is sent to whom: the words of this service as values. Text forms are those of the tables and of webhooks."""

from collections.abc import Sequence
from dataclasses import dataclass
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
    """Through what."""

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
"""Nobody is called to hear that an incident is over, or to be read a message or a digest: those take other channels, or none."""


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
"""Used when the user has no other method left, or a rule names one: nothing is known of a message but that it was taken."""


class Urgency(Word):
    """How fast a user wants to hear of it."""

    HIGH = "high"
    LOW = "low"


class State(Word):
    """Where a notification is: pending -> sending -> sent; back to pending for a retry; cancelled and dead are ends. So is
    bundled: it is sent together with others, by the notifications of their bundle's page."""

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
"""The kinds that escalation hands over for people to react to, and whose outcomes it is told."""
WAKING: Final = PAGES | {Kind.BUNDLE}
"""The kinds that wake people: pages, and the one that stands for several."""
NEWS: Final = frozenset({Kind.ACKNOWLEDGMENT, Kind.RESOLUTION})
ONE_WAY: Final = NEWS | {Kind.MESSAGE, Kind.DIGEST}
"""Sent through one contact method, that does not ring; through another one only if that fails, and a digest through no other."""

CRITICAL: Final = 0
"""Priority of high-urgency pages: never behind the rest."""
NORMAL: Final = 1
SLOW: Final = {CRITICAL: 2, NORMAL: 3}
"""The lane behind each, for pages that no method of their user has taken: they wait for all that is fresh."""
_SLOW_LANES: Final = frozenset(SLOW.values())
DIGESTS: Final = 4
"""The last lane, with room of its own: thousands may be due at one minute."""
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
    """Only a final stop of its incident stops it, such as its end; no acknowledge."""


@dataclass(frozen=True, slots=True)
class Method:
    """One way to reach the user."""

    id: UUID
    channel: Channel
    verified: bool
    disabled: bool = False
    user_disabled: bool = False

    @property
    def usable(self) -> bool:
        """May carry pages: its owner proved that it reaches them, did not switch it off, and is not disabled."""
        return self.verified and not self.disabled and not self.user_disabled


def by_worth(methods: Sequence[Method]) -> list[Method]:
    """In their order, those of last resort behind all others."""
    return sorted(methods, key=lambda method: method.channel in LAST_RESORT)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the user: for this urgency, this method, `delay` seconds after the page."""

    urgency: Urgency
    method: UUID
    delay: float


def urgency_of(kind: Kind, *, severe: bool) -> Urgency:
    """High for pages of critical and error incidents, which must wake their receiver, and messages about such. News never is."""
    return Urgency.HIGH if severe and kind in WAKING | {Kind.MESSAGE} else Urgency.LOW


def priority_of(kind: Kind, urgency: Urgency) -> int:
    """Which lane: high-urgency pages go first, digests last, everything else shares the rest."""
    if kind is Kind.DIGEST:
        return DIGESTS
    return CRITICAL if kind in WAKING and urgency is Urgency.HIGH else NORMAL


def is_slow(priority: int) -> bool:
    """Whether this is one of the slow lanes."""
    return priority in _SLOW_LANES
