"""One shard of a queue: its keys, and every question this library asks Redis about them."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, Literal

from tocsin_timers import scripts
from tocsin_timers.connections import Connections
from tocsin_timers.delivery import Delivery

SLEEP_SECONDS: Final = 1.0
"""A promoter never sleeps longer: a lost wake-up, a changed clock and a pause are noticed within this time."""
HORIZON_US: Final = int(SLEEP_SECONDS * 1_500_000)
"""Arming something earlier than the head wakes the promoters only when it is due before they look by themselves."""
DELAYED_PREFIX: Final = "~"
"""Begins the ids of messages sent with the `delay` label and of retries, so that they cannot be timers' ids."""


class Look(IntEnum):
    """Whether Redis is the one that was filled last; the numbers are those of `lua/refill.lua`."""

    TAKEN = 0
    """Redis forgot, and a process is filling it."""
    KNOWN = 1
    """It is the one that was filled last, with what it held."""
    CLAIMED = 2
    """Redis forgot, and the one who asked is to fill it."""


@dataclass(frozen=True, slots=True)
class Promotion:
    """One look of a promoter. `now_us` and `head_us` are Redis' clock; no head: nothing is pending."""

    now_us: int
    head_us: int | None
    promoted: int
    orphans: list[str]
    paused: bool


