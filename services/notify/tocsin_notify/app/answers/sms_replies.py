"""A person answers a page by text message, or asks for no more text messages."""

from collections.abc import Callable
from typing import Final
from uuid import UUID

from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.logging import get_logger

from tocsin_notify.app.answers.presses import Answer, Press, Presses
from tocsin_notify.app.delivery.failures import Failures
from tocsin_notify.app.pages.stored_jobs import title_of
from tocsin_notify.domain.action import Action
from tocsin_notify.domain.page import WAKING
from tocsin_notify.domain.sms_reply import Reply, Request, Texted, candidates, code_of, meant, read_reply, shortened
from tocsin_notify.domain.template import LANGUAGES
from tocsin_notify.store.answers import sms_replies
from tocsin_notify.store.answers.sms_replies import TextedPage, TextReceived
from tocsin_notify.store.delivery import notifications
from tocsin_notify.texts.replies import ReplyWords, reply_words_of

_log = get_logger(__name__)

MOST_ANSWERS: Final = 5
"""Answers to messages that are not understood, for each number until it sends one that is: this ends a loop of two
machines that answer each other."""
_LISTED: Final = 3
_TITLE_LENGTH: Final = 60


class SmsReplies:
    """Takes text messages that were sent to our number; the same message taken twice acts once.

    The meaning of a message is decided when it is delivered for the first time, and kept. Decided again at a later
    delivery, a new page or the time that has passed would change its meaning.
    """

    def __init__(self, db: Database, presses: Presses, failures: Failures) -> None:
        self._db = db
        self._failures = failures
        self._presses = presses

    async def take(self, number: str, text: str, sid: str) -> str:
        """The answer to send back; empty for none. `sid`: the provider's name for the message. Raises DATABASE_UNAVAILABLE."""
        received = await self._db.run(None, lambda tx: self._received(tx, number, text, sid))
        if received.notification_id is None:
            return received.said
        action = Action(received.action)
        taken = await self._presses.find_and_take(
            received.notification_id,
            received.attempt,
            lambda name: Press(name, action, "sms", sid, code=f"reply {action}"),
        )
        if taken.answer is Answer.LATER:
            return reply_words_of(taken.language).sms_later
        return f"{taken.said(action)} {received.said}"

    async def _received(self, tx: Tx, number: str, text: str, sid: str) -> TextReceived:
        before = await sms_replies.begin(tx, sid)
        if before is not None:
            return before
        received = await self._read(tx, number, text)
        await sms_replies.note(tx, sid, received)
        return received

    async def _read(self, tx: Tx, number: str, text: str) -> TextReceived:
        match read_reply(text):
            case Reply() as reply:
                return await self._meant(tx, number, reply)
            case Request.UNCLEAR:
                return await self._unclear(tx, number, lambda words: words.sms_how)
            case Request.STOP | Request.START as request:
                # The provider itself answers these (twilio.com/docs/messaging/tutorials/advanced-opt-out).
                await self._switch(tx, number, request)
                return TextReceived()

    async def _switch(self, tx: Tx, number: str, request: Request) -> None:
        if request is Request.START:
            for started in await sms_replies.start(tx, number):
                _log.warning("sms_started", org_id=started.org_id, user=started.user_id)
            return
        stopped = await sms_replies.stop(tx, number)
        for each in stopped:
            _log.warning("sms_stopped", org_id=each.org_id, user=each.user_id)
        waiting = await notifications.waiting_for(tx, [(each.org_id, each.id) for each in stopped], WAKING)
        await self._failures.tell_hopeless(tx, waiting, "the phone has said STOP")

    async def _meant(self, tx: Tx, number: str, reply: Reply) -> TextReceived:
        pages = {each.incident: each for each in await sms_replies.pages(tx, number, WAKING)}
        texted = [Texted(each.incident, each.stopped, each.lately) for each in pages.values()]
        incident = meant(reply, texted, number)
        if incident is None:
            possible = [pages[each] for each in candidates(reply, texted, number)]
            return await self._unclear(tx, number, lambda words: _which(words, reply, possible, number))
        await sms_replies.understood(tx, number)
        page = pages[incident]
        return TextReceived(str(reply.action), page.id, page.attempts, _title(page))

    async def _unclear(self, tx: Tx, number: str, why: Callable[[ReplyWords], str]) -> TextReceived:
        if not await sms_replies.may_answer(tx, number, MOST_ANSWERS):
            return TextReceived()
        known = await sms_replies.owner_of_number(tx, number)
        if known is None:
            return TextReceived(said=reply_words_of(LANGUAGES[0]).sms_stranger)
        return TextReceived(said=why(reply_words_of(known.language or LANGUAGES[0])))


def _which(words: ReplyWords, reply: Reply, pages: list[TextedPage], number: str) -> str:
    if not pages:
        return words.sms_nothing_waits if reply.code is None else words.sms_no_such_code
    if reply.code is not None:
        return words.sms_several
    codes: list[UUID] = [page.incident for page in pages[:_LISTED]]
    listed = "; ".join(f"{code_of(each, number)} {_title(page)}" for each, page in zip(codes, pages, strict=False))
    more = words.sms_more.format(count=len(pages) - _LISTED) if len(pages) > _LISTED else ""
    return words.sms_say_which.format(listed=f"{listed}{more}")


def _title(page: TextedPage) -> str:
    return shortened(title_of(page.job), _TITLE_LENGTH)
