"""What the replicas of a service tell each other about rates, through Redis.

For each rate that a tenant uses noticeably Redis holds one bucket. A few times a second every replica takes out of it what
it has let pass, and goes on with what is left. Redis away: each replica has its part of every rate, by the number of
replicas that was known last.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Sequence
from typing import Any, Final, Protocol

from tocsin_kit.budgets.budgets import Budgets, Usage
from tocsin_kit.logging import get_logger
from tocsin_kit.loops import wait_or_stop

_log = get_logger(__name__)

EVERY: Final = 0.25
_QUIET: Final = 4
"""Looks that are one while no rate is used: then replicas only show that they are there."""
_MOST: Final = 500
_GONE_SECONDS: Final = 5
"""A replica that has said nothing for so long is not counted any more."""

# Redis' own clock decides. When it was set back, what was kept lies in the future: a bucket goes on from now, and a replica counts
# once it has said something. A bucket may be in debt as deep as it is high: what replicas let pass together in one moment.
# What another program wrote to a key is replaced. A script that ended there would have counted what came before it, and again with
# each repetition: a tenant that kept to its rates would be refused.
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
    """Keeps `budgets` of one replica of `service` in step with the others. `errors`: what the client raises."""

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
        # One hash tag: a script may use keys of one slot of a cluster only.
        self._prefix = f"{{tocsin-budgets:{service}}}"
        self._errors = errors
        self._every = every
        self._replica = replica or uuid.uuid4().hex
        self._passed = _QUIET

    async def run(self, stop: asyncio.Event) -> None:
        """Until stopped."""
        while not await wait_or_stop(stop, self._every):
            await self.look()

    async def look(self) -> None:
        """`exchange`, if there is something to tell or the others have not been told of this replica for a while."""
        self._passed += 1
        if self._budgets.has_noticed or self._passed >= _QUIET:
            self._passed = 0
            await self.exchange()

    async def exchange(self) -> None:
        """Once: tell what was used here, learn what is left."""
        noticed = self._noticed()
        try:
            for start in range(0, max(1, len(noticed)), _MOST):
                await self._send(noticed[start : start + _MOST])
        except self._errors as error:
            if self._budgets.shared:
                _log.warning("budgets_apart", error=repr(error)[:200], replicas=self._budgets.replicas)
            self._budgets.shared = False
            return
        self._budgets.shared = True

    def _noticed(self) -> list[tuple[str, float, float, Usage]]:
        """Key, rate, burst and usage of each."""
        found = []
        for org_id, limit, usage in self._budgets.noticed():
            allowed = self._budgets.allowed(org_id, limit.name)
            found.append((f"{self._prefix}{limit.name}:{org_id}", limit.rate(allowed), limit.burst(allowed), usage))
        return found

    async def _send(self, noticed: "Sequence[tuple[str, float, float, Usage]]") -> None:
        keys = [f"{self._prefix}replicas", *(key for key, *_ in noticed)]
        spent = [usage.unreported for *_, usage in noticed]
        numbers = [
            number for (_, rate, burst, _), mine in zip(noticed, spent, strict=True) for number in (rate, burst, mine)
        ]
        *left, replicas = await self._redis.execute_command("EVAL", SCRIPT, len(keys), *keys, self._replica, *numbers)
        self._budgets.replicas = max(1, int(replicas))
        for (*_, usage), mine, tokens in zip(noticed, spent, left, strict=True):
            # What was let pass while Redis was asked is not told of yet.
            usage.unreported -= mine
            usage.bucket.tokens = float(tokens) - usage.unreported
            usage.bucket.time = self._budgets.now()
