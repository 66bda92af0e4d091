"""The SMTP listener: limits of connections, of time, and of bytes (RFC 5321).

aiosmtpd implements the protocol. What it does not limit is limited here: connections, the time of a session, and the memory of
mails that are arriving.
"""

import asyncio
import logging
import ssl
import time
from typing import Any, Final

import prometheus_client
from aiosmtpd.smtp import SMTP, Envelope

from tocsin_kit.buckets import Buckets
from tocsin_kit.counts import Counts
from tocsin_kit.keys.sources import source_of
from tocsin_kit.logging import get_logger
from tocsin_kit.loops import until, wait_for_any
from tocsin_kit.mail.content import MailContent
from tocsin_kit.mail.listener import MailListener
from tocsin_kit.mail.receiver import Receiver
from tocsin_kit.time_slices import TimeSlice

_log = get_logger(__name__)
_HOST_SHARE: Final = 2
_SENDING_SHARE: Final = 8
_COMMANDS: Final = 100
"""Of one kind in one session."""
_CONNECTIONS_PER_SECOND: Final = 10.0
_CONNECTIONS_AT_ONCE: Final = 100.0
"""Of one source. A session costs a millisecond to set up."""
_GRACE: Final = 5.0
_STEP: Final = 0.01
_FULL: Final = "421 4.3.2 too many connections; try again a little later"
_BUSY: Final = "451 4.3.2 too many mails are on their way; send it again a little later"
_LATE: Final = "421 4.4.2 the mail did not come in time"
_LEAVING: Final = "421 4.3.2 closing; another one will take your mail"
_PIECE: Final = 64 << 10
"""Bytes of a mail that are processed together."""
_TOO_LARGE: Final = "552 5.3.4 the mail is larger than {limit} bytes"

# It logs each command as it came, and the addresses in them are credentials.
logging.getLogger("mail.log").setLevel(logging.CRITICAL)


