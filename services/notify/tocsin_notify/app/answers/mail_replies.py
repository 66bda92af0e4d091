"""A person answers a page by a reply to its mail, and is answered by mail."""

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
"""To the replies to one page: two machines that answer each other end so."""


@dataclass(frozen=True, slots=True)
class MailReply:
    """`event`: names the mail, the same each time it comes. `id`: its Message-ID."""

    notification: UUID
    attempt: int
    text: str
    event: str
    id: str = ""


class Answering(Protocol):
    """What sends mails."""

    async def answer(self, address: str, subject: str, text: str, headers: Mapping[str, str]) -> bool:
        """Whether the mail server took it. Never raises for what the server does."""


@dataclass(frozen=True, slots=True)
class Heard:
    """`answer`: None: it is not understood. `said`: in words, in the language of the person, who was told so if `told`."""

    answer: Answer | None
    said: str
    told: bool = False


class MailReplies:
    """Takes replies; the same one taken twice acts once.

    A sender who has the address of a page acts as the person it was sent to, as with its link: what a mail says of its sender is
    proven by nothing. They are answered where the page went, and nowhere else.
    """

    def __init__(self, db: Database, presses: Presses, budgets: Budgets, channel: Answering, link: str) -> None:
        """`link`: how the links begin by which people answer; empty if there are none."""
        self._db = db
        self._link = link
        self._presses = presses
        self._budgets = budgets
        self._channel = channel

    async def take(self, reply: MailReply, address: str) -> Heard:
        """`address`: to which it came. Raises DATABASE_UNAVAILABLE, RATE_LIMITED."""
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
        # What may not be done is told by the mail server of the sender, which keeps the mail and sends it again.
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
