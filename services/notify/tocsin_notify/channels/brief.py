"""The text of a push or a chat message: a title, a few words, and how loud it is."""

from enum import IntEnum
from typing import Final

from tocsin_notify.channels.base import Delivery
from tocsin_notify.channels.digests import content_of
from tocsin_notify.channels.text import is_urgent, severity_in, where_in
from tocsin_notify.domain import digest_content
from tocsin_notify.domain.page import NEWS, WAKING, Kind
from tocsin_notify.domain.template import Part
from tocsin_notify.texts.words import Words

LONGEST: Final = 1000


class Loudness(IntEnum):
    """In rising order. Each channel has its own numbers for them."""

    NEWS = 0
    ASKED_FOR = 1
    """Tests and codes: their user asked for them, and is awake."""
    PAGE = 2
    WAKES = 3
    """A page of high urgency."""


def loudness(delivery: Delivery) -> Loudness:
    """How loud it has to be."""
    if delivery.kind in NEWS or delivery.kind is Kind.DIGEST:
        return Loudness.NEWS
    if delivery.kind not in WAKING:
        return Loudness.ASKED_FOR
    return Loudness.WAKES if is_urgent(delivery.job) else Loudness.PAGE


def brief(delivery: Delivery) -> str:
    """The text below the title, without the link by which the person answers; never empty."""
    return (delivery.worded(Part.CHAT) or default_brief(delivery))[:LONGEST]


def default_brief(delivery: Delivery) -> str:
    """Without links."""
    job, words = delivery.job, delivery.words
    match delivery.kind:
        case Kind.VERIFICATION:
            return f"{words.code.format(code=delivery.code)} {words.code_unasked}"
        case Kind.TEST:
            return words.test
        case Kind.CONTACT_CHANGED:
            change = words.contact_changed.format(actor=job.actor, change=job.title)
            return f"{change} {words.contact_changed_alarm_short}"
        case Kind.MESSAGE | Kind.BUNDLE:
            return job.text
        case Kind.DIGEST:
            return digest_content.brief(content_of(job.digest), delivery.digest_words)
        case Kind.ACKNOWLEDGMENT:
            return words.brief_acknowledged.format(actor=name_in(words, job.actor))
        case Kind.RESOLUTION:
            return words.brief_resolved.format(actor=name_in(words, job.actor))
        case Kind.URGENCY_RAISED:
            severity = severity_in(words, job.severity)
            return words.brief_urgent.format(severity=severity, source=job.source or words.unknown)
        case Kind.NEW_INCIDENT | Kind.ESCALATION:
            paged = words.brief_page.format(where=where_in(words, job), source=job.source or words.unknown)
            return words.brief_asked.format(actor=name_in(words, job.actor), paged=paged) if job.actor else paged


def name_in(words: Words, actor: str) -> str:
    """Who did it, as people call them."""
    return actor.removeprefix("users/") or words.its_source
