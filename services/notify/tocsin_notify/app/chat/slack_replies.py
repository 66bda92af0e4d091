"""A reply in the thread of a page at Slack becomes a note of its author, in the tenant of the page."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tocsin_kit.db.pool import Database
from tocsin_kit.logging import get_logger

from tocsin_notify.app.answers.presses import Answer, Press, Presser, Presses, Taken
from tocsin_notify.app.delivery.receipts import AttemptName
from tocsin_notify.domain.action import Action, Asked
from tocsin_notify.domain.page import Channel
from tocsin_notify.store.answers import sms_replies
from tocsin_notify.store.delivery import receipts
from tocsin_notify.texts.replies import reply_words_of

_log = get_logger(__name__)

_SECONDS: Final = 2.0
"""Slack waits for three seconds, and then delivers the event again."""
MOST_ANSWERS: Final = 1
"""To an account that no user has verified: people who only talk in the thread are told once how their replies become
notes."""


@dataclass(frozen=True, slots=True)
class SlackReply:
    """`channel` and `thread` name the message that began the thread; `event`: Slack's name for the reply, the same at
    each delivery; `time`: when it was written.
    """

    channel: str
    thread: str
    member: str
    text: str
    event: str
    time: datetime


@dataclass(frozen=True, slots=True)
class Heard:
    """`tell`: the text for the author; empty for none. `again`: the reply may not be stored, and Slack is to deliver it
    again."""

    tell: str = ""
    again: bool = False


class SlackReplies:
    """Takes replies; the same one taken twice is one note."""

    def __init__(self, db: Database, presses: Presses) -> None:
        self._db = db
        self._presses = presses

    async def take(self, reply: SlackReply) -> Heard:
        """Raises DATABASE_UNAVAILABLE."""
        note = Asked.note(reply.text)
        if not note.text:
            return Heard()
        async with self._db.system() as tx:
            found = await receipts.of_slack_message(tx, reply.channel, reply.thread)
        if found is None:
            return Heard()
        by = Presser(Channel.SLACK, reply.member)
        press = Press(
            AttemptName(*found),
            Action.NOTE,
            str(by.channel),
            f"reply {reply.event}",
            "reply note",
            by,
            time=reply.time,
            text=note.text,
        )
        try:
            async with asyncio.timeout(_SECONDS):
                taken = await self._presses.take(press)
        except TimeoutError:
            _log.warning("slack_reply_takes_too_long", event_id=reply.event, org_id=press.attempt.org_id)
            taken = Taken(Answer.LATER)
        match taken.answer:
            case Answer.DONE | Answer.UNKNOWN:
                # Messages that name no incident have threads as well.
                return Heard()
            case Answer.STRANGER if not await self._may_answer(reply.member):
                return Heard()
            case Answer.LATER | Answer.STALE:
                return Heard(reply_words_of(taken.language).chat_later, taken.answer is Answer.LATER)
        return Heard(taken.said(Action.NOTE))

    async def _may_answer(self, member: str) -> bool:
        return await self._db.run(None, lambda tx: sms_replies.may_answer(tx, f"slack {member}", MOST_ANSWERS))
