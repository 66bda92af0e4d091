"""Messages with which a template is tested: the longest possible, the shortest possible, and an example."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from tocsin.notify.v1 import notification_pb2 as pb
from tocsin.notify.v1 import shift_pb2
from tocsin.type.v1 import severity_pb2

from tocsin_notify.channels.base import Delivery, Target
from tocsin_notify.domain.page import PAGES, Channel, Kind
from tocsin_notify.texts.own_messages import in_language

_ID: Final = UUID("01920000-0000-7000-8000-000000000000")
_LONG: Final = "\N{FIRE} <&\"'"
_LINK: Final = f"https://tocsin.example.com/p/{'x' * 90}"
_TARGET: Final = Target(Channel.EMAIL, "")
_NOW: Final = datetime(2026, 1, 1, 8, tzinfo=UTC)
_DAY: Final = timedelta(days=1)
_SWAPS: Final = frozenset(
    {shift_pb2.SHIFT_NOTICE_SWAP_OFFERED, shift_pb2.SHIFT_NOTICE_SWAP_ACCEPTED, shift_pb2.SHIFT_NOTICE_SWAP_DECLINED}
)
_OF_NO_INCIDENT: Final = frozenset({Kind.TEST, Kind.MESSAGE, Kind.VERIFICATION, Kind.CONTACT_CHANGED})


def sample_job(kind: Kind) -> pb.NotificationJob:
    """An example."""
    job = pb.NotificationJob(
        page=f"pages/{_ID}",
        user="users/ana",
        title="Disk full on db-1",
        source="db-1",
        severity=severity_pb2.SEVERITY_CRITICAL,
        level=1,
        policy="policies/database",
        alert_count=3,
        actor="" if kind in PAGES else "users/ben",
        text="What it says.",
    )
    if kind not in _OF_NO_INCIDENT:
        job.incident = f"incidents/{_ID}"
        job.ordered_links.add(href="https://wiki.example.com/disk-full", text="Runbook")
    return job


def sample_shift_job(notice: shift_pb2.ShiftNotice.ValueType) -> pb.NotificationJob:
    """An example of a notice about a user's shift."""
    job = sample_job(Kind.MESSAGE)
    job.about = "schedules/web"
    told = job.shift
    told.notice, told.time_zone = notice, "Europe/Berlin"
    told.make_time.FromDatetime(_NOW)
    told.schedules.append("Web")
    shift = told.stretches.add(schedule="Web")
    begins = _NOW if notice == shift_pb2.SHIFT_NOTICE_HAND_OVER else _NOW + _DAY
    shift.start_time.FromDatetime(begins)
    shift.end_time.FromDatetime(begins + 7 * _DAY)
    if notice == shift_pb2.SHIFT_NOTICE_CHANGED:
        shift.cause = "override"
        shift.loss.people.names.append("Ben")
    elif notice in _SWAPS:
        told.people.names.append("Ben")
    else:
        shift.hands_over.names.append("Ben")
    if notice == shift_pb2.SHIFT_NOTICE_SWAP_OFFERED:
        told.reason, told.swap = "A wedding.", f"swaps/{_ID}"
    if notice == shift_pb2.SHIFT_NOTICE_HAND_OVER:
        incident = told.incidents.add(title=job.title, severity=job.severity, state="triggered")
        incident.create_time.FromDatetime(_NOW - _DAY)
    return job


def delivery_of(kind: Kind, job: pb.NotificationJob, *, link: str = _LINK, language: str = "en") -> Delivery:
    """A delivery that is not sent."""
    return Delivery(
        key="",
        notification=_ID,
        org_id=job.org_id,
        kind=kind,
        job=in_language(job, language),
        target=_TARGET,
        attempt=1,
        start_time=_NOW,
        link=link if job.incident else "",
        language=language,
    )


def extremes(kind: Kind, language: str) -> Iterator[Delivery]:
    """The longest possible message of the kind, and the shortest; and notices about shifts."""
    longest = sample_job(kind)
    for field, size in (("title", 4096), ("source", 4096), ("text", 4096), ("policy", 255), ("about", 255)):
        setattr(longest, field, (_LONG * size)[:size])
    longest.actor = "users/" + _LONG * 100
    longest.level, longest.repeat, longest.alert_count = 20, 100, 1_000_000
    del longest.ordered_links[:]
    for _ in range(100):
        longest.ordered_links.add(href=f"https://{'y' * 1016}", text=(_LONG * 4096)[:4096])
    yield delivery_of(kind, longest, language=language)
    least = pb.NotificationJob(page=longest.page, incident=longest.incident, user="users/a")
    yield delivery_of(kind, least, link="", language=language)
    if kind is Kind.MESSAGE:
        told = sample_shift_job(shift_pb2.SHIFT_NOTICE_WEEK_AHEAD)
        for _ in range(19):
            told.shift.stretches.add().CopyFrom(told.shift.stretches[0])
        for stretch in told.shift.stretches:
            stretch.schedule = (_LONG * 255)[:255]
        yield delivery_of(kind, told, language=language)
