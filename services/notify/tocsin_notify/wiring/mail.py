"""Replies to mails of pages, connected. A part of `wiring`."""

from collections.abc import Awaitable, Callable

from tocsin_kit.mail.server import MailServer
from tocsin_kit.rpc.tls import server_context

from tocsin_notify.app.answers.mail_replies import MailReplies
from tocsin_notify.app.answers.presses import Presses
from tocsin_notify.channels.email import EmailChannel
from tocsin_notify.channels.links import PATH
from tocsin_notify.domain.page import Channel
from tocsin_notify.mail.replies import ReplyReceiver
from tocsin_notify.wiring.base import Base


def serve_mail_replies(base: Base, presses: Presses) -> list[Callable[[], Awaitable[None]]]:
    """Listen where NOTIFY_MAIL_LISTEN says, if it does; what ends it."""
    runtime, settings, email = base.runtime, base.settings, base.channels[Channel.EMAIL]
    if not settings.mail_listen or not isinstance(email, EmailChannel):
        return []
    link = f"{base.callbacks.public_url}{PATH}" if base.callbacks.public_url else ""
    replies = MailReplies(base.db, presses, base.budgets, email, link)
    receiver = ReplyReceiver(settings.mail_domain, base.callbacks, replies, base.metrics)
    mails = MailServer(
        settings.mail_listener, receiver, server_context(settings), base.metrics.mail_refused, runtime.stop
    )
    runtime.loops.add("mail", mails.run, everywhere=True)
    return [mails.close]
