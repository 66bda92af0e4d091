"""Exchange of usage between the replicas of a service, through Redis.

For each rate that a tenant uses noticeably Redis holds one bucket. A few times a second every replica subtracts from it what it
has allowed, and continues with the rest. Without Redis, each replica has an equal part of every rate, by the last known number of
replicas.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Sequence
from typing import Any, Final, Protocol

from tocsin_kit.budgets.budgets import Budgets, Usage
from tocsin_kit.budgets.limits import Limit
from tocsin_kit.logging import get_logger
from tocsin_kit.loops import Waiter

_log = get_logger(__name__)

EVERY: Final = 0.25
_QUIET: Final = 4
"""Rounds that are skipped while no rate is used: then replicas only show that they exist."""
_MOST: Final = 500
_GONE_SECONDS: Final = 5
"""A replica without a report for this long is not counted any more."""

# The clock is that of Redis. When it was set back, stored times are in the future: a bucket continues from now, and a replica
# counts once it has reported. The debt of a bucket is at most its size: the replicas together can allow that much in one moment.
# A value that another program wrote to a key is replaced. A script that stopped there would already have counted the earlier
# keys, and again with each repetition: a tenant within its rates would be refused.
SCRIPT: Final = (
    """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local left = {}
if redis.call('TYPE', KEYS[1]).ok ~= 'zset' then redis.call('DEL', KEYS[1]) end
for i = 2, #KEYS do
  local rate, burst, spent = tonumber(ARGV[3 * i - 4]), tonumber(ARGV[3 * i - 3]), tonumber(ARGV[3 * i - 2])
  local tokens, since = burst, now
  local held = redis.pcall('GET', KEYS[i])
  local kept, at = string.match(type(held) == 'string' and held or '', '^(%-?[%d.]+):([%d.]+)$')
  if tonumber(kept) and tonumber(at) then tokens, since = tonumber(kept), tonumber(at) end
  tokens = math.max(math.min(burst, tokens + math.max(0, now - since) * rate) - spent, -burst)
  redis.call('SET', KEYS[i], string.format('%.6f:%.6f', tokens, now), 'PX', math.ceil((burst - tokens) / rate * 1000) + 1000)
  left[#left + 1] = string.format('%.6f', tokens)
end
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - """
    + str(_GONE_SECONDS)
    + """)
redis.call('ZREMRANGEBYSCORE', KEYS[1], now + 1, '+inf')
redis.call('EXPIRE', KEYS[1], 60)
left[#left + 1] = tostring(redis.call('ZCARD', KEYS[1]))
return left
"""
)


class Redis(Protocol):
    """The one command that is used. Raises subclasses of `errors` (see `Shares`) when Redis is away."""

    def execute_command(self, *args: Any) -> Awaitable[Any]:
        """Sends a command and returns its answer."""
        ...


class Shares:
    """Keeps `budgets` of one replica of `service` equal with the others. `errors`: what the client raises."""

    def __init__(
        self,
        budgets: Budgets,
        redis: Redis,
        service: str,
        errors: tuple[type[Exception], ...],
        *,
        every: float = EVERY,
        replica: str = "",
    ) -> None:
        self._budgets = budgets
        self._redis = redis
        # One hash tag: a script may only use keys of one slot of a cluster.
        self._prefix = f"{{tocsin-budgets:{service}}}"
        self._errors = errors
        self._every = every
        self._replica = replica or uuid.uuid4().hex
        self._passed = _QUIET

    async def run(self, stop: asyncio.Event) -> None:
        """Until stopped."""
        with Waiter(stop) as waiter:
            while not await waiter.wait(self._every):
                await self.look()

    async def look(self) -> None:
        """`exchange`, if there is usage to report or this replica has not reported for a while."""
        self._passed += 1
        if self._budgets.has_noticed or self._passed >= _QUIET:
            self._passed = 0
            await self.exchange()

    async def exchange(self) -> None:
        """Once: report the usage of this replica, read the remaining tokens."""
        noticed = self._budgets.noticed()
        reported = 0
        try:
            for start in range(0, max(1, len(noticed)), _MOST):
                await self._send(noticed[start : start + _MOST])
                reported = start + _MOST
        except self._errors as error:
            # A tenant that stays quiet from now on is not noticed by its next call: the others would never hear of its usage.
            self._budgets.notice_again(noticed[reported:])
            if self._budgets.shared:
                _log.warning("budgets_apart", error=repr(error)[:200], replicas=self._budgets.replicas)
            self._budgets.shared = False
            return
        self._budgets.shared = True

    async def _send(self, noticed: Sequence[tuple[str, Limit, Usage]]) -> None:
        keys, numbers = [f"{self._prefix}replicas"], list[float]()
        for org_id, limit, usage in noticed:
            allowed = self._budgets.allowed(org_id, limit.name)
            keys.append(f"{self._prefix}{limit.name}:{org_id}")
            numbers += (limit.rate(allowed), limit.burst(allowed), usage.unreported)
        spent = [usage.unreported for *_, usage in noticed]
        *left, replicas = await self._redis.execute_command("EVAL", SCRIPT, len(keys), *keys, self._replica, *numbers)
        self._budgets.replicas = max(1, int(replicas))
        for (*_, usage), mine, tokens in zip(noticed, spent, left, strict=True):
            # Usage that was allowed during the call to Redis is not reported yet.
            usage.unreported -= mine
            usage.bucket.tokens = float(tokens) - usage.unreported
            usage.bucket.time = self._budgets.now()
