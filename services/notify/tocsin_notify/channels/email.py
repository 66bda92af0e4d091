"""E-mail over SMTP: pooled sessions, re-opened when they die."""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from email.utils import format_datetime, formataddr, formatdate, make_msgid, parseaddr
from functools import lru_cache
from time import monotonic
from typing import Final

from aiosmtplib import (
    SMTP,
    SMTPAuthenticationError,
    SMTPException,
    SMTPHeloError,
    SMTPRecipientRefused,
    SMTPResponseException,
    SMTPServerDisconnected,
    SMTPStatus,
)
from tocsin_kit.logging import get_logger
from tocsin_kit.rpc.tls import AuthorityFile
from tocsin_kit.time_limit import TimeLimit

from tocsin_notify.channels.base import Always, Delivery, Permit
from tocsin_notify.channels.channel_type import ChannelType
from tocsin_notify.channels.digests import content_of
from tocsin_notify.channels.mail_html import mail_html
from tocsin_notify.channels.mail_server import MailServer, StartTls
from tocsin_notify.channels.mail_session import MailSession
from tocsin_notify.channels.mime import compose
from tocsin_notify.channels.text import body, is_urgent, one_line, subject
from tocsin_notify.domain import digest_html
from tocsin_notify.domain.attempt import Outcome, Permanent, Retryable, Sent
from tocsin_notify.domain.page import WAKING, Channel, Kind
from tocsin_notify.domain.template import Part

_log = get_logger(__name__)

_IDLE_LIMIT: Final = 60.0
_PROBE_AFTER: Final = 5.0
# RFC 4954: the answers of a server that refuses our credentials, to whichever command.
_OUR_FAULT: Final = frozenset({454, 530, 534, 535, 538})


