"""Counts the usage of tenants in one replica, and refuses usage beyond their limits.

No call waits for Redis: a replica counts by itself and exchanges counts with the others a few times a second (`shares`). So the
replicas together may allow a little more than the limit at one moment, which is then missing later.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import islice
from typing import Final

from tocsin.errors.v1.error_reason_pb2 import ErrorReason

from tocsin_kit.auth import ALL_ORGS
from tocsin_kit.buckets import Bucket
from tocsin_kit.budgets.limits import OUTBOX_ROWS, STREAMS, Limit
from tocsin_kit.errors import TocsinError
from tocsin_kit.metrics import Metrics

_TENANTS: Final = 10_000
_WATCHED: Final = 1000
_NOTICEABLE: Final = 0.01
"""Relative to the burst; usage below it is not reported to the other replicas, so that quiet tenants cost nothing."""
_ROWS_RETRY: Final = 5.0
_STREAMS_RETRY: Final = 1.0


class Usage:
    """The usage of one rate by one tenant in this replica."""

    __slots__ = ("bucket", "kept", "kept_time", "part", "unreported")

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.unreported = 0.0
        """Usage since the last report to the other replicas."""
        self.part = 0.0
        """The burst by which some of it was counted while the other replicas could not be reached; 0: none was.

        Not this replica's part as it is now: the exchange that ends such a time may have told of more replicas."""
        self.kept = 0.0
        """The part of `unreported` that could not be reported."""
        self.kept_time = 0.0


class _Tenant:
    __slots__ = ("refused", "rows", "streams", "usages")

    def __init__(self) -> None:
        self.usages: dict[str, Usage] = {}
        self.refused: dict[str, int] = {}
        self.streams = 0
        self.rows = 0


