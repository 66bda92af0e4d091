"""The operator's app at Slack, and how its requests are verified
(docs.slack.dev/authentication/verifying-requests-from-slack)."""

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

from tocsin_notify.domain.proofs import is_any

FRESH_SECONDS: Final = 300.0
"""A request that is older, or this much in the future, is refused: it may be a recorded one."""
_LONGEST_STAMP: Final = 12


@dataclass(frozen=True, slots=True)
class SlackAccount:
    """An empty `token`: nothing is sent by Slack. Without `secrets` its requests are refused, and messages have no
    buttons."""

    token: str
    secrets: tuple[str, ...] = ()
    """Signing secrets; each is accepted, so that they can be rotated."""
    base_url: str = "https://slack.com"

    def __repr__(self) -> str:
        return f"SlackAccount({self.base_url})"


def is_fresh(stamp: str, now: float) -> bool:
    """Whether a signed stamp lies within five minutes of `now` (unix seconds)."""
    return abs(now - int(stamp)) <= FRESH_SECONDS


def is_signed(account: SlackAccount, stamp: str, body: bytes, given: str) -> bool:
    """Whether the app's signing secret signed this body with this `stamp`, a number of seconds.

    Compares in constant time, and before anything of the body is read.
    """
    if not stamp.isascii() or not stamp.isdigit() or len(stamp) > _LONGEST_STAMP:
        return False
    return is_any(
        (signature(secret, stamp, body) for secret in account.secrets), given.encode("utf-8", "surrogateescape")
    )


def signature(secret: str, stamp: str, body: bytes) -> bytes:
    """What X-Slack-Signature has to be."""
    return (
        b"v0=" + hmac.new(secret.encode(), b"v0:" + stamp.encode() + b":" + body, hashlib.sha256).hexdigest().encode()
    )
