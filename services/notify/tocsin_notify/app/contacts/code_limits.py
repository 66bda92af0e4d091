"""How many verification codes one tenant may send, and one address may get, from all tenants together.

A limit by contact method alone is none: a caller who wants to fill a stranger's mailbox makes a method, sends, deletes it, and
makes the next one. These limits are in the memory of each replica, since the rows of a deleted method are gone.
"""

from typing import Final

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.buckets import Buckets
from tocsin_kit.errors import TocsinError

from tocsin_notify.domain.page import Channel

OF_ADDRESS: Final = 10
"""Codes an hour to one address, of all tenants together."""
OF_TENANT: Final = 500
"""Codes an hour of one tenant: as many as a company of that size needs on its first day."""
_HOUR: Final = 3600.0
_ADDRESSES: Final = 100_000


class CodeLimits:
    """Counts codes that are about to be sent."""

    def __init__(self) -> None:
        self._tenants = Buckets(OF_TENANT / _HOUR, OF_TENANT)
        self._addresses = Buckets(OF_ADDRESS / _HOUR, OF_ADDRESS, size=_ADDRESSES)

    def take(self, org_id: str, channel: Channel, address: str, now: float) -> None:
        """One code at monotonic second `now`. Raises RATE_LIMITED, which names the limit."""
        if wait := self._tenants.take(org_id, now):
            raise _limited("tenant", OF_TENANT, wait)
        if address and (wait := self._addresses.take((channel, _mailbox(channel, address)), now)):
            raise _limited("address", OF_ADDRESS, wait)


def _mailbox(channel: Channel, address: str) -> str:
    """Spellings of one mailbox are one address: most servers ignore case, and what follows a plus sign (RFC 5233)."""
    if channel is not Channel.EMAIL:
        return address
    local, _, domain = address.lower().rpartition("@")
    return f"{local.partition('+')[0]}@{domain}"


def _limited(whose: str, allowed: int, wait: float) -> TocsinError:
    return TocsinError(
        ErrorReason.ERROR_REASON_RATE_LIMITED,
        f"this {whose} has had its {allowed} verification codes an hour; wait, or use a code that was sent already",
        metadata={"limit": f"codes: {whose}", "allowed": str(allowed)},
        retry_after=max(1.0, wait),
    )
