"""Twilio's reports about calls (twilio.com/docs/voice/api/call-resource#statuscallback), and the keys that people
press.

Requests that the account has not signed are refused.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from aiohttp import web
from tocsin.notify.v1.notification_pb2 import NOTIFICATION_TYPE_BUNDLE
from tocsin_kit.logging import get_logger

from tocsin_notify.app.answers.presses import Answer, Press, Presses
from tocsin_notify.app.delivery.receipts import Receipts
from tocsin_notify.channels.callbacks import TWILIO_CALL, TWILIO_KEY
from tocsin_notify.channels.posting import printable
from tocsin_notify.channels.voice_text import asking, keys_of, page_text, saying
from tocsin_notify.domain.action import Action
from tocsin_notify.domain.calls import answered_by, ended
from tocsin_notify.domain.evidence import Evidence, Receipt
from tocsin_notify.http.attempts import attempt_of
from tocsin_notify.http.twilio import LONGEST_ID, SignedByTwilio, answer
from tocsin_notify.texts.catalogue import words_of
from tocsin_notify.texts.words import Words

_log = get_logger(__name__)

_UNDER_WAY: Final = frozenset({"queued", "initiated", "ringing", "in-progress"})
_ACTIONS: Final = {"1": Action.ACKNOWLEDGE, "2": Action.ESCALATE}
_REPEAT: Final = "3"


class TwilioCalls:
    """The routes that Twilio calls about calls."""

    def __init__(self, signed: SignedByTwilio, receipts: Receipts, presses: Presses) -> None:
        self._signed = signed
        self._receipts = receipts
        self._presses = presses

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """To be added to the HTTP server."""
        return web.post(TWILIO_CALL, self.status), web.post(TWILIO_KEY, self.key)

    async def status(self, request: web.Request) -> web.Response:
        """A report about the state of a call, or about who picked it up. 404: of a call that is not known here (any
        more)."""
        fields = await self._signed.fields(request)
        attempt = attempt_of(request.query)
        receipt = _receipt(await self._receipts.call_number(attempt), fields)
        if receipt is None:
            return web.Response(status=204)
        return web.Response(status=204 if await self._receipts.take(attempt, receipt) else 404)

    async def key(self, request: web.Request) -> web.Response:
        """What to say to the person who pressed a key."""
        fields = await self._signed.fields(request)
        attempt, digit, url = attempt_of(request.query), fields.get("Digits", ""), self._signed.url(request)
        words = words_of(request.query.get("language", ""))
        action = _ACTIONS.get(digit)
        if action is not Action.ACKNOWLEDGE:
            job = await self._presses.job(attempt)
            if job is None:
                return answer(saying(words, words.call_unknown))
            if digit == _REPEAT:
                return answer(asking(words, f"{page_text(words, job)} {keys_of(words, job)}", url))
            if action is None or job.type == NOTIFICATION_TYPE_BUNDLE:
                return answer(asking(words, f"{words.call_no_meaning} {keys_of(words, job)}", url))
        press = Press(attempt, action, "phone", _sid(fields), f"key {digit}")
        taken = (await self._presses.take(press)).answer
        if taken is Answer.LAST_LEVEL:
            return answer(asking(words, words.call_last_level, url))
        if taken is Answer.LATER:
            return answer(asking(words, words.call_later.format(key=digit), url))
        return answer(saying(words, _said(words, taken, action)))


def _said(words: Words, taken: Answer, action: Action) -> str:
    """Before the call ends."""
    match taken:
        case Answer.DONE:
            return words.call_escalated if action is Action.ESCALATE else words.call_acknowledged
        case Answer.STALE:
            return words.call_stale
        case Answer.OVER:
            return words.call_over
        case Answer.MERGED:
            return words.call_merged
        case Answer.REFUSED:
            return words.call_refused
        case _:
            return words.call_unknown


def _receipt(call: int, fields: Mapping[str, str]) -> Receipt | None:
    """Of the call with this number in a row. None: it reports nothing new."""
    sid, status = _sid(fields), fields.get("CallStatus", "")
    who = fields.get("AnsweredBy", "")
    if status in _UNDER_WAY and not who:
        return Receipt(Evidence.ACCEPTED, sid, status)
    if status in ("", *_UNDER_WAY):
        verdict = answered_by(who, call)
    else:
        verdict = ended(status, who, fields.get("SipResponseCode", ""), call)
    if verdict is None:
        _log.info("twilio_call_status_unknown", status=printable(status)[:LONGEST_ID], who=printable(who)[:LONGEST_ID])
        return None
    return Receipt(verdict.evidence, sid, verdict.code, verdict.reason, verdict.death)


def _sid(fields: Mapping[str, str]) -> str:
    return printable(fields.get("CallSid", ""))[:LONGEST_ID]
