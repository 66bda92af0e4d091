"""Rows and values to contract messages, and back."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

from google.protobuf.message import DecodeError
from tocsin.notify.v1 import contact_service_pb2 as contact_pb
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin.type.v1.weekday_pb2 import Weekday
from tocsin_kit.ids import parse_uuid_name
from tocsin_kit.rpc.listing import Position
from tocsin_kit.rpc.masks import etag
from tocsin_kit.rpc.timestamps import duration, timestamp

from tocsin_notify.app.contacts.contacts import ContactInput
from tocsin_notify.app.pages.jobs import CHANNELS, KINDS
from tocsin_notify.app.pages.stored_jobs import title_of
from tocsin_notify.channels.registry import TYPES
from tocsin_notify.domain.evidence import Evidence
from tocsin_notify.domain.notification_settings import Budget, NotificationSettings
from tocsin_notify.domain.page import Channel, Kind, Rule, State, Urgency
from tocsin_notify.domain.quiet_hours import DAY, QuietHours, QuietWindow, clock
from tocsin_notify.store.contacts.contacts import Contact
from tocsin_notify.store.contacts.notification_settings import SettingsRow
from tocsin_notify.store.contacts.rules import RuleSet
from tocsin_notify.store.delivery.dead_letters import DeadLetter, DeadLetterHead
from tocsin_notify.store.delivery.rows import Attempt, Shown

FIRST: Final = (datetime(1, 1, 1, tzinfo=UTC), UUID(int=0))
LAST: Final = (datetime(9999, 12, 31, tzinfo=UTC), UUID(int=(1 << 128) - 1))
URGENCIES: Final = {pb.URGENCY_HIGH: Urgency.HIGH, pb.URGENCY_LOW: Urgency.LOW}
STATES: Final = {
    pb.NOTIFICATION_STATE_PENDING: State.PENDING,
    pb.NOTIFICATION_STATE_SENDING: State.SENDING,
    pb.NOTIFICATION_STATE_SENT: State.SENT,
    pb.NOTIFICATION_STATE_CANCELLED: State.CANCELLED,
    pb.NOTIFICATION_STATE_DEAD: State.DEAD,
    pb.NOTIFICATION_STATE_BUNDLED: State.BUNDLED,
}
_OUTCOMES: Final = {
    "started": pb.ATTEMPT_OUTCOME_STARTED,
    "sent": pb.ATTEMPT_OUTCOME_SENT,
    "retryable": pb.ATTEMPT_OUTCOME_RETRYABLE,
    "permanent": pb.ATTEMPT_OUTCOME_PERMANENT,
}
_EVIDENCE: Final = {
    Evidence.UNKNOWN: pb.EVIDENCE_UNKNOWN,
    Evidence.ACCEPTED: pb.EVIDENCE_ACCEPTED,
    Evidence.FAILED: pb.EVIDENCE_FAILED,
    Evidence.DELIVERED: pb.EVIDENCE_DELIVERED,
    Evidence.READ: pb.EVIDENCE_READ,
    Evidence.ANSWERED: pb.EVIDENCE_ANSWERED,
}
_TYPES_OF: Final = {kind: number for number, kind in KINDS.items()}
CHANNELS_OF: Final = {channel: number for number, channel in CHANNELS.items()}
URGENCIES_OF: Final = {urgency: number for number, urgency in URGENCIES.items()}
_WEEKDAYS: Final = Weekday.values()[1:]
_STATES_OF: Final = {state: number for number, state in STATES.items()}


def contact_to(contact: Contact, *, secret: str = "") -> contact_pb.ContactMethod:
    """`secret` only in the answer to create."""
    message = contact_pb.ContactMethod(
        name=f"contactMethods/{contact.id}",
        user=contact.user_id,
        display_name=contact.display_name,
        disabled=contact.disabled,
        verified=contact.verified,
        create_time=timestamp(contact.create_time),
        update_time=timestamp(contact.update_time),
        etag=etag(contact.version),
    )
    type_ = TYPES.get(contact.channel)
    if type_ is None:
        return message  # a newer version made it
    kind = getattr(message, contact.channel)
    kind.SetInParent()
    if type_.address_field:
        setattr(kind, type_.address_field, contact.address)
    if type_.signs:
        setattr(kind, type_.hidden_field, secret)
        kind.key_id = contact.key_id
    return message


def given_from(message: contact_pb.ContactMethod) -> ContactInput:
    """What the caller asks for; the oneof was validated."""
    type_ = TYPES[Channel(str(message.WhichOneof("kind")))]
    kind = getattr(message, type_.channel)
    return ContactInput(
        message.user,
        message.display_name,
        type_.channel,
        getattr(kind, type_.address_field) if type_.address_field else "",
        message.disabled,
        getattr(kind, type_.hidden_field) if type_.hidden_field else "",
        kind.key_id if type_.signs else "",
    )


def rules_to(rule_set: RuleSet) -> contact_pb.NotificationRules:
    """The rules in their order."""
    return contact_pb.NotificationRules(
        user=rule_set.user_id,
        rules=[
            contact_pb.NotificationRule(
                urgency=URGENCIES_OF.get(rule.urgency, pb.URGENCY_UNSPECIFIED),
                contact_method=f"contactMethods/{rule.method}",
                delay=duration(timedelta(seconds=rule.delay)),
            )
            for rule in rule_set.rules
        ],
        update_time=timestamp(rule_set.update_time),
        etag=etag(rule_set.version),
    )


def rules_from(message: contact_pb.NotificationRules) -> list[Rule]:
    """Raises INVALID_FIELD for a name that is none."""
    return [
        Rule(
            URGENCIES[rule.urgency],
            parse_uuid_name(
                rule.contact_method, "contactMethods", field=f"notification_rules.rules[{index}].contact_method"
            ),
            rule.delay.ToTimedelta() / timedelta(seconds=1),
        )
        for index, rule in enumerate(message.rules)
    ]


def settings_row_to(user: str, row: SettingsRow | None) -> contact_pb.NotificationSettings:
    """What was chosen for the user; None: nothing ever."""
    if row is None:
        return contact_pb.NotificationSettings(user=user, etag=etag(0))
    message = settings_to(user, row.chosen)
    message.update_time.FromDatetime(row.update_time)
    message.etag = etag(row.version)
    return message


def settings_to(user: str, chosen: NotificationSettings) -> contact_pb.NotificationSettings:
    """Without their version."""
    message = contact_pb.NotificationSettings(user=user)
    if chosen.budget is not None:
        message.page_budget.pages = chosen.budget.pages
        if chosen.budget.window is not None:
            message.page_budget.window.FromTimedelta(timedelta(seconds=chosen.budget.window))
    if chosen.quiet is not None:
        message.quiet_hours.time_zone = chosen.quiet.time_zone
        message.quiet_hours.windows.extend(map(_window_to, chosen.quiet.windows))
        message.quiet_hours.SetInParent()
    message.language = chosen.language or ""
    return message


def settings_from(message: contact_pb.NotificationSettings) -> NotificationSettings:
    """What the caller chooses."""
    budget = None
    if message.HasField("page_budget"):
        given = message.page_budget
        seconds = given.window.ToTimedelta() / timedelta(seconds=1)
        budget = Budget(given.pages, seconds if given.HasField("window") else None)
    quiet = None
    if message.HasField("quiet_hours"):
        windows = tuple(map(_window_from, message.quiet_hours.windows))
        quiet = QuietHours(message.quiet_hours.time_zone, windows)
    return NotificationSettings(budget, quiet, message.language or None)


def _window_to(window: QuietWindow) -> contact_pb.QuietWindow:
    end = window.start + window.length
    return contact_pb.QuietWindow(
        days=[_WEEKDAYS[day] for day in sorted(window.days)],
        start=clock(window.start),
        end=clock(end if end <= DAY else end - DAY),
    )


def _window_from(window: contact_pb.QuietWindow) -> QuietWindow:
    start, end = (int(text[:2]) * 60 + int(text[3:]) for text in (window.start, window.end))
    days = frozenset(day - 1 for day in window.days)
    return QuietWindow(days, start, end - start if end > start else end - start + DAY)


def notification_to(row: Shown, attempts: Sequence[Attempt] = ()) -> pb.Notification:
    """A notification as `store.delivery.reads` gives it."""
    sent, planned = row.send_time, row.planned_time
    return pb.Notification(
        name=f"notifications/{row.id}",
        page=f"pages/{row.page_id}",
        type=_TYPES_OF.get(Kind(row.type), pb.NOTIFICATION_TYPE_UNSPECIFIED),
        user=row.user_id,
        # The incident of a bundle is the bundle itself, not a real incident.
        incident=f"incidents/{row.incident}" if row.incident and row.type != Kind.BUNDLE else "",
        contact_method=f"contactMethods/{row.contact_method}",
        channel=CHANNELS_OF.get(Channel(row.channel), pb.CHANNEL_UNSPECIFIED),
        state=_STATES_OF.get(State(row.state), pb.NOTIFICATION_STATE_UNSPECIFIED),
        state_reason=row.state_reason,
        level=row.level,
        repeat=row.repeat,
        generation=row.generation,
        create_time=timestamp(row.create_time),
        due_time=timestamp(row.due_time),
        send_time=timestamp(sent),
        lateness=duration(sent - planned) if sent and planned else None,
        attempts=[attempt_to(attempt) for attempt in attempts],
        title=title_of(row.job),
    )


def attempt_to(row: Attempt) -> pb.Attempt:
    """One attempt."""
    return pb.Attempt(
        number=row.number,
        start_time=timestamp(row.start_time),
        end_time=timestamp(row.end_time),
        outcome=_OUTCOMES.get(row.outcome, pb.ATTEMPT_OUTCOME_UNSPECIFIED),
        detail=row.detail,
        provider_id=row.provider_id,
        evidence=_EVIDENCE.get(_evidence(row), pb.EVIDENCE_UNSPECIFIED),
        evidence_time=timestamp(row.evidence_time),
        evidence_code=row.evidence_code,
    )


def _evidence(row: Attempt) -> Evidence:
    """That a provider took it is known from its answer, before any receipt."""
    evidence = Evidence(row.evidence)
    return Evidence.ACCEPTED if evidence is Evidence.UNKNOWN and row.outcome == "sent" else evidence


def dead_letter_to(row: DeadLetterHead) -> pb.DeadLetter:
    """A whole one has its job, or the bytes of one that cannot be read."""
    letter = pb.DeadLetter(
        name=f"deadLetters/{row.id}",
        notification=f"notifications/{row.notification_id}" if row.notification_id else "",
        user=row.user_id,
        incident=f"incidents/{row.incident}" if row.incident else "",
        reason=row.reason,
        detail=row.detail,
        create_time=timestamp(row.create_time),
        redrive_time=timestamp(row.redrive_time),
    )
    if isinstance(row, DeadLetter):
        if row.job is not None:
            try:
                letter.job.MergeFromString(row.job)
            except DecodeError:
                letter.raw = row.job
        if row.raw is not None:
            letter.raw = row.raw
    return letter


class _Created(Protocol):
    @property
    def create_time(self) -> datetime | None: ...

    @property
    def id(self) -> UUID: ...


def place(row: _Created) -> Position:
    """Where a row stands in lists by the time of creation."""
    return row.create_time, row.id
