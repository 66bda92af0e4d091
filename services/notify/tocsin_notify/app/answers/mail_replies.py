"""A person answers a page by a reply to its mail, and gets a mail in return."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID

from tocsin_kit.budgets import RPCS, Budgets
from tocsin_kit.db.pool import Database
from tocsin_kit.logging import get_logger

from tocsin_notify.app.answers.presses import Answer, Press, Presses
from tocsin_notify.app.delivery.receipts import AttemptName
from tocsin_notify.app.pages.stored_jobs import title_of
from tocsin_notify.domain.mail_reply import read_mail_reply
from tocsin_notify.domain.page import Channel
from tocsin_notify.domain.template import LANGUAGES
from tocsin_notify.store.answers import mail_replies, sms_replies
from tocsin_notify.store.answers.mail_replies import MailedPage
from tocsin_notify.texts.replies import reply_words_of

_log = get_logger(__name__)

MOST_ANSWERS: Final = 10
"""Mails sent in return for the replies to one page: this ends a loop of two machines that answer each other."""


@dataclass(frozen=True, slots=True)
class MailReply:
    """`event`: the name of the mail, the same each time it is delivered. `id`: its Message-ID."""

    notification: UUID
    attempt: int
    text: str
    event: str
    id: str = ""


class Answering(Protocol):
    """What sends mails."""

    async def answer(self, address: str, subject: str, text: str, headers: Mapping[str, str]) -> bool:
        """Whether the mail server took the mail. Errors of the mail server raise nothing."""


@dataclass(frozen=True, slots=True)
class Heard:
    """`answer` is None for a mail that is not understood. `said`: what was done, in the language of the person; `told`:
    whether the person was sent it."""

    answer: Answer | None
    said: str
    told: bool = False


class MailReplies:
    """Takes replies; the same one taken twice acts once.

    A sender who has the reply address of a page acts as the person to whom the page was sent, as with its link: the
    sender address of a mail proves nothing. The mail in return goes to the address of the page, and to no other.
    """

    def __init__(self, db: Database, presses: Presses, budgets: Budgets, channel: Answering, link: str) -> None:
        """`link`: the start of every answer link; empty if there are no links."""
        self._db = db
        self._link = link
        self._presses = presses
        self._budgets = budgets
        self._channel = channel

    async def take(self, reply: MailReply, address: str) -> Heard:
        """`address`: the address to which the reply was sent. Raises DATABASE_UNAVAILABLE, RATE_LIMITED."""
        async with self._db.system() as tx:
            page = await mail_replies.mailed_page(tx, reply.notification, reply.attempt)
        if page is None:
            return Heard(Answer.UNKNOWN, reply_words_of(LANGUAGES[0]).answer_unknown)
        self._budgets.take(page.org_id, RPCS)
        words = reply_words_of(page.language or LANGUAGES[0])
        asked = read_mail_reply(reply.text, self._link)
        if asked is None:
            return await self._tell(reply, page, address, Heard(None, words.mail_how))
        name = AttemptName(page.org_id, reply.notification, reply.attempt)
        event, code = f"reply {reply.event}", f"reply {asked.action}"
        taken = await self._presses.take(Press(name, asked.action, str(Channel.EMAIL), event, code, text=asked.text))
        heard = Heard(taken.answer, taken.said(asked.action))
        # If this mail may not be sent, our refusal of the reply makes the sender's mail server keep it and deliver it
        # again.
        return heard if taken.answer is Answer.LATER else await self._tell(reply, page, address, heard)

    async def _tell(self, reply: MailReply, page: MailedPage, address: str, heard: Heard) -> Heard:
        if not await self._db.run(
            None, lambda tx: sms_replies.may_answer(tx, f"mail {reply.notification}", MOST_ANSWERS)
        ):
            _log.warning("mail_replies_not_answered", org_id=page.org_id, notification=str(reply.notification))
            return heard
        title = title_of(page.job)
        answers = {"In-Reply-To": reply.id, "References": reply.id} if reply.id else {}
        told = await self._channel.answer(
            page.address, f"Re: {title}", f"{heard.said}\n\n{title}\n", {"Reply-To": address, **answers}
        )
        return Heard(heard.answer, heard.said, told)
