"""Shared by SMS and voice: the account at Twilio, or at a provider with the same API."""

from collections.abc import Sequence
from dataclasses import dataclass

from multidict import MultiDict
from twilio.request_validator import RequestValidator


@dataclass(frozen=True, slots=True)
class TwilioAccount:
    """Whose account is charged. An empty `sid`: this installation sends no text messages and makes no calls."""

    sid: str
    tokens: tuple[str, ...] = ()
    """Auth tokens. The first one logs in; each of them may have signed a callback, so that they can be rotated."""
    sender: str = ""
    """A number in E.164, a sender id, or a messaging service (`MG…`)."""
    base_url: str = "https://api.twilio.com"
    sms_validity: int = 300
    """Seconds after which the provider gives up a message that no carrier accepted."""
    sms_segments: int = 3
    caller: str = ""
    """The number that calls come from, in E.164. Empty: no calls are made."""
    ring_seconds: int = 30
    replies: bool = False
    """Replies to its messages come to this service."""

    def __repr__(self) -> str:
        return f"TwilioAccount({self.sid}, {self.base_url})"


def is_signed(account: TwilioAccount, url: str, fields: Sequence[tuple[str, str]], given: str) -> bool:
    """Whether the account signed this request. All tokens are tried, so that the time does not show which one signed.

    `url` is the public one, as the provider was given it. Twilio signs some requests with the port and some without; a
    repeated field counts once for each of its values.
    """
    signed: MultiDict[str] = MultiDict(fields)
    verdicts = [RequestValidator(token).validate(url, signed, given) for token in account.tokens]
    return any(verdicts)
