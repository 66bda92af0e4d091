"""An SMTP session once it is greeted and logged in: mails over it, each in as few packets as the server takes.

The library (aiosmtplib) opens the session: connecting, TLS and login are its work. It waits for the answer to each
command, which costs a round trip and three iterations of the event loop each. Most servers take MAIL, RCPT and DATA
together (PIPELINING, RFC 2920).
"""

import asyncio
import re
from typing import Final, NamedTuple, cast

from aiosmtplib import (
    SMTP,
    SMTPDataError,
    SMTPRecipientRefused,
    SMTPResponseException,
    SMTPSenderRefused,
    SMTPServerDisconnected,
    SMTPStatus,
)
from aiosmtplib.email import quote_address

from tocsin_notify.channels.base import Permit

_MOST_BYTES: Final = 65_536
"""Of answers that are not complete; RFC 5321 allows 512 a line."""
_LEADING_DOT: Final = re.compile(rb"(?m)^\.")
_BARE: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.-]+")
_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")


class Reply(NamedTuple):
    """Lines of several are joined."""

    code: int
    text: str


class MailSession:
    """Carries one mail at a time. After a failure it cannot be used any more."""

    def __init__(self, session: SMTP) -> None:
        """`session`: greeted, and logged in if that is wanted. From here on the library only closes it."""
        if session.transport is None or session.protocol is None:
            raise SMTPServerDisconnected("the session ended after the greeting")
        # No isinstance check: the transports of uvloop are no subclasses.
        transport, protocol = cast(asyncio.Transport, session.transport), session.protocol
        self._session = session
        self._transport = transport
        self._replies = _Replies(transport, protocol)
        transport.set_protocol(self._replies)
        self._sized = session.supports_extension("size")
        self._pipelined = session.supports_extension("pipelining")

    @property
    def is_connected(self) -> bool:
        """Whether the session is open, as far as this side knows."""
        return not self._transport.is_closing()

    def close(self) -> None:
        """End it. A mail that the server has not accepted by then is lost."""
        self._session.close()

    async def noop(self) -> None:
        """Raises SMTPException or OSError if the server is there no more."""
        await self._ask(b"NOOP\r\n")

    async def carry(self, sender: str, address: str, message: bytes, permit: Permit, *, repeat: bool) -> str:
        """The server's answer to the content. Raises SMTPException for what it refuses, and OSError.

        Each step that the server acts on needs the permit.
        """
        size = b" SIZE=%d" % len(message) if self._sized else b""
        mail, rcpt = b"MAIL FROM:" + _path(sender) + size + b"\r\n", b"RCPT TO:" + _path(address) + b"\r\n"
        if self._pipelined:
            # A server that refuses MAIL or RCPT and still accepts DATA waits for the content of a mail without a
            # receiver. The session ends here, as after every refusal.
            replies = await permit.begin(lambda: self._ask(mail, rcpt, b"DATA\r\n"), repeat=repeat)
        else:
            replies = await permit.begin(lambda: self._ask(mail), repeat=repeat)
        self._check(replies, sender, address)
        for command in () if self._pipelined else (rcpt, b"DATA\r\n"):
            replies += await self._ask(command)
            self._check(replies, sender, address)
        if len(replies) < 3:
            raise SMTPServerDisconnected("the session ended before the content")
        stuffed = _LEADING_DOT.sub(b"..", message)  # RFC 5321 §4.5.2
        content = stuffed + (b"" if stuffed.endswith(b"\r\n") else b"\r\n") + b".\r\n"
        [reply] = await permit.begin(lambda: self._ask(content))
        if reply.code != SMTPStatus.completed:
            raise SMTPDataError(*reply)
        return reply.text

    def _check(self, replies: list[Reply], sender: str, address: str) -> None:
        """Raises SMTPException for the first refusal among the answers to MAIL, RCPT and DATA."""
        wanted = (SMTPStatus.completed, SMTPStatus.completed, SMTPStatus.start_input)
        for place, (reply, code) in enumerate(zip(replies, wanted, strict=False)):
            if reply.code == code or (place == 1 and reply.code == SMTPStatus.will_forward):
                continue
            if place == 0:
                raise SMTPSenderRefused(reply.code, reply.text, sender)
            if place == 1:
                raise SMTPRecipientRefused(reply.code, reply.text, address)
            raise SMTPDataError(reply.code, reply.text)

    async def _ask(self, *commands: bytes) -> list[Reply]:
        """The answers to these, which leave together; fewer if the session ends in between.

        Raises SMTPServerDisconnected if there is none.
        """
        answers = self._replies.expect(len(commands))
        self._transport.write(b"".join(commands))
        return await answers


class _Replies(asyncio.Protocol):
    """Reads what the server answers."""

    def __init__(self, transport: asyncio.Transport, before: asyncio.BaseProtocol) -> None:
        """`before`: the library's, which is told of the end."""
        self._transport = transport
        self._before = before
        self._buffer = b""
        self._texts: list[str] = []
        self._replies: list[Reply] = []
        self._wanted = 0
        self._waiter: asyncio.Future[list[Reply]] | None = None

    def expect(self, count: int) -> "asyncio.Future[list[Reply]]":
        """The next answers."""
        if self._transport.is_closing():
            raise SMTPServerDisconnected("the session has ended")
        self._replies, self._wanted = [], count
        self._waiter = asyncio.get_running_loop().create_future()
        return self._waiter

    def data_received(self, data: bytes) -> None:
        """Of the transport."""
        if self._waiter is None:
            self._transport.close()  # the server announces by itself that it will end the session
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        try:
            for line in lines:
                self._take(line)
            if len(self._buffer) + sum(map(len, self._texts)) > _MOST_BYTES:
                raise SMTPResponseException(SMTPStatus.invalid_response, "the server's answer has no end")
        except SMTPResponseException as error:
            self._end(error)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Of the transport."""
        error = SMTPServerDisconnected("the session ended")
        error.__cause__ = exc
        self._end(error)
        self._before.connection_lost(exc)

    def _take(self, line: bytes) -> None:
        try:
            code = int(line[:3])
        except ValueError:
            said = line.decode(errors="replace")
            raise SMTPResponseException(SMTPStatus.invalid_response, f"no answer of SMTP: {said}") from None
        self._texts.append(line[4:].strip().decode(errors="replace"))
        if line[3:4] == b"-":
            return
        self._replies.append(Reply(code, "\n".join(self._texts)))
        self._texts = []
        if len(self._replies) == self._wanted:
            self._end(None)

    def _end(self, error: Exception | None) -> None:
        """Answers arrived before the end: the first of them may give the reason."""
        waiter, self._waiter = self._waiter, None
        if waiter is None or waiter.done():
            return
        if self._replies:
            waiter.set_result(self._replies)
        elif error is not None:
            waiter.set_exception(error)


def _path(address: str) -> bytes:
    """As SMTP names it. Raises ValueError for one that is none."""
    if _BARE.fullmatch(address):
        return f"<{address}>".encode("ascii")
    path = quote_address(address).encode("ascii")
    if _CONTROL.search(path):
        raise ValueError("an address holds a control character")
    return path
