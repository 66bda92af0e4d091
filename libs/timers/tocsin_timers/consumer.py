"""All that one consuming process does with Redis: promote, read, take over, renew leases, settle and give back."""

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final, Protocol

from redis.exceptions import RedisError, ResponseError

from tocsin_timers.backoff import Backoff
from tocsin_timers.batching import Batcher
from tocsin_timers.delivery import Delivery, Outcome
from tocsin_timers.loops import cancel, forever
from tocsin_timers.metrics import TimerMetrics
from tocsin_timers.promoter import Promoter
from tocsin_timers.shard import Shard
from tocsin_timers.start_warnings import warn_of_lossy_settings

logger = logging.getLogger(__name__)

TIDY_SECONDS: Final = 600.0
"""How long a consumer without entries may be silent before Redis removes it, and how often that is checked."""

_Place = tuple[int, str]
_Key = tuple[int, str, bytes]


class Queue(Protocol):
    """The queue that is consumed (`TimerBroker`)."""

    queue: str
    priorities: tuple[str, ...]
    shards: list[Shard]
    lease: float
    block: float
    max_deliveries: int
    metrics: TimerMetrics


class Consumer:
    """Delivers entries to `accept` while there is `room`. The owner decides when they run and how they end."""

    def __init__(
        self,
        queue: Queue,
        room: Callable[[str], int],
        accept: Callable[[Delivery], None],
        *,
        resumed: Callable[[], None] = lambda: None,
        rate_limit: float | None = None,
        longest_hold: float | None = None,
    ) -> None:
        """`room(priority)`: how many more entries of that priority may be read now; call `room_changed()` when it grew.
        `resumed()` is called when a pause is over.

        `rate_limit`: entries per second over all workers of the queue. With several priorities the first one is not delayed by
        it, but it counts: the others then wait longer. `longest_hold`: seconds after which the lease of a running entry is not
        renewed any more; None: always renewed.
        """
        self.name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._queue = queue
        self._room = room
        self._accept = accept
        self._resumed = resumed
        self._rate = rate_limit / len(queue.shards) if rate_limit else None
        self._longest_hold = longest_hold
        self._promoters = [Promoter(shard, queue.metrics, self._looked_at(shard.number)) for shard in queue.shards]
        self._settlers = [Batcher(self._settle_each(shard)) for shard in queue.shards]
        self._held: dict[_Key, Delivery] = {}
        # No longer held, and Redis has not answered yet: its replies may still list them as ours.
        self._leaving: set[_Key] = set()
        # Shards whose entries were given back: they are read again as soon as there is room.
        self._gave_back: set[int] = set()
        self._paused: set[int] = set()
        # Shards whose pause is not known yet: a worker that starts during a pause must not take anything before it has checked.
        self._unseen = {shard.number for shard in queue.shards}
        self._last_wake = ["0-0"] * len(queue.shards)
        self._tend_now = [asyncio.Event() for _ in queue.shards]
        self._may_read: dict[_Place, asyncio.Event] = {
            (shard.number, priority): asyncio.Event() for shard in queue.shards for priority in queue.priorities
        }
        # Replies may have been lost: entries that Redis holds for us and that we do not know must be read again.
        self._uncertain: set[_Place] = set()
        self._settlings: list[set[_Key]] = []
        self._permits: dict[_Place, int] = {}
        self._reclaim_after = 0.0
        self._tidied = time.monotonic()
        self._readers: list[asyncio.Task[None]] = []
        self._keepers: list[asyncio.Task[None]] = []

    # Life

    def start(self) -> None:
        """Begin to promote, to read and to keep leases. Redis need not be there."""
        for shard, promoter in zip(self._queue.shards, self._promoters, strict=True):
            name = f"{self._queue.queue}[{shard.number}]"
            self._keep(f"{name} promoter", promoter.promote)
            self._keep(f"{name} wake-ups", partial(self._listen, shard), partial(self._deaf, shard))
            self._keep(f"{name} leases", partial(self._tend, shard), self._hold_back_reclaims)
            for priority in self._queue.priorities:
                doubt = partial(self._uncertain.add, (shard.number, priority))
                loop = forever(f"{name} {priority} reader", partial(self._read, shard, priority), doubt)
                self._readers.append(asyncio.create_task(loop))
        self._keepers.append(asyncio.create_task(warn_of_lossy_settings(self._queue.shards)))

    async def stop_reading(self) -> None:
        """Take nothing more; promoting and the renewal of running entries' leases continue."""
        await cancel(*self._readers)
        self._readers.clear()

    async def stop(self, *, give_back: bool = True) -> None:
        """End everything and give back, within two seconds if Redis answers, what was not settled."""
        await self.stop_reading()
        await cancel(*self._keepers)
        self._keepers.clear()
        if not give_back:
            return
        for shard in self._queue.shards:
            for priority in self._queue.priorities:
                try:
                    async with asyncio.timeout(2.0):
                        await shard.release(priority, self.name)
                except (RedisError, OSError) as error:
                    if isinstance(error, ResponseError) and "NOGROUP" in str(error):
                        continue  # flushed, or never made: there is nothing to give back
                    logger.warning("%s: gave nothing back (its lease will end): %r", self._queue.queue, error)
                    return

    # For the owner

    def room_changed(self) -> None:
        """The owner may have room for more: look again."""
        for event in self._may_read.values():
            event.set()
        for shard in self._gave_back:
            self._tend_now[shard].set()

    @property
    def paused(self) -> bool:
        """Whether this worker knows that the queue is paused: then nothing is to be started."""
        return bool(self._paused)

    def fresh(self, delivery: Delivery) -> bool:
        """Whether no other worker can have taken it over meanwhile. An entry that may have been taken over is dropped here and,
        if it is still ours, delivered again: a process that was stopped for a minute must not start tasks that others have run
        since."""
        if self._held.get(_key(delivery)) is not delivery:
            return False  # given back
        if time.monotonic() - delivery.since < self._queue.lease * 0.75:
            return True
        self.forget(delivery)
        self._uncertain.add((delivery.shard, delivery.priority))
        return False

    def forget(self, delivery: Delivery) -> None:
        """Its lease is not renewed any more."""
        if self._held.get(_key(delivery)) is delivery:
            del self._held[_key(delivery)]

    def lateness(self, delivery: Delivery) -> float | None:
        """Seconds since it was due, by Redis' clock; None for what was sent without a delay."""
        now = self._promoters[delivery.shard].redis_now_us()
        return None if delivery.due_us is None or now is None else max(0.0, (now - delivery.due_us) / 1_000_000)

    async def settle(self, delivery: Delivery) -> None:
        """End a delivery as its `outcome` says. It repeats during outages: a finished task must not be run again by others.

        Gives up after ten leases, when others have long taken it over.
        """
        backoff = Backoff(cap=0.25)
        deadline = time.monotonic() + 10 * self._queue.lease
        while True:
            try:
                await self._settlers[delivery.shard].submit(delivery)
                break
            except (RedisError, OSError) as error:
                if time.monotonic() > deadline:
                    logger.error("%s: could not settle %s: %r", self._queue.queue, delivery.entry.decode(), error)
                    break
                await backoff.wait()
        for settled in self._settlings:
            settled.add(_key(delivery))
        self.forget(delivery)

    # Loops

    def _keep(self, name: str, step: Callable[[], Awaitable[None]], failed: Callable[[], None] | None = None) -> None:
        self._keepers.append(asyncio.create_task(forever(name, step, failed)))

    async def _read(self, shard: Shard, priority: str) -> None:
        place = (shard.number, priority)
        event = self._may_read[place]
        while self._rests(shard.number) or (room := self._room(priority)) <= 0:
            event.clear()
            await event.wait()
        try:
            with self._settled_meanwhile() as settled:
                if place in self._uncertain:
                    self._uncertain.discard(place)
                    found = await shard.read_own(priority, self.name)
                else:
                    count = await self._allowed(shard, priority, room)
                    found = await shard.read(priority, self.name, count, self._queue.block)
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            await shard.make_groups()
            return
        found = self._unknown(found, settled)
        await self._count_against_rate(shard, priority, len(found))
        await self._take(shard, priority, found)

    @contextmanager
    def _settled_meanwhile(self) -> Iterator[set[_Key]]:
        """Entries that are settled while a reply is awaited. The reply may still list them: it comes over another connection and
        may be older than the settling.
        """
        settled: set[_Key] = set()
        self._settlings.append(settled)
        try:
            yield settled
        finally:
            self._settlings = [each for each in self._settlings if each is not settled]

    def _unknown(self, found: list[Delivery], settled: set[_Key]) -> list[Delivery]:
        """Entries that this worker neither holds nor has just ended or given back."""
        gone = self._leaving | settled
        return [each for each in found if (key := _key(each)) not in self._held and key not in gone]

    async def _take(self, shard: Shard, priority: str, found: list[Delivery]) -> None:
        if found and self._rests(shard.number):
            await shard.release(priority, self.name, [delivery.entry for delivery in found])
            return
        for delivery in found:
            self._held[_key(delivery)] = delivery
            if delivery.data is None:
                delivery.outcome = Outcome("bury", ("", "an entry without a message in it", delivery.timer))
                await self.settle(delivery)
            else:
                self._accept(delivery)

    async def _tend(self, shard: Shard) -> None:
        event = self._tend_now[shard.number]
        event.clear()
        await self._renew(shard)
        await self._give_back(shard)
        if time.monotonic() >= self._reclaim_after and not self._rests(shard.number):
            for priority in self._queue.priorities:
                room = self._room(priority)
                if room > 0:
                    self._gave_back.discard(shard.number)
                    await self._reclaim(shard, priority, room)
        if time.monotonic() - self._tidied > TIDY_SECONDS:
            self._tidied = time.monotonic()
            await shard.tidy(TIDY_SECONDS)
        try:
            async with asyncio.timeout(min(1.0, self._queue.lease / 4)):
                await event.wait()
        except TimeoutError:
            return

    async def _renew(self, shard: Shard) -> None:
        now = time.monotonic()
        due: dict[str, list[Delivery]] = {}
        for delivery in self._held.values():
            if delivery.shard != shard.number or not delivery.running:
                continue
            if self._longest_hold is not None and now - delivery.since > self._longest_hold:
                continue
            if now - max(delivery.since, delivery.renewed) > self._queue.lease / 3:
                due.setdefault(delivery.priority, []).append(delivery)
        for priority, deliveries in due.items():
            ours = await shard.renew(priority, self.name, [delivery.entry for delivery in deliveries])
            for delivery, still in zip(deliveries, ours, strict=True):
                delivery.renewed = now
                if not still:
                    logger.warning(
                        "%s: %s was taken over while it runs here", self._queue.queue, delivery.entry.decode()
                    )

    async def _give_back(self, shard: Shard) -> None:
        """Messages that were read and have not begun for half a lease are given back, for any consumer with free capacity. If
        they were left until their lease ends, each time would count as a delivery, and in the end they would be dead letters, as
        if they had killed their workers, though none began them."""
        old = time.monotonic() - self._queue.lease / 2
        waiting = [
            each for each in self._held.values() if each.shard == shard.number and not each.running and each.since < old
        ]
        for priority in {each.priority for each in waiting}:
            leaving = [each for each in waiting if each.priority == priority]
            keys = set(map(_key, leaving))
            for delivery in leaving:
                self.forget(delivery)
            self._leaving |= keys
            try:
                await shard.release(priority, self.name, [each.entry for each in leaving])
            finally:
                self._leaving -= keys
                for settled in self._settlings:
                    settled |= keys
            self._gave_back.add(shard.number)

    async def _reclaim(self, shard: Shard, priority: str, room: int) -> None:
        try:
            with self._settled_meanwhile() as settled:
                found, buried = await shard.reclaim(
                    priority, self.name, self._queue.lease, room, self._queue.max_deliveries
                )
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            await shard.make_groups()
            return
        self._queue.metrics.dead.inc(buried)
        found = self._unknown(found, settled)
        self._queue.metrics.reclaimed.inc(len(found))
        await self._take(shard, priority, found)

    async def _listen(self, shard: Shard) -> None:
        woken = await shard.wait_for_wake(self._last_wake[shard.number], self._queue.block)
        if woken is not None:
            self._last_wake[shard.number] = woken
            self._promoters[shard.number].wake()
            self._tend_now[shard.number].set()

    def _deaf(self, shard: Shard) -> None:
        # The server that answers next may have a slower clock, and so lower ids.
        self._last_wake[shard.number] = "0-0"

    def _hold_back_reclaims(self) -> None:
        # After an outage every lease has run out: living workers settle and renew first, before any worker counts as dead.
        self._reclaim_after = time.monotonic() + min(2.0, self._queue.lease)

    def _looked_at(self, shard: int) -> Callable[[bool], None]:
        def looked(paused: bool) -> None:
            rested = self._rests(shard)
            self._unseen.discard(shard)
            if paused:
                self._paused.add(shard)
            elif rested:
                self._paused.discard(shard)
                self.room_changed()
                self._resumed()

        return looked

    def _rests(self, shard: int) -> bool:
        """Whether nothing may be taken from it: it is paused, or has not been asked yet."""
        return shard in self._paused or shard in self._unseen

    def _settle_each(self, shard: Shard) -> Callable[[list[Delivery]], Awaitable[list[bool]]]:
        async def settle(deliveries: list[Delivery]) -> list[bool]:
            await shard.settle(deliveries)
            return [True] * len(deliveries)

        return settle

    # The rate limit

    def _urgent(self, priority: str) -> bool:
        return len(self._queue.priorities) > 1 and priority == self._queue.priorities[0]

    async def _allowed(self, shard: Shard, priority: str, room: int) -> int:
        if self._rate is None or self._urgent(priority):
            return room
        place = (shard.number, priority)
        while not self._permits.get(place):
            size = max(1.0, self._rate / 10)
            granted, wait = await shard.permits(self._rate, size, min(room, int(size)), urgent=False)
            self._permits[place] = granted
            if not granted:
                await asyncio.sleep(wait)
        return min(room, self._permits[place])

    async def _count_against_rate(self, shard: Shard, priority: str, number: int) -> None:
        if self._rate is None or not number:
            return
        if self._urgent(priority):
            await shard.permits(self._rate, max(1.0, self._rate / 10), number, urgent=True)
        else:
            place = (shard.number, priority)
            self._permits[place] = max(0, self._permits.get(place, 0) - number)


def _key(delivery: Delivery) -> _Key:
    return delivery.shard, delivery.priority, delivery.entry
