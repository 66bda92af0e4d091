"""The answers of every mail receiver to the commands of an SMTP session."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from aiosmtpd.smtp import SMTP, Envelope, Session, TLSSetupException

from tocsin_kit.errors import TocsinError
from tocsin_kit.mail.reading import Mail, read_mail
from tocsin_kit.rpc.failures import masked

_THREADS: Final = 2
_OURS: Final = "451 4.3.0 something is wrong here, and the mail was not taken; send it again"
_LONGEST: Final = 400
NOT_OUR_DOMAIN: Final = "550 5.7.1 mails to this domain are not taken here"


class Receiver:
    """aiosmtpd calls its hooks. A 5xx answer means that the mail itself is wrong, and a repeat would be too.

    A receiver of a service adds `handle_RCPT` and `handle_DATA`.
    """

    def __init__(self, domain: str, *, marks_quotes: bool = False) -> None:
        """`domain`: after the `@` of the addresses whose mails are accepted. `marks_quotes`: see `read_mail`."""
        self._domain = domain.lower()
        self._read = partial(read_mail, marks_quotes=marks_quotes)
        self._readers = ThreadPoolExecutor(_THREADS, thread_name_prefix="mail")

    def close(self) -> None:
        """Ends the threads that read mails."""
        self._readers.shutdown(wait=False, cancel_futures=True)

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, answer: list[str]
    ) -> list[str]:
        """There are no logins: an address is all that is needed."""
        session.host_name = hostname
        return [line for line in answer if not line.startswith("250-AUTH")]

    async def handle_exception(self, error: Exception) -> str:
        """A defect of ours, which must lose no mail; or a client that closes the connection, or uses no TLS after STARTTLS."""
        if not isinstance(error, (TLSSetupException, OSError, asyncio.IncompleteReadError)):
            masked(error)
        return _OURS

    def word_of(self, address: str) -> str | None:
        """The part before the `@`; None for an address of another domain."""
        word, _, domain = address.rpartition("@")
        return word if domain.lower() == self._domain else None

    async def read(self, envelope: Envelope) -> Mail:
        """The whole mail of a session."""
        content = envelope.content
        assert isinstance(content, bytes)
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, content)


def is_bounce(envelope: Envelope) -> bool:
    """Whether it names no sender to answer to (RFC 5321 §4.5.5): a bounce, or another mail that a program sends."""
    return envelope.mail_from in (None, "", "<>")


def later(error: TocsinError) -> str:
    """The sender's server is to send it again."""
    return f"451 4.3.2 {line(error.message)}"


def line(text: str) -> str:
    """As one line of an SMTP answer."""
    return " ".join(text.encode("ascii", "replace").decode().split())[:_LONGEST]
