"""Replies to mails of pages, by SMTP. The address is signed and names the page: it can answer that page and nothing else."""

import hashlib
from typing import Any, Final

from aiosmtpd.smtp import SMTP, Envelope, Session
from tocsin_kit.mail.reading import Mail
from tocsin_kit.mail.receiver import NOT_OUR_DOMAIN, Receiver, is_bounce, later, line
from tocsin_kit.rpc.failures import masked

from tocsin_notify.app.answers.mail_replies import MailReplies, MailReply
from tocsin_notify.app.answers.presses import Answer
from tocsin_notify.channels.callbacks import CallbackUrls
from tocsin_notify.metrics import NotifyMetrics

_ANOTHER: Final = "452 4.5.3 one page at a time; send the other one a mail of its own"
_NOT_OURS: Final = "550 5.1.1 this address leads to no page"
_LEFT: Final = "250 2.0.0 no person wrote it, so it does nothing"
_READ: Final = "250 2.0.0 it is read"
_NOT_CERTAIN: Final = "451 4.3.2 it is not certain that it was done; send it again"
_ID_LENGTH: Final = 500


class ReplyReceiver(Receiver):
    """Takes replies to pages."""

    def __init__(self, domain: str, callbacks: CallbackUrls, replies: MailReplies, metrics: NotifyMetrics) -> None:
        super().__init__(domain, marks_quotes=True)
        self._callbacks = callbacks
        self._replies = replies
        self._results = metrics.mail_replies

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, _given: Any) -> str:
        """The address that the page told. It is verified before anything of the mail is read."""
        if envelope.rcpt_tos:
            return _ANOTHER
        word = self.word_of(address)
        if word is None:
            return NOT_OUR_DOMAIN
        named = self._callbacks.read_reply_address(word)
        if named is None:
            self._results.labels("unknown").inc()
            return _NOT_OURS
        vars(envelope)["answers"] = named
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 it is taken here"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """A whole mail. 250 once it is done, or its author was answered by mail."""
        mail = await self.read(envelope)
        if mail.bulk or mail.own or is_bounce(envelope):
            self._results.labels("automatic").inc()
            return _LEFT
        notification, attempt = vars(envelope)["answers"]
        [address] = envelope.rcpt_tos
        reply = MailReply(notification, attempt, mail.text, _event(mail, envelope), mail.message_id[:_ID_LENGTH])
        try:
            heard = await self._replies.take(reply, address)
        except Exception as failure:
            return later(masked(failure))
        self._results.labels("unclear" if heard.answer is None else heard.answer.name.lower()).inc()
        if heard.answer is Answer.LATER:
            return _NOT_CERTAIN
        return _READ if heard.told or heard.answer is Answer.DONE else f"554 5.7.1 {line(heard.said)}"


def _event(mail: Mail, envelope: Envelope) -> str:
    """Names the mail: it is sent again with the same Message-ID (RFC 5322 §3.6.4), or without one in the same bytes."""
    content = envelope.content
    assert isinstance(content, bytes)
    return hashlib.blake2b(mail.message_id.encode() or content, digest_size=16).hexdigest()
