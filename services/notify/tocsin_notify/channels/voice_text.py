"""What a call says, as TwiML (twilio.com/docs/voice/twiml): the page twice, then a key is taken."""

import re
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from tocsin.notify.v1.notification_pb2 import NOTIFICATION_TYPE_BUNDLE, NotificationJob

from tocsin_notify.channels.base import Delivery
from tocsin_notify.channels.text import severity_word
from tocsin_notify.domain.page import WAKING, Kind
from tocsin_notify.domain.template import Part

_TITLE_LENGTH: Final = 200
"""TwiML in a request holds 4000 characters (twilio.com/docs/voice/api/call-resource), and the title stands in it twice."""
_WORDED_LENGTH: Final = 1500
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff\s]+")
_SECONDS: Final = 8
_KEYS: Final = "Press 1 to acknowledge. Press 2 to page the next level. Press 3 to hear it again."
_KEYS_OF_BUNDLES: Final = "Press 1 to acknowledge all of them. Press 3 to hear it again."
_NO_KEY: Final = "No key was pressed. Goodbye."
_NOBODY: Final = "Keys cannot be taken. Please answer in Tocsin. Goodbye."


def spoken(delivery: Delivery, key_url: str) -> str:
    """The whole call. `key_url`: where the key is told; empty when this service cannot be reached from outside."""
    text = said(delivery)
    if delivery.kind not in WAKING or not key_url:
        end = _NOBODY if delivery.kind in WAKING else "Goodbye."
        return twiml(_say(text), _pause(), _say(text), _say(end))
    return asking(f"{text} {keys_of(delivery.job)}", key_url, times=2)


def asking(text: str, key_url: str, *, times: int = 1) -> str:
    """Say it, and take one key, while it is said or for some seconds after it."""
    said = _pause().join([_say(text)] * times)
    gather = f'<Gather input="dtmf" numDigits="1" timeout="{_SECONDS}" method="POST" action={quoteattr(key_url)}>'
    return twiml(f"{gather}{said}</Gather>", _say(_NO_KEY))


def saying(text: str) -> str:
    """Say it and hang up."""
    return twiml(_say(text))


def keys_of(job: NotificationJob) -> str:
    """What each key does."""
    return _KEYS_OF_BUNDLES if job.type == NOTIFICATION_TYPE_BUNDLE else _KEYS


def page_text(job: NotificationJob) -> str:
    """A page, or the one that stands for several, read out."""
    if job.type == NOTIFICATION_TYPE_BUNDLE:
        return f"Tocsin: {severity_word(job.severity)}: {_title(job)}."
    where = f" Level {job.level}." if job.level else ""
    return f"Tocsin: {severity_word(job.severity)} incident: {_title(job)}.{where}"


def plain(text: str) -> str:
    """As it stands in an element: without what XML cannot hold."""
    return escape(_UNPRINTABLE.sub(" ", text).strip())


def said(delivery: Delivery) -> str:
    """What it says before it names the keys. A template's text is cut by what it takes as TwiML."""
    text = delivery.worded(Part.VOICE)
    while len(plain(text)) > _WORDED_LENGTH:
        text = text[: len(text) * 3 // 4]
    return text or default_spoken(delivery)


def default_spoken(delivery: Delivery) -> str:
    """Without what the keys do."""
    job = delivery.job
    match delivery.kind:
        case Kind.VERIFICATION:
            return f"Your Tocsin verification code is: {'. '.join(delivery.code)}."
        case Kind.TEST:
            return "This is a test of Tocsin. Nothing is wrong, and nothing is to be done."
        case Kind.CONTACT_CHANGED:
            return f"Tocsin: {_name(job.actor)} {_title(job)}. If you did not agree to it, tell your administrator."
        case Kind.MESSAGE:
            return f"Tocsin: a message from {_name(job.actor)}: {_title(job)}."
        case Kind.DIGEST:
            return f"Tocsin: {_title(job)}."
        case Kind.ACKNOWLEDGMENT:
            return f"Tocsin: acknowledged by {_name(job.actor)}: {_title(job)}."
        case Kind.RESOLUTION:
            return f"Tocsin: resolved by {_name(job.actor)}: {_title(job)}."
        case Kind.NEW_INCIDENT | Kind.ESCALATION | Kind.URGENCY_RAISED | Kind.BUNDLE:
            return page_text(job)


def _title(job: NotificationJob) -> str:
    return job.title if len(job.title) <= _TITLE_LENGTH else job.title[:_TITLE_LENGTH] + ", and so on"


def _name(actor: str) -> str:
    return actor.removeprefix("users/") or "its source"


def _say(text: str) -> str:
    return f"<Say>{plain(text)}</Say>"


def _pause() -> str:
    return '<Pause length="1"/>'


def twiml(*parts: str) -> str:
    """A whole answer of these elements."""
    return f'<?xml version="1.0" encoding="UTF-8"?><Response>{"".join(parts)}</Response>'
