"""Counts what tenants use in one replica, and refuses what is more than they may.

No call waits for Redis: a replica counts by itself and tells the others a few times a second (`shares`). Together the
replicas may so let pass a little more at once than is allowed, which is then missing from what comes next.
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
"""Of what may be used at once; below it the other replicas are told nothing, so that quiet tenants cost nothing."""
_ROWS_RETRY: Final = 5.0
_STREAMS_RETRY: Final = 1.0


class Usage:
    """What one tenant has used of one rate in this replica."""

    __slots__ = ("apart", "bucket", "unreported")

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.unreported = 0.0
        """Taken since the other replicas were told."""
        self.apart = False
        """Some of that was taken while no other replica could be told."""


class _Tenant:
    __slots__ = ("refused", "rows", "streams", "usages")

    def __init__(self) -> None:
        self.usages: dict[str, Usage] = {}
        self.refused: dict[str, int] = {}
        self.streams = 0
        self.rows = 0


class Budgets:
    """The limits of a service and who has used how much of them.

    Tocsin's own services and operators (tenant `*`) have none.
    """

    def __init__(
        self,
        limits: Iterable[Limit],
        metrics: Metrics,
        *,
        clock: Callable[[], float] = time.monotonic,
        size: int = _TENANTS,
    ) -> None:
        """`size`: tenants that are remembered; who was not heard of for longest is forgotten."""
        self._limits = {limit.name: limit for limit in limits}
        self._clock = clock
        self._size = size
        self._tenants: OrderedDict[str, _Tenant] = OrderedDict()
        self._chosen: dict[str, dict[str, int]] = {}
        self._noticed: dict[tuple[str, str], Usage] = {}
        self._total = metrics.tenant_refused
        self._most_used = metrics.tenant_most_used
        self.replicas = 1
        """How many replicas of the service there are, as far as is known."""
        self.shared = False
        """Whether the other replicas are told what is used here. Otherwise each has its part of every rate."""
        for limit in self._limits.values():
            self._watch(limit)

    def add(self, limit: Limit) -> None:
        """One more limit, of a service's own. Call it before the server starts."""
        self._limits[limit.name] = limit
        self._watch(limit)

    def set_default(self, name: str, default: int) -> None:
        """What tenants may use from now on for whom operators chose nothing else."""
        self._limits[name] = replace(self._limits[name], default=default)

    @property
    def limits(self) -> Mapping[str, Limit]:
        """By name."""
        return self._limits

    @property
    def chosen(self) -> Mapping[str, Mapping[str, int]]:
        """What operators chose, by tenant and name."""
        return self._chosen

    def choose(self, chosen: dict[str, dict[str, int]]) -> None:
        """What operators chose, in place of what was known."""
        self._chosen = chosen

    def allowed(self, org_id: str, name: str) -> int:
        """How much the tenant may use."""
        mine = self._chosen.get(org_id)
        chosen = mine.get(name) if mine is not None else None
        return self._limits[name].default if chosen is None else chosen

    def take(self, org_id: str, name: str, count: float = 1, *, kept: float = 0.0) -> None:
        """Counts `count` of a rate. `kept`: the part of the bucket that must be left. Raises RATE_LIMITED."""
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
                usage.apart = True
        if wait or usage.unreported >= _NOTICEABLE * burst or bucket.tokens < burst / 2:
            self._noticed[org_id, name] = usage
        return wait

    def has(self, org_id: str, name: str, count: float) -> bool:
        """Whether as much as `count` of a rate could be taken one by one at this moment. Takes nothing."""
        if org_id == ALL_ORGS:
            return True
        limit, allowed, now = self._limits[name], self.allowed(org_id, name), self._clock()
        part = 1 if self.shared else self.replicas
        rate, burst = limit.rate(allowed) / part, limit.burst(allowed) / part
        # The last one is taken from a full bucket that holds less, as `try_take` does.
        return self._usage(org_id, name, burst, now).bucket.has(count - 1 + min(1.0, burst), rate, burst, now)

    def note(self, org_id: str, name: str, count: float = 1) -> None:
        """Counts `count` of a rate without refusing it; the bucket may be in debt as deep as it is high."""
        limit, allowed, now = self._limits[name], self.allowed(org_id, name), self._clock()
        burst = limit.burst(allowed)
        usage = self._usage(org_id, name, burst, now)
        usage.bucket.tokens = max(-burst, usage.bucket.fill(limit.rate(allowed), burst, now) - count)
        usage.unreported += count
        usage.apart |= not self.shared
        self._noticed[org_id, name] = usage

    def enter_stream(self, org_id: str) -> None:
        """One stream more is open. Raises RATE_LIMITED.

        Of the streams a tenant may have each replica lets pass its part: which replica a stream is on, the client decides.
        """
        tenant, allowed = self._tenant(org_id), self.allowed(org_id, STREAMS)
        if org_id != ALL_ORGS and tenant.streams >= max(1, allowed // self.replicas):
            raise self._refusal(org_id, STREAMS, f"it may have {allowed} streams open", _STREAMS_RETRY)
        tenant.streams += 1

    def leave_stream(self, org_id: str) -> None:
        """A stream has ended."""
        self._tenant(org_id).streams -= 1

    def require_rows(self, org_id: str) -> None:
        """Raises RATE_LIMITED while more rows of the tenant wait in the outbox than may."""
        if not self.has_room_for_rows(org_id):
            allowed = self.allowed(org_id, OUTBOX_ROWS)
            raise self._refusal(org_id, OUTBOX_ROWS, f"{allowed} of its messages to the next service wait", _ROWS_RETRY)

    def has_room_for_rows(self, org_id: str) -> bool:
        """Whether fewer rows of the tenant wait in the outbox than may."""
        tenant = self._tenants.get(org_id)
        return tenant is None or not tenant.rows or tenant.rows < self.allowed(org_id, OUTBOX_ROWS)

    def note_rows(self, counts: Mapping[str, int]) -> None:
        """How many outbox rows of each tenant wait, of those that have any worth telling."""
        for tenant in self._tenants.values():
            tenant.rows = 0
        for org_id, rows in counts.items():
            self._tenant(org_id).rows = rows

    @property
    def has_noticed(self) -> bool:
        """Whether `noticed` has something to tell."""
        return bool(self._noticed)

    def noticed(self) -> list[tuple[str, Limit, Usage]]:
        """The rates that a tenant has used noticeably, or to an end, since this was asked before."""
        noticed, self._noticed = self._noticed, {}
        for (org_id, name), usage in noticed.items():
            if usage.apart:
                self._settle(usage, self._limits[name], self.allowed(org_id, name))
        return [(org_id, self._limits[name], usage) for (org_id, name), usage in noticed.items()]

    def _settle(self, usage: Usage, limit: Limit, allowed: float) -> None:
        """What was taken out of this replica's part of a rate, and has come in again since, is paid: only the rest is told."""
        rate, burst = limit.rate(allowed) / self.replicas, limit.burst(allowed) / self.replicas
        usage.unreported = min(usage.unreported, max(0.0, burst - usage.bucket.fill(rate, burst, self._clock())))
        usage.apart = not self.shared

    def now(self) -> float:
        """The clock that buckets are filled by, in seconds."""
        return self._clock()

    def known(self) -> list[str]:
        """The tenants that were heard of lately."""
        return sorted(org_id for org_id in self._tenants if org_id != ALL_ORGS)

    def used(self, org_id: str, name: str) -> float:
        """The part of a limit that is used up, 0 to 1; of objects 0: they are counted only when one is made."""
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
        """How often something was refused because of a limit."""
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
        """The tenant that was not heard of for longest most likely has full buckets; never one whose streams are counted."""
        for org_id, tenant in self._tenants.items():
            if not tenant.streams:
                del self._tenants[org_id]
                return

    def _watch(self, limit: Limit) -> None:
        self._most_used.labels(limit.name).set_function(
            # Of those that called last: who uses much is among them, and the event loop must not wait for ten thousand.
            lambda: max(
                (
                    self.used(org_id, limit.name)
                    for org_id in islice(reversed(self._tenants), _WATCHED)
                    if org_id != ALL_ORGS
                ),
                default=0.0,
            )
        )
