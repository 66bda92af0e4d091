"""Streams of who is on call: one round a second over all schedules that have a stream in this process.

Time alone changes who is on call, without a change of a row, so the only way to notice is to resolve the schedules. A stream's
cursor holds a digest of the last state of each schedule that was sent; schedules with another state now are sent. So a cursor is
valid at any replica.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin_kit.auth import Principal
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import not_found
from tocsin_kit.loops import Rounds, run_every
from tocsin_kit.rpc.live_streams import LiveStream, LiveStreams

from tocsin_escalation.app.people import targets
from tocsin_escalation.app.schedules import reading
from tocsin_escalation.domain.policy import Policy
from tocsin_escalation.domain.schedules.clock import minute_of
from tocsin_escalation.domain.schedules.model import Schedule
from tocsin_escalation.domain.schedules.questions import CurrentShift, standing
from tocsin_escalation.store.people import policies
from tocsin_escalation.store.schedules import schedules as store
from tocsin_escalation.store.schedules.on_call import LOOK_AHEAD, LOOK_BACK, Key

MOST: Final = 50
"""Schedules of one watcher."""
MOST_WAITING: Final = 4 * MOST
"""Schedules that may wait for a slow reader."""
_LOOK_SECONDS: Final = 1.0
_STALE_SECONDS: Final = 5.0
_DELETED: Final = b"-"

Shown = dict[str, bytes]
"""By schedule, a digest of the state that a stream was sent last."""


@dataclass(frozen=True, slots=True)
class State:
    """Who is on call in a schedule; `standing` None: it was deleted."""

    schedule: str
    standing: CurrentShift | None
    digest: bytes


@dataclass(frozen=True, slots=True)
class News:
    """The content of one message, and the digests after it."""

    states: tuple[State, ...]
    shown: Mapping[str, bytes]


@dataclass(slots=True, eq=False)
class _Watch:
    org_id: str
    named: tuple[str, ...]
    policy: str
    shown: Shown
    stream: LiveStream[News] | None = None
    begun: bool = field(default=False)

    def beat(self) -> News:
        return News((), dict(self.shown))


class OnCalls:
    """All streams of this process. `run` must be a loop of every process that serves calls."""

    def __init__(self, db: Database, streams: LiveStreams) -> None:
        self._db = db
        self._streams = streams
        self._watches: set[_Watch] = set()
        self._rounds = Rounds()
        self._looked = time.monotonic()

    async def run(self, ended: asyncio.Event) -> None:
        """The loop."""
        await run_every(_LOOK_SECONDS, self.look, ended)

    async def watch(
        self, principal: Principal, named: Sequence[str], policy: str, shown: Shown | None
    ) -> AsyncGenerator[News, None]:
        """Changes of these schedules and those of the policy, beginning with those that differ from `shown`.

        Raises SCHEDULE_NOT_FOUND, POLICY_NOT_FOUND, WATCH_TOO_SLOW, SERVICE_UNAVAILABLE when the process stops,
        DATABASE_UNAVAILABLE, and the error of a credential that ends.
        """
        await self._must_exist(principal.org_id, named, policy)
        watch = _Watch(principal.org_id, tuple(named), policy, dict(shown or {}))
        stream = watch.stream = LiveStream(principal, lambda: self._beat(watch), MOST_WAITING)
        self._streams.add(stream)
        self._watches.add(watch)
        try:
            await self.look()
            while True:
                yield await stream.next()
        finally:
            self._watches.discard(watch)
            self._streams.remove(stream)

    async def look(self) -> None:
        """One round: resolve all watched schedules, and send the changes. Raises DATABASE_UNAVAILABLE."""
        await self._rounds.after_now(self._look)

    async def _look(self) -> None:
        watches = tuple(self._watches)
        if watches:
            async with self._db.system() as tx:
                found = await policies.usable(
                    tx, {(each.org_id, each.policy) for each in watches if each.policy}, set()
                )
                ids = {each: _schedules_of(each, found) for each in watches}
                now = await tx.now()
                keys = {(each.org_id, id) for each in watches for id in ids[each]}
                begun = await reading.begin(tx, keys, now - LOOK_BACK, now + LOOK_AHEAD)
            schedules = await begun.finish(self._db, None)
            # In a thread: resolving hundreds of schedules that are not cached takes longer than other calls may wait.
            states = await asyncio.to_thread(_states, schedules, minute_of(now))
            for each in watches:
                _tell(each, ids[each], states)
        self._looked = time.monotonic()

    def _beat(self, watch: _Watch) -> News | None:
        return watch.beat() if time.monotonic() - self._looked <= _STALE_SECONDS else None

    async def _must_exist(self, org_id: str, named: Sequence[str], policy: str) -> None:
        if policy:
            await targets.policy(self._db, org_id, policy, "policy")
        if named:
            async with self._db.transaction(org_id) as tx:
                found = await store.ids(tx, "", len(named), list(named))
            for id in named:
                if id not in found:
                    raise not_found(reasons.ERROR_REASON_SCHEDULE_NOT_FOUND, f"schedules/{id}")


def _schedules_of(watch: _Watch, found: Mapping[tuple[str, str], Policy]) -> tuple[str, ...]:
    policy = found.get((watch.org_id, watch.policy)) if watch.policy else None
    return tuple(dict.fromkeys((*watch.named, *(policy.schedules()[:MOST] if policy else ()))))


def _states(schedules: Mapping[Key, Schedule], minute: int) -> dict[Key, State]:
    return {key: _state(key[1], standing(schedule, minute)) for key, schedule in schedules.items()}


def _state(id: str, found: CurrentShift) -> State:
    # The start is left out: when it is too far in the past it becomes unknown as time passes.
    now, following = found.segment, found.next
    shown = (
        (now.end, now.people, now.coverage.value, now.away, [str(source) for source in now.sources]),
        (following.start, following.end, following.people) if following else None,
    )
    return State(id, found, hashlib.blake2b(repr(shown).encode(), digest_size=8).digest())


def _tell(watch: _Watch, ids: Iterable[str], states: Mapping[Key, State]) -> None:
    """The first message is sent even without a change: it says that the stream is open."""
    now = [states.get((watch.org_id, id)) or State(id, None, _DELETED) for id in ids]
    different = tuple(state for state in now if watch.shown.get(state.schedule) != state.digest)
    if not different and watch.begun:
        return
    watch.begun = True
    watch.shown = {state.schedule: state.digest for state in now}
    assert watch.stream is not None, "it was given one before it was looked at"
    watch.stream.offer(News(different, dict(watch.shown)), max(1, len(different)))
