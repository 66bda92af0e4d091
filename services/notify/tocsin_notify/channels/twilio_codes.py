"""What Twilio's error codes mean for a page. Source of each: twilio.com/docs/api/errors/<code>.

A fault of the configuration is not the recipient's. The page goes to the next method at once (`AWAY` seconds are longer
than a page waits); without another method it is retried until the operator has corrected the configuration.
"""

from enum import Enum, auto
from typing import Final

from tocsin_notify.channels.posting import may_pass
from tocsin_notify.domain.attempt import AWAY, Outcome, Permanent, Retryable


class Fault(Enum):
    """The cause of a refusal, which decides what follows."""

    RECIPIENT = auto()
    """Permanent: this number will not accept this message."""
    CONFIGURATION = auto()
    """Ours: until the operator corrects it, no message leaves through this channel."""
    PASSING = auto()
    """A repeat may succeed."""


CODES: Final = {
    # Answers to the request itself.
    10001: (Fault.CONFIGURATION, "the account is not active"),
    10004: (Fault.PASSING, "the account has as many calls at once as it may have"),
    20003: (Fault.CONFIGURATION, "the account or its token is wrong"),
    20005: (Fault.CONFIGURATION, "the account is not active"),
    20008: (Fault.CONFIGURATION, "these are test credentials"),
    20404: (Fault.CONFIGURATION, "the account or resource does not exist"),
    20403: (Fault.CONFIGURATION, "the account may not do this"),
    20429: (Fault.PASSING, "too many requests"),
    20500: (Fault.PASSING, "an internal error of the provider"),
    20503: (Fault.PASSING, "the provider is unavailable"),
    21205: (Fault.CONFIGURATION, "a URL of the request is not valid"),
    21210: (Fault.CONFIGURATION, "the number to call from is not a verified one of this account"),
    21211: (Fault.RECIPIENT, "the number is not valid"),
    21212: (Fault.CONFIGURATION, "the sender is not valid"),
    21213: (Fault.CONFIGURATION, "no number to call from is set"),
    21214: (Fault.RECIPIENT, "the number cannot be reached"),
    21215: (Fault.CONFIGURATION, "the account may not call this region"),
    21216: (Fault.RECIPIENT, "the provider calls no number of this kind"),
    21217: (Fault.RECIPIENT, "the number does not appear to be valid"),
    21219: (Fault.CONFIGURATION, "a trial account may reach verified numbers only"),
    21265: (Fault.RECIPIENT, "the number cannot be a short code"),
    21266: (Fault.CONFIGURATION, "sender and recipient are the same number"),
    21408: (Fault.CONFIGURATION, "the account may not send to this region"),
    21601: (Fault.CONFIGURATION, "the sender cannot send text messages"),
    21602: (Fault.RECIPIENT, "the message is empty"),
    21603: (Fault.CONFIGURATION, "no sender is set"),
    21604: (Fault.RECIPIENT, "no number was given"),
    21605: (Fault.RECIPIENT, "the message is too long"),
    21606: (Fault.CONFIGURATION, "the sender is not a number of this account that can send"),
    21608: (Fault.CONFIGURATION, "a trial account may reach verified numbers only"),
    21610: (Fault.RECIPIENT, "the recipient has answered STOP"),
    21611: (Fault.PASSING, "the sender's queue is full"),
    21612: (Fault.RECIPIENT, "no route leads from this sender to the number"),
    21614: (Fault.RECIPIENT, "the number is no mobile number"),
    21617: (Fault.RECIPIENT, "the message is too long"),
    21635: (Fault.RECIPIENT, "the number is a landline"),
    21703: (Fault.CONFIGURATION, "the messaging service has no sender"),
    21705: (Fault.CONFIGURATION, "the messaging service is not valid"),
    # The fate of a message, reported by its status callback.
    30001: (Fault.PASSING, "the provider's queue is full"),
    30002: (Fault.CONFIGURATION, "the account is suspended"),
    30003: (Fault.PASSING, "the phone cannot be reached at present"),
    30004: (Fault.RECIPIENT, "the message is blocked"),
    30005: (Fault.RECIPIENT, "the number is unknown"),
    30006: (Fault.RECIPIENT, "a landline, or a carrier that cannot be reached"),
    30007: (Fault.RECIPIENT, "a carrier filtered the message"),
    30008: (Fault.PASSING, "the carrier gave no reason"),
    30009: (Fault.PASSING, "a segment was lost"),
    30010: (Fault.CONFIGURATION, "the message costs more than the account allows"),
    30017: (Fault.PASSING, "a carrier's network is congested"),
    30018: (Fault.CONFIGURATION, "the destination carrier requires a registered sender"),
    30022: (Fault.PASSING, "the sender's rate limit in the USA is reached"),
    30023: (Fault.PASSING, "the sender's daily limit in the USA is reached"),
    30024: (Fault.CONFIGURATION, "the sender is not provisioned for this carrier"),
    30032: (Fault.CONFIGURATION, "the toll-free sender is not verified"),
    30034: (Fault.CONFIGURATION, "the sender is not registered for the USA"),
    30035: (Fault.CONFIGURATION, "the sender's registration is not complete"),
    30036: (Fault.PASSING, "no carrier took the message within TWILIO_SMS_VALIDITY_SECONDS"),
    30410: (Fault.PASSING, "a provider on the way timed out"),
    30450: (Fault.RECIPIENT, "the provider suspects fraud: messages to this number earn money for a third party"),
}
OF_SOME: Final = frozenset({21215, 21219, 21408, 21608})
"""Faults of the configuration that affect some numbers only."""
CALLBACK_URLS: Final = frozenset({21205, 21609})
"""A callback's URL is refused. The message itself is fine."""


def fault_of(code: int, status: int = 0) -> tuple[Fault, str]:
    """The meaning of a code and the reason, in words. An unlisted code is judged by the HTTP status, if there is one."""
    if code in CODES:
        return CODES[code]
    if status in (401, 403):
        return Fault.CONFIGURATION, "the provider does not accept our login"
    if may_pass(status) or not status:
        return Fault.PASSING, ""
    return Fault.RECIPIENT, ""


def refusal(code: int, status: int, said: str, after: float | None) -> Outcome:
    """The outcome of a request that was refused. `said` is what the provider answered; `after` its Retry-After, seconds."""
    fault, why = fault_of(code, status)
    reason = f"{said} ({why})" if why else said
    if fault is Fault.RECIPIENT:
        return Permanent(reason)
    if fault is Fault.CONFIGURATION:
        return Retryable(reason, max(AWAY, after or 0.0), recipient=code in OF_SOME)
    return Retryable(reason, after)
