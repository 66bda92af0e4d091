"""Values from the database that may be a little old, and never older than a limit."""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from tocsin_kit.bounded import Bounded
from tocsin_kit.logging import get_logger

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")

_log = get_logger(__name__)

_RETRY_SECONDS: Final = 1.0


@dataclass(slots=True)
class _Entry(Generic[_V]):
    value: _V
    soft: float
    hard: float


class FreshCache(Generic[_K, _V]):
    """Answers from memory for at most `ttl` seconds after the value was read.

    Many callers of one key share one read. After `renew_after` seconds (half of `ttl` unless given) a use renews the value in
    the background, so that callers of a busy key never wait; when that fails, a later use tries again. The oldest
    entry leaves when there are more than `size`.
    """

    def __init__(
        self, load: Callable[[_K], Awaitable[_V]], *, ttl: float, size: int, renew_after: float | None = None
    ) -> None:
        self._load = load
        self._ttl = ttl
        self._renew_after = ttl / 2 if renew_after is None else renew_after
        self._entries: Bounded[_K, _Entry[_V]] = Bounded(size)
        self._loading: dict[_K, asyncio.Task[_V]] = {}

    def fresh(self, key: _K) -> _V | None:
        """The value, if it is known and needs no renewal; otherwise call `get`. Costs a third of that."""
        entry = self._entries.get(key)
        return entry.value if entry is not None and asyncio.get_running_loop().time() < entry.soft else None

    async def get(self, key: _K) -> _V:
        """The value. Raises what `load` raises; errors are not remembered."""
        entry = self._entries.get(key)
        if entry is not None:
            now = asyncio.get_running_loop().time()
            if now < entry.soft:
                return entry.value
            if now < entry.hard:
                self._begin(key)
                return entry.value
        # Shielded: when one caller leaves, the read goes on for the others.
        return await asyncio.shield(self._begin(key))

    def forget(self, key: _K) -> None:
        """The value changed: the next use reads it again."""
        self._entries.pop(key, None)
        self._loading.pop(key, None)

    def forget_all(self, changed: Callable[[_K], bool]) -> None:
        """The values of the keys for which `changed` is true changed. Examines all keys: for rare changes."""
        for key in [key for key in (*self._entries, *self._loading) if changed(key)]:
            self.forget(key)

    def _begin(self, key: _K) -> "asyncio.Task[_V]":
        task = self._loading.get(key)
        if task is None:
            # A context of its own: the value is read for all callers, not for the one that arrived first.
            task = asyncio.get_running_loop().create_task(self._read(key), context=contextvars.Context())
            self._loading[key] = task
            task.add_done_callback(lambda done: self._end(key, done))
        return task

    async def _read(self, key: _K) -> _V:
        # Counted from before the read: the value may change while it is being sent.
        begin = asyncio.get_running_loop().time()
        value = await self._load(key)
        if self._loading.get(key) is asyncio.current_task():
            self._entries[key] = _Entry(value, begin + self._renew_after, begin + self._ttl)
        return value

    def _end(self, key: _K, task: "asyncio.Task[_V]") -> None:
        if self._loading.get(key) is task:
            del self._loading[key]
        if not task.cancelled() and (error := task.exception()) is not None:
            # A waiting caller gets the error itself; a renewal in the background has no caller to tell.
            _log.debug("cache_read_failed", error=repr(error))
            if (entry := self._entries.get(key)) is not None:
                entry.soft = min(entry.hard, asyncio.get_running_loop().time() + _RETRY_SECONDS)
