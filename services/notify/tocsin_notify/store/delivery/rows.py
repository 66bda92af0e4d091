"""Rows of notifications as the store returns them: each class has the columns of one query, in their order."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tocsin_notify.domain.page import Channel
from tocsin_notify.store.pages.people import StoredTarget


@dataclass(frozen=True, slots=True)
class NotificationHead:
    """A notification with its page, user and incident."""

    id: UUID
    org_id: str
    page_id: UUID
    user_id: str
    incident: UUID | None
    generation: int
    priority: int
    contact_method: UUID


@dataclass(frozen=True, slots=True)
class Claimed(NotificationHead):
    """A claimed row. `verdict`: see `notifications.claim`. `attempts` and `tries` include the attempt that begins now."""

    channel: str
    address: str
    secret: bytes | None
    key_id: str
    attempt_group: int
    attempts: int
    tries: int
    type: str
    job: bytes
    stop_reason: str | None
    verdict: str
    now: datetime
    language: str | None
    """The user's choice, or the organisation's."""
    answered: int
    """Pages that are stopped, if it is a message for several."""

    @property
    def target(self) -> StoredTarget:
        """The address of its method."""
        return StoredTarget(Channel(self.channel), self.address, self.secret, self.key_id)


@dataclass(frozen=True, slots=True)
class Concluded(NotificationHead):
    """A notification whose attempt ended. `delay`: seconds until the next attempt, if its new `state` is pending."""

    detail: str
    delay: float
    state: str
    planned_time: datetime | None
    type: str
    now: datetime


@dataclass(frozen=True, slots=True)
class Receipted(NotificationHead):
    """A notification whose receipt came, with the earlier evidence, and why its incident was stopped, if it was.

    `outdone`: a later attempt is under way, or the provider accepted it.
    """

    channel: str
    state: str
    tries: int
    evidence: str
    type: str
    job: bytes
    fence_reason: str | None
    outdone: bool


@dataclass(frozen=True, slots=True)
class Unreceipted(NotificationHead):
    """A notification without a receipt. `matters`: its incident was not stopped, and its receipt was expected lately."""

    matters: bool
    type: str


@dataclass(frozen=True, slots=True)
class AnsweredPage:
    """The page of an attempt: its user and incident, and when the attempt began; `now` is the database's clock, `state` that of
    the notification.

    `gone`: the contact method it was sent to was deleted, perhaps with its user.
    """

    page_id: UUID
    user_id: str
    incident: UUID | None
    start_time: datetime
    provider_id: str
    type: str
    job: bytes
    now: datetime
    state: str
    gone: bool
    language: str | None


@dataclass(frozen=True, slots=True)
class Upcoming:
    """A notification that is due later, or with `message` a scheduled message; `now` is the database's clock."""

    id: UUID
    due_time: datetime
    priority: int
    message: bool
    now: datetime


@dataclass(frozen=True, slots=True)
class Shown:
    """A notification for a list, with fields of its page."""

    id: UUID
    page_id: UUID
    user_id: str
    incident: UUID | None
    generation: int
    contact_method: UUID
    channel: str
    state: str
    state_reason: str
    create_time: datetime
    due_time: datetime | None
    send_time: datetime | None
    type: str
    level: int
    repeat: int
    planned_time: datetime | None
    job: bytes


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt, with its evidence."""

    number: int
    start_time: datetime
    end_time: datetime | None
    outcome: str
    detail: str
    provider_id: str
    evidence: str
    evidence_time: datetime | None
    evidence_code: str
