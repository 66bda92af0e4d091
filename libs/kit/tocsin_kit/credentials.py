"""Judges credentials, and limits wrong ones: they cost little, and callers that send many are slowed down.

A credential that was right here before is accepted at once, even if its address sends wrong ones too: behind a proxy or a NAT all
clients have one address, and a stranger among them must not lock out the others. Any other credential from an address that has
used up its failures waits a moment, and is then judged.
"""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from tocsin.errors.v1.error_reason_pb2 import ErrorReason

from tocsin_kit import wall_clock
from tocsin_kit.auth import Authenticator, Principal, authenticate
from tocsin_kit.bounded import Bounded
from tocsin_kit.buckets import Buckets
from tocsin_kit.counts import Counts
from tocsin_kit.errors import TocsinError
from tocsin_kit.keys.revocations import Revocations
from tocsin_kit.keys.sources import address_of, is_among, source_not_allowed, source_of
from tocsin_kit.logging import get_logger
from tocsin_kit.metrics import Metrics

_log = get_logger(__name__)

HOLD_SECONDS: Final = 0.25
"""How long an unknown credential from such an address waits."""
_REMEMBERED: Final = 20_000
_WRONG_SECONDS: Final = 5.0
"""Short: a token may be early because two clocks differ, or its issuer may have published its key just now."""
_MOST_HELD: Final = 2000
_MOST_HELD_OF_SOURCE: Final = 1000
_LOG_SECONDS: Final = 60.0


class Throttled(TocsinError):
    """RATE_LIMITED for a wrong credential, or for one that could not be judged because too many wait already."""

    def __init__(self, what: str, retry_after: float) -> None:
        super().__init__(
            ErrorReason.ERROR_REASON_RATE_LIMITED,
            f"{what}, and its address has sent too many wrong credentials; send a right one, a little later",
            metadata={"limit": "wrong credentials"},
            retry_after=retry_after,
        )


class Credentials:
    """Judges credentials. `rate`, `burst`: wrong ones a second and at once of one address before it is slowed down."""

    def __init__(self, *, rate: float, burst: float, metrics: Metrics) -> None:
        self._failures = Buckets(rate, burst)
        self._logged = Buckets(1 / _LOG_SECONDS, 1)
        self._right: Bounded[int, None] = Bounded(_REMEMBERED)
        self._wrong: Bounded[bytes, tuple[float, TocsinError]] = Bounded(_REMEMBERED)
        self._held: Counts[str] = Counts()
        self._total = metrics.credentials_refused
        self._report_elsewhere: Callable[[Principal, TocsinError], Awaitable[None]] | None = None
        self.revocations: Final = Revocations()
        """Credentials that are refused before they expire. Empty until `tocsin_kit.keys.serving` fills it."""

    async def judge(
        self, authenticators: Iterable[Authenticator], token: str, peer: Callable[[], str], *, way: str = "rpc"
    ) -> Principal:
        """The principal of `token`. `peer` returns the caller's address; `way`: separates listeners that have other
        authenticators.

        Raises the errors of the authenticators, CREDENTIAL_INVALID for a revoked one, SOURCE_NOT_ALLOWED, and `Throttled`.
        """
        # Keyed by a secret of the process (SipHash), so that no sender can make two equal ones.
        key = hash((way, token))
        known = key in self._right
        if not known:
            await self._admit(way, token, peer)
        try:
            principal = await authenticate(authenticators, token)
            self.revocations.check(principal)
        except TocsinError as error:
            if error.reason != ErrorReason.ERROR_REASON_CREDENTIAL_INVALID:
                raise
            self._right.pop(key, None)
            self._remember_wrong(_digest(way, token), error)
            raise self._refusal(error, source_of(peer())) from error
        if not known:
            self._right[key] = None
        if principal.sources:
            await self._require_source(principal, peer())
        return principal

    def require_still_good(self, principal: Principal) -> None:
        """For calls that stay open. Raises CREDENTIAL_EXPIRED, and CREDENTIAL_INVALID for a revoked one."""
        if wall_clock.now() >= principal.expires:
            raise TocsinError(
                ErrorReason.ERROR_REASON_CREDENTIAL_EXPIRED, "the credential has expired; call again with a new one"
            )
        self.revocations.check(principal)

    def watch_elsewhere(self, report: Callable[[Principal, TocsinError], Awaitable[None]]) -> None:
        """`report` is awaited when a right credential is used from a wrong address, once a minute for each principal."""
        self._report_elsewhere = report

    async def _require_source(self, principal: Principal, peer: str) -> None:
        """A right credential from a wrong address: its owner is told, once a minute, for it is lost or misconfigured."""
        address = address_of(peer)
        if is_among(principal.sources, address):
            return
        self._total.labels("elsewhere").inc()
        error = source_not_allowed(address)
        if not self._logged.take(("elsewhere", principal.org_id, principal.subject), time.monotonic()):
            _log.warning(
                "credential_used_elsewhere", org_id=principal.org_id, subject=principal.subject, source=source_of(peer)
            )
            if self._report_elsewhere is not None:
                await self._report_elsewhere(principal, error)
        raise error

    async def _admit(self, way: str, token: str, peer: Callable[[], str]) -> None:
        """Refuses a credential that was wrong a moment ago, and delays one from a suspect address."""
        if not self._wrong and not self._failures:
            return
        now, source = time.monotonic(), source_of(peer())
        remembered = self._wrong.get(_digest(way, token))
        if remembered is not None and now < remembered[0]:
            raise self._refusal(remembered[1], source)
        wait = self._failures.wait(source, now)
        if not wait:
            return
        if self._held.total() >= _MOST_HELD or self._held[source] >= _MOST_HELD_OF_SOURCE:
            self._total.labels("held").inc()
            raise Throttled("the credential could not be judged yet", max(wait, HOLD_SECONDS))
        self._held[source] += 1
        try:
            await asyncio.sleep(HOLD_SECONDS)
        finally:
            self._held.less(source)

    def _remember_wrong(self, key: bytes, error: TocsinError) -> None:
        self._wrong[key] = (time.monotonic() + _WRONG_SECONDS, error)

    def _refusal(self, error: TocsinError, source: str) -> TocsinError:
        """The error itself while the source may be wrong, `Throttled` afterwards."""
        now = time.monotonic()
        wait = self._failures.take(source, now)
        if not wait:
            self._total.labels("wrong").inc()
            return TocsinError(error.reason, error.message, metadata=error.metadata)
        self._total.labels("throttled").inc()
        if not self._logged.take(source, now):
            _log.warning("wrong_credentials", source=source, effect="its unknown credentials are slowed down")
        return Throttled(error.message, max(wait, HOLD_SECONDS))


def _digest(way: str, token: str) -> bytes:
    """The hash that is kept of a wrong credential: a token may be as long as a gRPC header may be."""
    return hashlib.blake2b(f"{way} {token}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