class Budgets:
    """The limits of a service, and the usage of each tenant.

    Tocsin's own services and operators (tenant `*`) have no limits.
    """

    def __init__(
        self,
        limits: Iterable[Limit],
        metrics: Metrics,
        *,
        clock: Callable[[], float] = time.monotonic,
        size: int = _TENANTS,
    ) -> None:
        """`size`: tenants whose usage is kept; the one without a call for longest is dropped first."""
        self._limits = {limit.name: limit for limit in limits}
        self._clock = clock
        self._size = size
        self._tenants: OrderedDict[str, _Tenant] = OrderedDict()
        self._chosen: dict[str, dict[str, int]] = {}
        self._noticed: dict[tuple[str, str], Usage] = {}
        self._total = metrics.tenant_refused
        self._most_used = metrics.tenant_most_used
        self.replicas = 1
        """The known number of replicas of the service."""
        self.shared = False
        """Whether usage is reported to the other replicas. Otherwise each replica has an equal part of every rate."""
        for limit in self._limits.values():
            self._watch(limit)

    def add(self, limit: Limit) -> None:
        """Add a limit of the service's own. Call it before the server starts."""
        self._limits[limit.name] = limit
        self._watch(limit)

    def set_default(self, name: str, default: int) -> None:
        """Set the default limit of tenants for which operators set none."""
        self._limits[name] = replace(self._limits[name], default=default)

    @property
    def limits(self) -> Mapping[str, Limit]:
        """By name."""
        return self._limits

    @property
    def chosen(self) -> Mapping[str, Mapping[str, int]]:
        """Limits that operators set, by tenant and name."""
        return self._chosen

    def choose(self, chosen: dict[str, dict[str, int]]) -> None:
        """Replace the limits that operators set."""
        self._chosen = chosen

    def allowed(self, org_id: str, name: str) -> int:
        """The tenant's limit."""
        mine = self._chosen.get(org_id)
        chosen = mine.get(name) if mine is not None else None
        return self._limits[name].default if chosen is None else chosen

    def take(self, org_id: str, name: str, count: float = 1, *, kept: float = 0.0) -> None:
        """Counts `count` of a rate. `kept`: the part of the bucket that must remain. Raises RATE_LIMITED."""
        wait = self.try_take(org_id, name, count, kept=kept)
        if wait:
            allowed = self.allowed(org_id, name)
            raise self._refusal(org_id, name, f"it may use {allowed} {name.replace('_', ' ')}", wait)

    def try_take(self, org_id: str, name: str, count: float = 1, *, kept: float = 0.0) -> float:
        """The same without an error: 0, or the seconds until it may be tried again."""
        if org_id == ALL_ORGS:
            return 0.0
        limit, now = self._limits[name], self._clock()
        allowed = limit.default if not self._chosen else self.allowed(org_id, name)
        rate, burst = limit.rate(allowed), limit.burst(allowed)
        if not self.shared:
            rate, burst = rate / self.replicas, burst / self.replicas
        usage = self._usage(org_id, name, burst, now)
        bucket = usage.bucket
        reserve = kept * burst
        if reserve and bucket.fill(rate, burst, now) < reserve:
            return (reserve - bucket.tokens) / rate
        wait = bucket.take(count, rate, burst, now)
        if not wait:
            usage.unreported += count
            if not self.shared:
                usage.part = burst
        if wait or usage.unreported >= _NOTICEABLE * burst or bucket.tokens < burst / 2:
            self._noticed[org_id, name] = usage
        return wait

    def has(self, org_id: str, name: str, count: float) -> bool:
        """Whether `count` of a rate could be taken one by one at this moment. Takes none."""
        if org_id == ALL_ORGS:
            return True
        limit, allowed, now = self._limits[name], self.allowed(org_id, name), self._clock()
        part = 1 if self.shared else self.replicas
        rate, burst = limit.rate(allowed) / part, limit.burst(allowed) / part
        # The last one may be taken from a full bucket that holds less than one, as in `try_take`.
        return self._usage(org_id, name, burst, now).bucket.has(count - 1 + min(1.0, burst), rate, burst, now)

    def note(self, org_id: str, name: str, count: float = 1) -> None:
        """Counts `count` of a rate without refusing it; the debt of the bucket is at most its size."""
        limit, allowed, now = self._limits[name], self.allowed(org_id, name), self._clock()
        burst = limit.burst(allowed)
        usage = self._usage(org_id, name, burst, now)
        usage.bucket.tokens = max(-burst, usage.bucket.fill(limit.rate(allowed), burst, now) - count)
        usage.unreported += count
        if not self.shared:
            usage.part = burst
        self._noticed[org_id, name] = usage

    def enter_stream(self, org_id: str) -> None:
        """One more stream is open. Raises RATE_LIMITED.

        Each replica allows an equal part of the tenant's streams: the client decides which replica a stream uses.
        """
        tenant, allowed = self._tenant(org_id), self.allowed(org_id, STREAMS)
        if org_id != ALL_ORGS and tenant.streams >= max(1, allowed // self.replicas):
            raise self._refusal(org_id, STREAMS, f"it may have {allowed} streams open", _STREAMS_RETRY)
        tenant.streams += 1

    def leave_stream(self, org_id: str) -> None:
        """A stream has ended."""
        self._tenant(org_id).streams -= 1

    def require_rows(self, org_id: str) -> None:
        """Raises RATE_LIMITED while the tenant has more waiting outbox rows than its limit."""
        if not self.has_room_for_rows(org_id):
            allowed = self.allowed(org_id, OUTBOX_ROWS)
            raise self._refusal(org_id, OUTBOX_ROWS, f"{allowed} of its messages to the next service wait", _ROWS_RETRY)

    def has_room_for_rows(self, org_id: str) -> bool:
        """Whether the tenant has fewer waiting outbox rows than its limit."""
        tenant = self._tenants.get(org_id)
        return tenant is None or not tenant.rows or tenant.rows < self.allowed(org_id, OUTBOX_ROWS)

    def note_rows(self, counts: Mapping[str, int]) -> None:
        """The number of waiting outbox rows of each tenant that has a considerable number."""
        for tenant in self._tenants.values():
            tenant.rows = 0
        for org_id, rows in counts.items():
            self._tenant(org_id).rows = rows

    @property
    def has_noticed(self) -> bool:
        """Whether `noticed` has something to report."""
        return bool(self._noticed)

    def noticed(self) -> list[tuple[str, Limit, Usage]]:
        """The rates that a tenant has used noticeably, or exhausted, since the last call of this."""
        noticed, self._noticed = self._noticed, {}
        for (org_id, name), usage in noticed.items():
            if usage.part or usage.kept:
                self._settle(usage, self._limits[name], self.allowed(org_id, name))
        return [(org_id, self._limits[name], usage) for (org_id, name), usage in noticed.items()]

    def notice_again(self, unreported: Iterable[tuple[str, Limit, Usage]]) -> None:
        """What `noticed` returned could not be reported: it is returned once more, with what was used since.

        Not of a tenant that was dropped from memory, nor of one that has used nothing.
        """
        for org_id, limit, usage in unreported:
            if usage.unreported > 0 and org_id in self._tenants:
                usage.kept, usage.kept_time = usage.unreported, self._clock()
                self._noticed.setdefault((org_id, limit.name), usage)

    def _settle(self, usage: Usage, limit: Limit, allowed: float) -> None:
        """What has been refilled since is settled: only the rest is reported.

        Of usage within this replica's part of a rate, that is what its own bucket says; of what all replicas allowed and could not
        be reported, what the rate has brought since.
        """
        now, rate, part = self._clock(), limit.rate(allowed), usage.part
        if usage.kept:
            usage.unreported -= min(usage.kept, rate * (now - usage.kept_time))
            usage.kept = 0.0
        if part:
            filled = usage.bucket.fill(rate * part / limit.burst(allowed), part, now)
            usage.unreported = min(usage.unreported, max(0.0, part - filled))
            if self.shared:
                usage.part = 0.0

    def now(self) -> float:
        """The clock that buckets are filled by, in seconds."""
        return self._clock()

    def known(self) -> list[str]:
        """The tenants with recent calls."""
        return sorted(org_id for org_id in self._tenants if org_id != ALL_ORGS)

    def used(self, org_id: str, name: str) -> float:
        """The used part of a limit, 0 to 1; 0 for objects: they are counted only when one is made."""
        tenant, limit, allowed = self._tenants.get(org_id), self._limits[name], self.allowed(org_id, name)
        if tenant is None:
            return 0.0
        if name == STREAMS:
            return min(1.0, tenant.streams / max(1, allowed // self.replicas))
        if name == OUTBOX_ROWS:
            return min(1.0, tenant.rows / allowed)
        usage = tenant.usages.get(name)
        if usage is None or not limit.seconds:
            return 0.0
        part = 1 if self.shared else self.replicas
        rate, burst = limit.rate(allowed) / part, limit.burst(allowed) / part
        return min(1.0, max(0.0, 1 - usage.bucket.fill(rate, burst, self._clock()) / burst))

    def refused(self, org_id: str, name: str) -> int:
        """How often a limit refused something."""
        tenant = self._tenants.get(org_id)
        return tenant.refused.get(name, 0) if tenant is not None else 0

    def note_refusal(self, org_id: str, name: str) -> None:
        """Note that another part of the process found a limit reached."""
        refused = self._tenant(org_id).refused
        refused[name] = refused.get(name, 0) + 1
        self._total.labels(name).inc()

    def _refusal(self, org_id: str, name: str, why: str, wait: float) -> TocsinError:
        self.note_refusal(org_id, name)
        return TocsinError(
            ErrorReason.ERROR_REASON_RATE_LIMITED,
            f"the tenant has used up a limit: {why}; come again later, or ask the operator for a higher limit",
            metadata={"limit": name, "allowed": str(self.allowed(org_id, name))},
            retry_after=wait,
        )

    def _usage(self, org_id: str, name: str, burst: float, now: float) -> Usage:
        usages = self._tenant(org_id).usages
        usage = usages.get(name)
        if usage is None:
            usage = usages[name] = Usage(Bucket(burst, now))
        return usage

    def _tenant(self, org_id: str) -> _Tenant:
        tenant = self._tenants.get(org_id)
        if tenant is None:
            if len(self._tenants) >= self._size:
                self._forget_one()
            tenant = self._tenants[org_id] = _Tenant()
        else:
            self._tenants.move_to_end(org_id)
        return tenant

    def _forget_one(self) -> None:
        """The tenant without a call for longest most likely has full buckets; never one with open streams."""
        for org_id, tenant in self._tenants.items():
            if not tenant.streams:
                del self._tenants[org_id]
                return

    def _watch(self, limit: Limit) -> None:
        self._most_used.labels(limit.name).set_function(
            # Among the last callers only: tenants with much usage are among them, and the event loop must not wait for ten
            # thousand.
            lambda: max(
                (
                    self.used(org_id, limit.name)
                    for org_id in islice(reversed(self._tenants), _WATCHED)
                    if org_id != ALL_ORGS
                ),
                default=0.0,
            )
        )
