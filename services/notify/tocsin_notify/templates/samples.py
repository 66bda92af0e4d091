"""Messages that a template is tried with: the longest that can come, the shortest, and one to look at."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from tocsin.notify.v1 import notification_pb2 as pb
from tocsin.type.v1 import severity_pb2

from tocsin_notify.channels.base import Delivery, Target
from tocsin_notify.domain.page import PAGES, Channel, Kind

_ID: Final = UUID("01920000-0000-7000-8000-000000000000")
_LONG: Final = "\N{FIRE} <&\"'"
_LINK: Final = f"https://tocsin.example.com/p/{'x' * 90}"
_TARGET: Final = Target(Channel.EMAIL, "")
_OF_NO_INCIDENT: Final = frozenset({Kind.TEST, Kind.MESSAGE, Kind.VERIFICATION, Kind.CONTACT_CHANGED})


def sample_job(kind: Kind) -> pb.NotificationJob:
    """One to look at."""
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


def delivery_of(kind: Kind, job: pb.NotificationJob, *, link: str = _LINK, language: str = "en") -> Delivery:
    """A message that is not sent."""
    return Delivery(
        key="",
        notification=_ID,
        org_id=job.org_id,
        kind=kind,
        job=job,
        target=_TARGET,
        attempt=1,
        start_time=datetime(2026, 1, 1, tzinfo=UTC),
        link=link if job.incident else "",
        language=language,
    )


def extremes(kind: Kind, language: str) -> Iterator[Delivery]:
    """The longest message of the kind that can come, and the shortest."""
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
