"""The text of a call, as TwiML (twilio.com/docs/voice/twiml): the page twice, then a key is read."""

import re
from typing import Final
from xml.sax.saxutils import escape

from tocsin.notify.v1.notification_pb2 import NOTIFICATION_TYPE_BUNDLE, NotificationJob
from twilio.twiml.voice_response import Gather, VoiceResponse

from tocsin_notify.channels.base import Delivery
from tocsin_notify.channels.brief import name_in
from tocsin_notify.channels.text import severity_in
from tocsin_notify.domain.page import WAKING, Kind
from tocsin_notify.domain.template import Part
from tocsin_notify.texts.words import Words

_TITLE_LENGTH: Final = 200
"""TwiML in a request holds 4000 characters (twilio.com/docs/voice/api/call-resource), and the title stands in it twice."""
_WORDED_LENGTH: Final = 1500
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff\s]+")
_SECONDS: Final = 8


def spoken(delivery: Delivery, key_url: str) -> str:
    """The whole call. `key_url`: where the key is reported; empty when this service cannot be reached from outside."""
    words, text = delivery.words, said(delivery)
    if delivery.kind in WAKING and key_url:
        return asking(words, f"{text} {keys_of(words, delivery.job)}", key_url, times=2)
    call = VoiceResponse()
    _say(call, words, text, times=2)
    _say(call, words, words.keys_not_taken if delivery.kind in WAKING else words.goodbye)
    return str(call)


def asking(words: Words, text: str, key_url: str, *, times: int = 1) -> str:
    """Say the text, and read one key, during it or for some seconds after it."""
    call = VoiceResponse()
    _say(
        call.gather(input="dtmf", num_digits=1, timeout=_SECONDS, method="POST", action=key_url),
        words,
        text,
        times=times,
    )
    _say(call, words, words.no_key)
    return str(call)


def saying(words: Words, text: str) -> str:
    """Say it and hang up."""
    call = VoiceResponse()
    _say(call, words, text)
    return str(call)


def keys_of(words: Words, job: NotificationJob) -> str:
    """What each key does."""
    return words.keys_of_bundles if job.type == NOTIFICATION_TYPE_BUNDLE else words.keys


def page_text(words: Words, job: NotificationJob) -> str:
    """A page, or the one that stands for several, read out."""
    severity, title = severity_in(words, job.severity), _title(words, job)
    if job.type == NOTIFICATION_TYPE_BUNDLE:
        return words.voice_bundle.format(severity=severity, title=title)
    where = words.voice_level.format(level=job.level) if job.level else ""
    asked = words.voice_asked.format(actor=name_in(words, job.actor)) if job.actor else ""
    return words.voice_page.format(severity=severity, title=title) + where + asked


def plain(text: str) -> str:
    """Without characters that XML cannot hold: the library writes them unchanged, and the provider would reject the
    document."""
    return _UNPRINTABLE.sub(" ", text).strip()


def said(delivery: Delivery) -> str:
    """The text before the keys are named. A template's text is cut by its length as TwiML."""
    text = delivery.worded(Part.VOICE)
    while len(escape(plain(text))) > _WORDED_LENGTH:
        text = text[: len(text) * 3 // 4]
    return text or default_spoken(delivery)


def default_spoken(delivery: Delivery) -> str:
    """Without what the keys do."""
    job, words = delivery.job, delivery.words
    actor, title = name_in(words, job.actor), _title(words, job)
    match delivery.kind:
        case Kind.VERIFICATION:
            return words.voice_code.format(digits=". ".join(delivery.code))
        case Kind.TEST:
            return words.voice_test
        case Kind.CONTACT_CHANGED:
            return words.voice_contact_changed.format(actor=actor, change=title)
        case Kind.MESSAGE:
            return words.voice_message.format(actor=actor, title=title)
        case Kind.DIGEST:
            return f"Tocsin: {title}."
        case Kind.ACKNOWLEDGMENT:
            return words.voice_acknowledged.format(actor=actor, title=title)
        case Kind.RESOLUTION:
            return words.voice_resolved.format(actor=actor, title=title)
        case Kind.NEW_INCIDENT | Kind.ESCALATION | Kind.URGENCY_RAISED | Kind.BUNDLE:
            return page_text(words, job)


def _title(words: Words, job: NotificationJob) -> str:
    return job.title if len(job.title) <= _TITLE_LENGTH else job.title[:_TITLE_LENGTH] + words.voice_and_so_on


def _say(to: VoiceResponse | Gather, words: Words, text: str, *, times: int = 1) -> None:
    """In the default voice of the language; English is that of the account."""
    for turn in range(times):
        if turn:
            to.pause(length=1)
        to.say(plain(text), language=words.voice_locale or None)
