"""What SMS and voice share: the account at Twilio, or at a provider that speaks the same API."""

import base64
import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

SIGNATURE_HEADER: Final = "X-Twilio-Signature"
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class TwilioAccount:
    """Whose account is charged. An empty `sid`: this installation sends no text messages and calls nobody."""

    sid: str
    tokens: tuple[str, ...] = ()
    """Auth tokens. The first one logs in; each of them may have signed a callback, so that they can be rotated."""
    sender: str = ""
    """A number in E.164, a sender id, or a messaging service (`MG…`)."""
    base_url: str = "https://api.twilio.com"
    sms_validity: int = 300
    """Seconds after which the provider gives a message up that it could not hand to a carrier."""
    sms_segments: int = 3
    caller: str = ""
    """The number that calls come from, in E.164. Empty: nobody is called."""
    ring_seconds: int = 30
    replies: bool = False
    """Replies to its messages come to this service."""

    def __repr__(self) -> str:
        return f"TwilioAccount({self.sid}, {self.base_url})"

    @property
    def authorization(self) -> str:
        """The header that logs in."""
        login = f"{self.sid}:{self.tokens[0]}".encode()
        return "Basic " + base64.b64encode(login).decode()

    def resource(self, name: str) -> str:
        """The URL of a resource of this account, such as `Messages.json`."""
        return f"{self.base_url.rstrip('/')}/2010-04-01/Accounts/{self.sid}/{name}"


def signature(token: str, url: str, fields: Iterable[tuple[str, str]]) -> str:
    """What Twilio puts into X-Twilio-Signature (twilio.com/docs/usage/security): HMAC-SHA1 of URL and sorted fields.

    A field that comes twice counts once for each of its values.
    """
    text = url + "".join(name + value for name, value in sorted(set(fields)))
    return base64.b64encode(hmac.digest(token.encode(), text.encode(), hashlib.sha1)).decode()


def is_signed(account: TwilioAccount, url: str, fields: Sequence[tuple[str, str]], given: str) -> bool:
    """Whether the account signed this request. All candidates are compared, each in constant time.

    `url` is the public one, as it was handed to the provider. Twilio signs some requests with the port and some without.
    """
    right, candidate = False, given.encode("utf-8", "surrogateescape")
    for token in account.tokens:
        for each in _spellings(url):
            right |= hmac.compare_digest(signature(token, each, fields).encode(), candidate)
    return right


def _spellings(url: str) -> Sequence[str]:
    parts = urlsplit(url)
    host = parts.netloc if parts.port is None else parts.netloc.rpartition(":")[0]
    port = parts.port or _PORTS[parts.scheme]
    with_port, without = (parts._replace(netloc=netloc).geturl() for netloc in (f"{host}:{port}", host))
    return with_port, without
