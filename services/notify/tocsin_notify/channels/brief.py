"""What a push or a chat message says: a title, a few words, and how loud."""

from enum import IntEnum
from typing import Final

from tocsin_notify.channels.base import Delivery
from tocsin_notify.channels.digests import content_of
from tocsin_notify.channels.text import severity_word
from tocsin_notify.domain import digest_content
from tocsin_notify.domain.page import NEWS, WAKING, Kind
from tocsin_notify.domain.template import Part

_LOUD: Final = frozenset({"critical", "error"})
LONGEST: Final = 1000


class Loudness(IntEnum):
    """In rising order. Each channel has its own numbers for them."""

    NEWS = 0
    ASKED_FOR = 1
    """Tests and codes: somebody waits for them, and is awake."""
    PAGE = 2
    WAKES = 3
    """A page of a critical or error incident."""


def loudness(delivery: Delivery) -> Loudness:
    """How loud it has to be."""
    if delivery.kind in NEWS or delivery.kind is Kind.DIGEST:
        return Loudness.NEWS
    if delivery.kind not in WAKING:
        return Loudness.ASKED_FOR
    return Loudness.WAKES if severity_word(delivery.job.severity) in _LOUD else Loudness.PAGE


def brief(delivery: Delivery) -> str:
    """What stands below the title, without the link by which the person answers; never empty."""
    return (delivery.worded(Part.CHAT) or default_brief(delivery))[:LONGEST]


def default_brief(delivery: Delivery) -> str:
    """Without links."""
    job = delivery.job
    match delivery.kind:
        case Kind.VERIFICATION:
            text = f"Your code is {delivery.code}. It holds for 10 minutes. If you did not ask for it, ignore it."
        case Kind.TEST:
            text = "This is a test. Nothing is wrong, and nothing is to be done."
        case Kind.CONTACT_CHANGED:
            text = f"{job.actor} {job.title}. If you did not agree to it, tell your administrator."
        case Kind.MESSAGE | Kind.BUNDLE:
            text = job.text
        case Kind.DIGEST:
            text = digest_content.brief(content_of(job.digest))
        case Kind.ACKNOWLEDGMENT:
            text = f"Acknowledged by {_name(job.actor)}."
        case Kind.RESOLUTION:
            text = f"Resolved by {_name(job.actor)}."
        case Kind.URGENCY_RAISED:
            text = f"It became {severity_word(job.severity)} and is still yours. Source: {job.source or 'unknown'}."
        case Kind.NEW_INCIDENT | Kind.ESCALATION:
            where = f"at level {job.level}" if job.level else "as the fallback target"
            text = f"You are paged {where}. Source: {job.source or 'unknown'}."
    return text


def _name(actor: str) -> str:
    return actor.removeprefix("users/") or "its source"