class EmailChannel:
    """At most `concurrency` sessions; each carries one message at a time and is used again."""

    def __init__(
        self,
        server: MailServer,
        *,
        timeout: float,
        concurrency: int = 10,
        reply_to: Callable[[Delivery], str] = lambda _: "",
    ) -> None:
        """`timeout`: seconds for the whole attempt, connecting included. `reply_to`: the address for replies; empty for none."""
        self.concurrency = concurrency
        self._server = server
        self._timeout = timeout
        self._limit = TimeLimit(timeout)
        self._reply_to = reply_to
        self._idle: list[tuple[MailSession, float]] = []
        name, self._envelope_sender = parseaddr(server.sender)
        self._from = formataddr((name, self._envelope_sender))
        self._domain = self._envelope_sender.rpartition("@")[2] or "localhost"
        self._tls: ssl.SSLContext | None = None
        self._authority: AuthorityFile | None = None

    async def send(self, delivery: Delivery, permit: Permit) -> Outcome:
        """See `ChannelSender`. If our own credentials are refused, an operator may correct them, so that is retryable."""
        if not self._server.host:
            return Permanent("this installation has no mail server (SMTP_HOST)")
        reply_to = self._reply_to(delivery)
        message = self._compose(replace(delivery, reply_to=reply_to) if reply_to else delivery)
        return await self._send(delivery.target.address, message, permit)

    async def answer(self, address: str, subject: str, text: str, headers: Mapping[str, str]) -> bool:
        """Answer the sender of a mail. Returns whether the server accepted it; failures are logged."""
        message = compose(
            {
                "Subject": one_line(subject),
                "From": self._from,
                "To": address,
                "Date": formatdate(),
                "Message-ID": make_msgid(domain=self._domain),
                "Auto-Submitted": "auto-replied",
                **headers,
            },
            text,
        )
        outcome = await self._send(address, message, Always())
        if not isinstance(outcome, Sent):
            _log.warning("mail_not_answered", reason=outcome.reason)
        return isinstance(outcome, Sent)

    async def _send(self, address: str, message: bytes, permit: Permit) -> Outcome:
        try:
            return Sent(_short(await self._limit.wait(self._hand_in(address, message, permit))))
        except TimeoutError:
            return Retryable(f"no answer within {self._timeout:g} s")
        except (SMTPException, OSError) as error:
            return self._classify(error)

    async def close(self) -> None:
        """Say goodbye where it is quick."""
        idle, self._idle = self._idle, []
        for session, _ in idle:
            session.close()

    async def _hand_in(self, address: str, message: bytes, permit: Permit) -> str:
        """The answer of the server. If the server ends a reused session, that says nothing about the mail: it is sent
        over a new one.

        If the session ended after the content, the server may have accepted the mail already; the repeat has the same
        Message-ID.
        """
        kept = await self._kept()
        if kept is not None:
            try:
                return await self._carry(kept, address, message, permit)
            except (SMTPException, OSError) as error:
                if not _ended(error):
                    raise
        return await self._carry(await self._connect(), address, message, permit, repeat=kept is not None)

    async def _carry(
        self, session: MailSession, address: str, message: bytes, permit: Permit, *, repeat: bool = False
    ) -> str:
        """One mail over one session, which is kept if all went well."""
        try:
            answer = await session.carry(self._envelope_sender, address, message, permit, repeat=repeat)
        except BaseException:
            session.close()
            raise
        self._idle.append((session, monotonic()))
        return answer

    async def _kept(self) -> MailSession | None:
        while self._idle:
            session, since = self._idle.pop()
            rested = monotonic() - since
            if rested > _IDLE_LIMIT or not session.is_connected:
                session.close()
                continue
            if rested > _PROBE_AFTER:
                try:
                    await session.noop()
                except (SMTPException, OSError):
                    session.close()  # the server ended the session; a new one will show why
                    continue
            return session
        return None

    async def _connect(self) -> MailSession:
        server = self._server
        session = SMTP(
            hostname=server.host,
            port=server.port,
            timeout=self._timeout,
            use_tls=server.implicit_tls,
            start_tls=False,
            tls_context=self._context() if server.implicit_tls else None,
        )
        try:
            await session.connect()
            secure = server.implicit_tls
            if not secure and server.starttls is not StartTls.OFF:
                await session.ehlo()
                if server.starttls is StartTls.REQUIRED or session.supports_extension("starttls"):
                    await session.starttls(tls_context=self._context())
                    secure = True
            if server.username:
                if not secure and server.starttls is not StartTls.OFF:
                    raise InsecureLogin(f"{server.host} offers no STARTTLS: the password is not sent in the clear")
                await session.login(server.username, server.password)
            if session.is_ehlo_or_helo_needed:
                await _greet(session)
            return MailSession(session)
        except BaseException:
            session.close()
            raise

    def _context(self) -> ssl.SSLContext:
        if self._server.ca_file:
            if self._authority is None:
                self._authority = AuthorityFile(self._server.ca_file)
            self._authority.refresh()
            return self._authority.context
        if self._tls is None:
            self._tls = ssl.create_default_context()  # loaded once, when it is needed: it takes some 50 ms
        return self._tls

    def _compose(self, delivery: Delivery) -> bytes:
        job = delivery.job
        headers = {
            "Subject": subject(delivery),
            "From": self._from,
            "To": delivery.target.address,
            "Date": _date(delivery.start_time),
            # The same for every attempt: a mail server or client that gets it twice shows it once.
            "Message-ID": f"<{delivery.key}@{self._domain}>",
            "Auto-Submitted": "auto-generated",  # RFC 3834: no vacation answers
            "Tocsin-Delivery": delivery.key,
        }
        if job.incident and delivery.kind is not Kind.BUNDLE:
            thread = f"<{job.incident.replace('/', '-')}@{self._domain}>"
            headers |= {"In-Reply-To": thread, "References": thread, "Tocsin-Incident": job.incident}
        if delivery.kind is Kind.DIGEST and delivery.link:
            # RFC 8058: mail programs show a button of their own, which posts to the link.
            headers |= {"List-Unsubscribe": f"<{delivery.link}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
        if delivery.reply_to:
            headers["Reply-To"] = delivery.reply_to
        if delivery.kind in WAKING and is_urgent(job):
            headers["Importance"] = "high"
        return compose(headers, body(delivery), _html(delivery))

    def _classify(self, error: Exception) -> Outcome:
        if isinstance(error, InsecureLogin):
            _log.error("smtp_login_refused", server=repr(self._server), error=str(error))
            return Retryable(str(error))
        if isinstance(error, SMTPResponseException):
            said = f"{error.code} {_short(error.message)}"
            if isinstance(error, SMTPAuthenticationError) or error.code in _OUR_FAULT:
                _log.error("smtp_login_refused", server=repr(self._server), error=said)
                return Retryable(f"the mail server does not accept our login: {said}")
            if 500 <= error.code < 600:
                return Permanent(said)
            return Retryable(said, recipient=isinstance(error, SMTPRecipientRefused) and not _ended(error))
        return Retryable(f"no mail server: {_short(str(error) or type(error).__name__)}")


class InsecureLogin(SMTPException):
    """The password would have been sent unencrypted although TLS was not switched off."""


@lru_cache(16)
def _date(time: datetime) -> str:
    """As in a mail's head. Attempts that were claimed together have the same date."""
    return format_datetime(time)


async def _greet(session: SMTP) -> None:
    try:
        await session.ehlo()
    except SMTPHeloError:
        await session.helo()


def _ended(error: Exception) -> bool:
    """Whether the server ended the session: it hung up, or said that it is about to (421, RFC 5321 §3.8)."""
    if isinstance(error, SMTPResponseException):
        return error.code == SMTPStatus.domain_unavailable
    return isinstance(error, (SMTPServerDisconnected, ConnectionError))


def _html(delivery: Delivery) -> str:
    """Beside the text; empty for mails that are text alone."""
    if delivery.kind is Kind.DIGEST:
        return digest_html.html(content_of(delivery.job.digest), delivery.digest_words, delivery.link)
    return mail_html(delivery)


def _short(text: str) -> str:
    return " ".join(text.split())[:300]


TYPE: Final = ChannelType(
    Channel.EMAIL,
    "e-mail",
    lambda settings, callbacks: EmailChannel(
        settings.mail_server,
        timeout=settings.attempt_timeout_seconds,
        concurrency=settings.smtp_connections,
        reply_to=callbacks.reply_address,
    ),
    address_field="address",
    personal=True,
    parts=(Part.SUBJECT, Part.TEXT, Part.HTML),
)
