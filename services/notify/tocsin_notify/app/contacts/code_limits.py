"""How many verification codes one tenant may send, and how many one address may get from all tenants together, over all
replicas.

A limit for each contact method would not be enough: to fill a stranger's mailbox, a caller makes a method, sends a
code, deletes the method, and makes the next one. So codes are counted like tenants' budgets (`tocsin_kit.budgets`),
which outlive the rows of a deleted method.
"""

import hashlib
import hmac
from collections.abc import Callable
from time import monotonic
from typing import Final

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.budgets import Budgets, Limit
from tocsin_kit.errors import TocsinError
from tocsin_kit.metrics import Metrics

from tocsin_notify.domain.page import Channel

SERVICE: Final = "notify-codes"
"""The name of these budgets in Redis."""
OF_ADDRESS: Final = 10
"""Codes an hour to one address, from all tenants together."""
OF_TENANT: Final = 500
"""Codes an hour of one tenant: as many as a company of that size needs on its first day."""
_TENANT: Final = "codes_of_tenant_per_hour"
_ADDRESS: Final = "codes_to_address_per_hour"
_HOUR: Final = 3600.0
_COUNTED: Final = 100_000
"""Tenants and addresses whose counts are kept in this process."""


class CodeLimits:
    """Counts codes that are about to be sent."""

    def __init__(self, key: bytes, metrics: Metrics, *, clock: Callable[[], float] = monotonic) -> None:
        """`key`: the key of the hash that stands for an address in Redis, so that Redis holds no addresses. `clock`: in
        seconds."""
        self._key = key
        limits = (Limit(_TENANT, OF_TENANT, _HOUR), Limit(_ADDRESS, OF_ADDRESS, _HOUR))
        self.budgets: Final = Budgets(limits, metrics, clock=clock, size=_COUNTED)

    def take(self, org_id: str, channel: Channel, address: str) -> None:
        """Count one code. Raises RATE_LIMITED, which names the limit."""
        if wait := self.budgets.try_take(org_id, _TENANT):
            raise _limited("tenant", OF_TENANT, wait)
        if address and (wait := self.budgets.try_take(self._holder(channel, address), _ADDRESS)):
            raise _limited("address", OF_ADDRESS, wait)

    def _holder(self, channel: Channel, address: str) -> str:
        keyed = f"tocsin address of codes\0{channel}\0{_mailbox(channel, address)}"
        return hmac.digest(self._key, keyed.encode(), hashlib.sha256).hex()


def _mailbox(channel: Channel, address: str) -> str:
    """Different spellings of one mailbox are one address: most servers ignore case, and the part after a plus sign (RFC
    5233)."""
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