class Shard:
    """The keys share one hash tag, so that scripts may touch all of them on a Cluster."""

    def __init__(
        self,
        number: int,
        tag: str,
        priorities: Sequence[str],
        group: str,
        connections: Connections,
        most_dead: int,
    ) -> None:
        self.number = number
        self._commands = connections.commands
        self._blocking = connections.blocking
        self._group = group
        self._most_dead = most_dead
        self._letters = "".join(priority[0] for priority in priorities)
        prefix = "{" + tag + "}:"
        self.streams: Mapping[str, str] = {priority: f"{prefix}stream:{priority}" for priority in priorities}
        self._stream_keys = list(self.streams.values())
        self._due = prefix + "due"
        self._data = prefix + "data"
        self._dead = prefix + "dead"
        self._wake = prefix + "wake"
        self._paused = prefix + "paused"
        self._stats = prefix + "stats"
        self._rate = prefix + "rate"
        self._check = prefix + "check"
        self._adopted = prefix + "adopted"
        self._claim_keys = (prefix + "filled", prefix + "claim")
        self._types = {
            self._due: "zset",
            **dict.fromkeys((self._data, self._stats, self._rate, self._adopted), "hash"),
            **dict.fromkeys((self._dead, self._wake, *self._stream_keys), "stream"),
            **dict.fromkeys(self._claim_keys, "string"),
        }

    # Senders

    async def arm(self, timers: Sequence[tuple[str, str, bytes]]) -> int:
        """Add or move at most a thousand (due, id, value); returns how many ids are new. Repeatable."""
        arguments: list[scripts.Argument] = [HORIZON_US]
        for timer in timers:
            arguments.extend(timer)
        return int(await scripts.ARM(self._commands, (self._due, self._data, self._wake), arguments))

    async def arm_each(self, timers: Sequence[tuple[str, str, bytes]]) -> list[bool]:
        """`arm` with an answer per timer, for callers that share a round trip."""
        await self.arm(timers)
        return [True] * len(timers)

    async def adopt(self, timers: Sequence[tuple[str, str, bytes, str]], memory: int) -> str:
        """Arm at most a thousand (due, id, value, digest) that another source held, each once; a flag of
        `lua/adopt.lua` for each. What was adopted is remembered for `memory` seconds. Repeatable."""
        arguments: list[scripts.Argument] = [HORIZON_US, memory]
        for timer in timers:
            arguments.extend(timer)
        keys = (self._due, self._data, self._wake, self._adopted)
        answer: bytes = await scripts.ADOPT(self._commands, keys, arguments)
        return answer.decode()

    async def cancel(self, ids: Sequence[str]) -> list[bool]:
        """Take away at most a thousand; for each whether it was still pending. Repeatable."""
        answer: bytes = await scripts.CANCEL(self._commands, (self._due, self._data), ids)
        return [flag == ord("1") for flag in answer]

    async def send(self, messages: Sequence[tuple[str, bytes]], most_waiting: int) -> list[bool]:
        """Append at most a thousand (priority, data); False where that stream is full. NOT repeatable."""
        arguments: list[scripts.Argument] = [self._letters, most_waiting]
        for priority, data in messages:
            arguments += (priority[0], data)
        answer: bytes = await scripts.SEND(self._commands, self._stream_keys, arguments)
        return [flag == ord("1") for flag in answer]

    # Workers

    async def promote(self, limit: int) -> Promotion:
        """Move up to `limit` timers that are due into the streams."""
        keys = (self._due, self._data, self._paused, *self._stream_keys)
        now, head, promoted, orphans, paused = await scripts.PROMOTE(self._commands, keys, (limit, self._letters))
        return Promotion(
            int(now), int(float(head)) if head else None, promoted, [id.decode() for id in orphans], bool(paused)
        )

    async def wait_for_wake(self, last: str, block: float) -> str | None:
        """Block until the workers are woken, at most `block` seconds; where to go on, None if the time passed."""
        reply = await self._blocking.xread({self._wake: last}, count=1, block=int(block * 1000))
        return _entries(reply)[-1][0].decode() if reply else None

    async def make_groups(self) -> None:
        """Make what is missing of the streams and their consumer group. Repeatable."""
        await scripts.GROUPS(self._commands, self._stream_keys, (self._group,))

    async def read(self, priority: str, consumer: str, count: int, block: float) -> list[Delivery]:
        """New entries, at most `count`, waiting at most `block` seconds for the first."""
        since = time.monotonic()
        stream = self.streams[priority]
        reply = await self._blocking.xreadgroup(
            self._group, consumer, {stream: ">"}, count=count, block=int(block * 1000)
        )
        return self._deliveries(priority, _entries(reply) if reply else [], since)

    async def read_own(self, priority: str, consumer: str) -> list[Delivery]:
        """Everything this consumer already holds: what a cut connection swallowed is among it."""
        since = time.monotonic()
        entries = await scripts.OWN(self._commands, (self.streams[priority],), (self._group, consumer))
        return self._deliveries(priority, entries, since)

    async def settle(self, outcomes: Sequence[Delivery]) -> int:
        """End at most a thousand deliveries; returns how many had not been ended before. Repeatable."""
        keys = (self._due, self._data, self._wake, self._dead, self._stats, *self._stream_keys)
        done: dict[str, list[bytes]] = {priority: [] for priority in self.streams}
        others: list[scripts.Argument] = []
        for delivery in outcomes:
            assert delivery.outcome is not None
            if delivery.outcome.verdict == "done":
                done[delivery.priority].append(delivery.entry)
            else:
                others += (delivery.outcome.verdict, delivery.priority[0], delivery.entry, *delivery.outcome.operands)
        arguments: list[scripts.Argument] = [self._letters, self._group, HORIZON_US, self._most_dead]
        for entries in done.values():
            arguments += (len(entries), *entries)
        arguments += others
        return int(await scripts.SETTLE(self._commands, keys, arguments))

    async def reclaim(
        self, priority: str, consumer: str, lease: float, limit: int, most_deliveries: int
    ) -> tuple[list[Delivery], int]:
        """Take over what others have held in silence for `lease` seconds; and how many were buried instead."""
        since = time.monotonic()
        keys = (self.streams[priority], self._dead, self._stats)
        most = (limit, most_deliveries, priority[0], self._most_dead)
        arguments = (self._group, consumer, int(lease * 1000), *most)
        claimed, buried = await scripts.RECLAIM(self._commands, keys, arguments)
        return self._deliveries(priority, claimed, since), buried

    async def renew(self, priority: str, consumer: str, entries: Sequence[bytes]) -> list[bool]:
        """Keep the leases of these entries; False for each that is not this consumer's any more."""
        answer: bytes = await scripts.RENEW(
            self._commands, (self.streams[priority],), (self._group, consumer, *entries)
        )
        return [flag == ord("1") for flag in answer]

    async def release(self, priority: str, consumer: str, entries: Sequence[bytes] | None = None) -> int:
        """Give entries back for anybody to take at once; None: all of them, and forget the consumer. How many."""
        keys = (self.streams[priority], self._wake)
        which: list[scripts.Argument] = ["all"] if entries is None else ["ids", *entries]
        return int(await scripts.RELEASE(self._commands, keys, [self._group, consumer, *which]))

    async def tidy(self, idle: float) -> int:
        """Forget consumers that hold nothing and were silent for `idle` seconds; how many."""
        tidied = 0
        for stream in self._stream_keys:
            tidied += int(await scripts.TIDY(self._commands, (stream,), (self._group, int(idle * 1000))))
        return tidied

    async def permits(self, rate: float, size: float, wanted: int, *, urgent: bool) -> tuple[int, float]:
        """Tokens granted from the bucket all workers share, and the seconds until the next when none was."""
        granted, wait = await scripts.PERMIT(self._commands, (self._rate,), (rate, size, wanted, int(urgent)))
        return granted, wait / 1_000_000

    # The owner of the timers

    async def look(self, token: str, lease: float) -> Look:
        """Whether this server is the one that was filled last; if no process fills it, `token` may, for `lease` seconds."""
        return Look(await scripts.REFILL(self._commands, self._claim_keys, ("look", token, int(lease * 1000))))

    async def keep_claim(self, token: str, lease: float) -> bool:
        """Have the claim last `lease` seconds from now; False: it is lost."""
        return bool(await scripts.REFILL(self._commands, self._claim_keys, ("keep", token, int(lease * 1000))))

    async def end_claim(self, how: Literal["done", "drop"], token: str) -> bool:
        """`done`: this server is filled. `drop`: another process may begin. False: the claim was lost, nothing changed."""
        return bool(await scripts.REFILL(self._commands, self._claim_keys, (how, token)))

    # Operators

    async def check(self) -> None:
        """Store something. Raises RedisError where that is refused or not answered, or another program wrote to a key of ours."""
        await scripts.CHECK(self._commands, (self._check, *self._types), list(self._types.values()))

    async def figures(self) -> list[int]:
        """As `TimerBroker.figures` reads them, in its order."""
        keys = (self._due, self._dead, self._stats, self._paused, *self._stream_keys)
        reply: list[int] = await scripts.FIGURES(self._commands, keys, (self._group,))
        return reply

    async def pause(self, on: bool) -> None:
        """Whether workers may start tasks of this shard."""
        await scripts.PAUSE(self._commands, (self._paused, self._wake), (int(on),))

    async def is_paused(self) -> bool:
        """Whether they may not."""
        return bool(await self._commands.exists(self._paused))

    async def dead(self, after: str, limit: int) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """Dead entries after the id `after` (empty: from the first), oldest first."""
        return _pairs(await self._commands.xrange(self._dead, f"({after}" if after else "-", "+", count=limit))

    async def dead_by_id(self, ids: Sequence[str]) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """Those of these dead entries that are still there."""
        found = []
        for id in ids:
            found += _pairs(await self._commands.xrange(self._dead, id, id))
        return found

    async def bury(self, priority: str, data: bytes, reason: str) -> None:
        """Put a message that was never in a stream among the dead letters."""
        arguments = (self._most_dead, data, reason, priority[0])
        await scripts.BURY(self._commands, (self._dead, self._stats), arguments)

    async def redrive(self, letters: Sequence[tuple[str, str, bytes]]) -> int:
        """Move (dead id, priority letter, data) back into the streams; how many were still there. Repeatable."""
        arguments: list[scripts.Argument] = [self._letters]
        for letter in letters:
            arguments += letter
        return int(await scripts.REDRIVE(self._commands, (self._dead, *self._stream_keys), arguments))

    async def discard(self, ids: Sequence[str]) -> int:
        """Delete dead entries; how many were still there."""
        return int(await self._commands.xdel(self._dead, *ids))

    async def info(self) -> dict[str, Any]:
        """What the server that holds this shard says about itself."""
        reply: bytes = await scripts.INFO(self._commands, (self._due,))
        lines = [line.partition(":") for line in reply.decode().splitlines() if ":" in line]
        return {name: value for name, _, value in lines}

    def _deliveries(self, priority: str, entries: Sequence[Any], since: float) -> list[Delivery]:
        found = []
        for entry, flat in entries:
            # None: the entry was deleted while it was pending; its fields are gone.
            fields = flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True)) if flat else {}
            timer = fields.get(b"i", b"").decode()
            due = fields.get(b"u")
            found.append(
                Delivery(
                    shard=self.number,
                    priority=priority,
                    entry=entry,
                    data=fields.get(b"d"),
                    timer="" if timer.startswith(DELAYED_PREFIX) else timer,
                    due_us=int(float(due)) if due else None,
                    since=since,
                )
            )
        return found


def _entries(reply: Any) -> list[Any]:
    """The entries of the one stream that was read."""
    return [entry for _, entries in reply for entry in entries]


def _pairs(reply: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    return list(reply or [])