class MailServer:
    """One listener and its sessions."""

    def __init__(
        self,
        settings: MailListener,
        receiver: Receiver,
        tls: ssl.SSLContext | None,
        refused: prometheus_client.Counter,
        stop: asyncio.Event,
    ) -> None:
        """`refused` is labelled with the limit that refused a connection or a mail: `connections`, `mails`."""
        self.settings: Final = settings
        self.receiver: Final = receiver
        self.tls: Final = tls
        self._stop = stop
        self._sessions: set[_Session] = set()
        self._hosts: Counts[str] = Counts()
        self._rate = Buckets(_CONNECTIONS_PER_SECOND, _CONNECTIONS_AT_ONCE)
        self._sending: Counts[str] = Counts()
        self._refused = refused
        self.port = 0
        """The port it listens on, once started."""

    async def run(self, ended: asyncio.Event) -> None:
        """Accept mails until the process is told to stop. What is being committed then is answered."""
        loop = asyncio.get_running_loop()
        host, _, port = self.settings.listen.rpartition(":")
        server = await loop.create_server(
            lambda: _Session(self), host.strip("[]"), int(port), reuse_port=self.settings.shared
        )
        self.port = server.sockets[0].getsockname()[1]
        _log.info("mail_listening", address=self.settings.listen, port=self.port, starttls=self.tls is not None)
        try:
            await wait_for_any(self._stop, ended)
        finally:
            server.close()
            for session in list(self._sessions):
                session.leave_if_idle()
            await until(lambda: not self._sessions, _GRACE, step=_STEP)
            for session in list(self._sessions):
                session.abort()
        # A loop that ends earlier is restarted.
        await ended.wait()

    async def close(self) -> None:
        """After the last mail."""
        self.receiver.close()

    @property
    def leaving(self) -> bool:
        """Whether sessions end with their current command."""
        return self._stop.is_set()

    def enter(self, session: "_Session", host: str) -> bool:
        """Count one more session; False when the limit is reached."""
        most = self.settings.max_connections
        full = len(self._sessions) >= most or self._hosts[host] >= most // _HOST_SHARE
        if full or self.leaving or self._rate.take(host, time.monotonic()):
            self._refused.labels("connections").inc()
            return False
        self._sessions.add(session)
        self._hosts[host] += 1
        return True

    def leave(self, session: "_Session", host: str) -> None:
        """The session has ended."""
        if session in self._sessions:
            self._sessions.remove(session)
            self._hosts.less(host)

    def lend(self, host: str) -> bool:
        """Whether one more mail may arrive now; `give_back` follows."""
        most = max(2, self.settings.max_connections // _SENDING_SHARE)
        if self._sending.total() >= most or self._sending[host] >= most // _HOST_SHARE:
            self._refused.labels("mails").inc()
            return False
        self._sending[host] += 1
        return True

    def give_back(self, host: str) -> None:
        """A mail has arrived, or was given up."""
        self._sending.less(host)


class _Session(SMTP):
    """The SMTP session of one connection."""

    # Of each command; the reader accepts no longer line.
    command_size_limit = 1000

    def __init__(self, server: MailServer) -> None:
        settings = server.settings
        super().__init__(
            server.receiver,
            data_size_limit=settings.max_bytes,
            enable_SMTPUTF8=True,
            hostname=settings.domain,
            ident="Tocsin",
            tls_context=server.tls,
            require_starttls=settings.require_tls,
            timeout=settings.command_seconds,
            auth_exclude_mechanism=("LOGIN", "PLAIN"),
            command_call_limit=_COMMANDS,
            loop=asyncio.get_running_loop(),
        )
        self._server = server
        self._most = settings.max_bytes
        self._host = ""
        self._end: asyncio.TimerHandle | None = None
        self._busy = False

    def connection_made(self, transport: Any) -> None:
        """The first time, and again after STARTTLS has replaced the transport."""
        if self._end is None:
            peer = transport.get_extra_info("peername")
            self._host = source_of(str(peer[0]) if peer else "")
            if not self._server.enter(self, self._host):
                transport.set_protocol(asyncio.Protocol())
                transport.write(f"{_FULL}\r\n".encode())
                transport.close()
                return
            seconds = self._server.settings.session_seconds
            self._end = asyncio.get_running_loop().call_later(seconds, self.abort)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """However it ended."""
        if self._end is not None:
            self._end.cancel()
        self._server.leave(self, self._host)
        super().connection_lost(error)

    def abort(self) -> None:
        """Ends it without an answer."""
        # Below TLS: TLS would wait for the client's close message.
        transport: Any = self._original_transport or self.transport
        if transport is not None:
            transport.abort()

    def leave_if_idle(self) -> None:
        """Ends it when it is committing nothing."""
        transport: Any = self.transport
        if not self._busy and transport is not None:
            transport.write(f"{_LEAVING}\r\n".encode())
            transport.close()

    async def smtp_DATA(self, arg: str | None) -> None:
        """A mail, within the limit of mails that are arriving.

        The library's own method keeps an object for each line, and lines without an end in full.
        """
        if await self.check_helo_needed():
            return
        if self.envelope is None or not self.envelope.rcpt_tos:
            await self.push("503 5.5.1 send RCPT first")
        elif arg:
            await self.push("501 5.5.4 Syntax: DATA")
        elif not self._server.lend(self._host):
            await self.push(_BUSY)
        else:
            try:
                await self._take()
            finally:
                self._server.give_back(self._host)

    async def _take(self) -> None:
        await self.push("354 end with <CR><LF>.<CR><LF>")
        seconds = self._server.settings.command_seconds
        # Later than our own limit, which gives the reason.
        self._reset_timeout(2 * seconds)
        try:
            async with asyncio.timeout(seconds):
                content, ended = await self._content()
        except TimeoutError:
            await self._goodbye(_LATE)
            return
        if content is None:
            self.envelope = Envelope()
            too_large = _TOO_LARGE.format(limit=self._most)
            await (self.push(too_large) if ended else self._goodbye(too_large))
            return
        assert self.envelope is not None
        self.envelope.content = content
        self._busy = True
        try:
            # A commit may take longer than a client may be silent.
            self._reset_timeout(self._server.settings.session_seconds)
            status = await self._call_handler_hook("DATA")
        finally:
            self._busy = False
        self._reset_timeout()
        self.envelope = Envelope()
        await self.push(status)
        if self._server.leaving:
            await self._goodbye(_LEAVING)

    async def _goodbye(self, status: str) -> None:
        await self.push(status)
        if self.transport is not None:
            self.transport.close()

    async def _content(self) -> tuple[bytes | None, bool]:
        """The mail, see `MailContent`; None: it is too large. Returns also whether it was received to its end."""
        content, time_slice = MailContent(self._most), TimeSlice()
        while content.came <= 2 * self._most:
            piece = await self._reader.read(_PIECE)
            if not piece:
                raise asyncio.IncompleteReadError(b"", None)
            behind = content.feed(piece)
            if behind is not None:
                # Commands that follow, before what else has come; nothing public gives them back.
                self._reader._buffer[:0] = behind  # type: ignore[attr-defined]
                return content.taken, True
            await time_slice.yield_if_over()
        return None, False
