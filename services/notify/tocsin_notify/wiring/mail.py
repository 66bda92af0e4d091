"""Replies to mails of pages, connected. A part of `wiring`."""

from collections.abc import Awaitable, Callable

from tocsin_kit.lifecycle import Runtime
from tocsin_kit.mail.server import MailServer
from tocsin_kit.rpc.tls import server_context

from tocsin_notify.app.answers.mail_replies import MailReplies
from tocsin_notify.channels.callbacks import CallbackUrls
from tocsin_notify.channels.email import EmailChannel
from tocsin_notify.channels.links import PATH
from tocsin_notify.channels.registry import Registry
from tocsin_notify.domain.page import Channel
from tocsin_notify.mail.replies import ReplyReceiver
from tocsin_notify.settings import NotifySettings
from tocsin_notify.wiring.answers import Inside


def serve_mail_replies(
    runtime: Runtime[NotifySettings], inside: Inside, channels: Registry, callbacks: CallbackUrls
) -> list[Callable[[], Awaitable[None]]]:
    """Listen where NOTIFY_MAIL_LISTEN says, if it does; what ends it."""
    settings, email = runtime.settings, channels[Channel.EMAIL]
    if not settings.mail_listen or not isinstance(email, EmailChannel):
        return []
    link = f"{callbacks.public_url}{PATH}" if callbacks.public_url else ""
    replies = MailReplies(runtime.database, inside.presses, inside.budgets, email, link)
    receiver = ReplyReceiver(settings.mail_domain, callbacks, replies, inside.metrics)
    tls, refused = server_context(settings), inside.metrics.mail_refused
    mails = MailServer(settings.mail_listener, receiver, tls, refused, runtime.stop)
    runtime.loops.add("mail", mails.run, everywhere=True)
    return [mails.close]
