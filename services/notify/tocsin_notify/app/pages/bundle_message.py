"""The text of one message for several pages: when it is made, and when it is sent after some of the pages were
answered."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from tocsin.notify.v1 import notification_pb2 as pb
from tocsin.type.v1.severity_pb2 import Severity
from tocsin_kit.db.pool import Tx
from tocsin_kit.logging import get_logger
from tocsin_kit.time_slices import TimeSlice

from tocsin_notify.app.pages.stored_jobs import readable
from tocsin_notify.channels.text import one_line, severity_word
from tocsin_notify.domain.bundling import Member
from tocsin_notify.domain.page import Kind, Page, Urgency, priority_of
from tocsin_notify.domain.template import LANGUAGES
from tocsin_notify.domain.wall_time import shown_in
from tocsin_notify.store.delivery.rows import Claimed
from tocsin_notify.store.pages import bundles
from tocsin_notify.store.pages.bundles import BundledPage, Due
from tocsin_notify.store.pages.pages import NewPage
from tocsin_notify.texts.bundles import left, line, summary
from tocsin_notify.texts.catalogue import words_of
from tocsin_notify.texts.words import Words

_log = get_logger(__name__)

GENERATION: Final = 1
"""The generation of a bundle's page, whose incident is the bundle itself: a fence of this generation stops it like any
other page."""
_LISTED: Final = 20
_TITLE: Final = 120


@dataclass(frozen=True, slots=True)
class Listed:
    """A page of a bundle, read. `severity` and `time_zone`: of its job."""

    page: BundledPage
    member: Member
    severity: Severity.ValueType
    time_zone: str


async def readable_of(
    org_id: str, members: Sequence[BundledPage], time_slice: TimeSlice
) -> tuple[list[Listed], list[BundledPage]]:
    """The pages that can be shown in one message; and the others, each of which is sent alone, so that they delay no
    bundle."""
    listed: list[Listed] = []
    odd: list[BundledPage] = []
    for each in members:
        await time_slice.yield_if_over()
        try:
            job = readable(each.job, org_id, each.id)
            if job is not None:
                member = Member(
                    one_line(job.title, _TITLE), severity_word(job.severity), shown_in(each.since, job.time_zone)
                )
                line(member, words_of(LANGUAGES[0]))
                listed.append(Listed(each, member, job.severity, job.time_zone))
                continue
        except Exception:
            # If an error of this page were raised, it would undo the claim of all bundles, in each round.
            _log.exception("bundled_page_unfit", org_id=org_id, page=f"pages/{each.id}")
        odd.append(each)
    return listed, odd


def page_of(bundle: Due, listed: Sequence[Listed], words: Words) -> NewPage:
    """The page that stands for these, the oldest first. Its text lists some of them; its link shows all."""
    org_id, user, id = bundle.org_id, bundle.user_id, bundle.bundle
    job = pb.NotificationJob(
        page=f"pages/{id}",
        org_id=org_id,
        type=pb.NOTIFICATION_TYPE_BUNDLE,
        user=user,
        incident=f"incidents/{id}",
        generation=GENERATION,
    )
    incidents = _by_incident(listed)
    _say(job, incidents, summary([each.member for each in incidents], words, waited=bundle.waited), words)
    page = Page(Kind.BUNDLE, Urgency.HIGH if job.urgency == pb.URGENCY_HIGH else Urgency.LOW)
    return NewPage(id, org_id, user, id, page, priority_of(page.kind, page.urgency), GENERATION, None, job)


async def without_answered(tx: Tx, claimed: Sequence[Claimed]) -> list[Claimed]:
    """Unchanged, except messages for several pages: incidents that were answered after the message was made are no
    longer named.

    Later steps and attempts of a bundle follow minutes or hours after the first.
    """
    named = {(row.org_id, row.page_id) for row in claimed if row.type == Kind.BUNDLE and row.verdict == "sending"}
    if not named:
        return list(claimed)
    held, time_slice = await bundles.members(tx, named), TimeSlice()
    return [await _less(row, held[row.page_id], time_slice) if row.page_id in held else row for row in claimed]


async def _less(row: Claimed, members: Sequence[BundledPage], time_slice: TimeSlice) -> Claimed:
    listed, _ = await readable_of(row.org_id, [each for each in members if each.stopped is None], time_slice)
    true = _by_incident(listed)
    job = readable(row.job, row.org_id, row.page_id)
    if not true or job is None:
        return row  # it was stopped a moment ago; or its text names no incidents
    words = words_of(row.language or LANGUAGES[0])
    shown = [each.member for each in true]
    if job.title in (summary(shown, words), summary(shown, words, waited=True)):
        return row
    _say(job, true, left(shown, words), words)
    return replace(row, job=job.SerializeToString())


def _by_incident(listed: Sequence[Listed]) -> list[Listed]:
    """The latest page of each incident, with the time of its first page: a level that was paged again is no further
    incident."""
    since: dict[object, Listed] = {}
    for each in listed:
        first = since.get(each.page.incident, each).member.since
        since[each.page.incident] = replace(each, member=replace(each.member, since=first))
    return list(since.values())


def _say(job: pb.NotificationJob, listed: Sequence[Listed], title: str, words: Words) -> None:
    high = any(each.page.urgency == Urgency.HIGH for each in listed)
    more = [words.bundle_not_listed.format(count=len(listed) - _LISTED)] if len(listed) > _LISTED else []
    job.title = title
    job.severity = min(each.severity for each in listed)
    job.urgency = pb.URGENCY_HIGH if high else pb.URGENCY_LOW
    job.time_zone = listed[-1].time_zone
    job.text = "\n".join([*(line(each.member, words) for each in listed[:_LISTED]), *more])
