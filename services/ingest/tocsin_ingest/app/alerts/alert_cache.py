"""Alerts that were read before, by their bytes: alerts that a storm repeats are not validated, routed and hashed each time.

The message of an alert depends on its bytes, its sender, the routing rules and the silences, and on nothing else. So an entry is
valid as long as `Directory` returns the same `Routing`, which is at most `TTL` old. Results of the database are never cached:
each alert is decided and committed with its batch, and answered after that.

An alert that differs from an earlier one only in its words (`tocsin_ingest.app.alerts.alert_parts`) is recognised by its core:
only its words are read.

Alerts with a `request_id` are recognised only by their core: a copy of one is a repeated request, and gets the first answer.

Not cached: alerts that cost too much to match, which are counted each time; and alerts that come for the first time. Most alerts
in a burst of new ones never come again: caching each would take a tenth of ingest's processor time for it.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from tocsin.ingest.v1.alert_pb2 import AlertInput
from tocsin.ingest.v1.alert_service_pb2 import SendAlertRequest
from tocsin_kit.bounded import Bounded
from tocsin_kit.db.requests import body_hash

from tocsin_ingest.app.alerts.alert_parts import serialized_words, without_words
from tocsin_ingest.app.alerts.alert_size import LIMIT
from tocsin_ingest.app.alerts.commit_batch import Entry
from tocsin_ingest.app.alerts.route_alert import NOTHING_STATED, Stated
from tocsin_ingest.domain.expiry import Expiry
from tocsin_ingest.domain.values import value

MOST_BYTES: Final = 64 << 20
"""For the alerts of all senders together."""
_MOST_SEEN: Final = 20_000
"""Keys of alerts that have come before, of all senders together."""
_SHARE: Final = 2
"""One sender's alerts may use this part of it, so that its new ones do not push all others out."""
_OVERHEAD: Final = 1200
"""Bytes of an entry beside the alert itself: some fifteen objects."""

AlertText = tuple[str, str, str]
"""An alert as its sender wrote it: the format, what is read with it, and its own text."""
CacheKey = (
    bytes
    | AlertText
    | tuple[bytes, tuple[tuple[str, str], ...] | None, datetime | None, datetime | None, Expiry | None]
)
"""The identity by which an alert is recognised: its bytes, and what its sender stated in addition (`Stated`); or its text."""
_CORE: Final = "core"
"""Separates entries for cores from entries for whole alerts."""


def cache_key(data: bytes, stated: Stated) -> CacheKey:
    """The identity of an alert whose sender stated something in addition."""
    if stated is NOTHING_STATED:
        return data
    labels = None if stated.labels is None else tuple(stated.labels.items())
    return data, labels, stated.started, stated.ended, stated.expiry


@value
class CachedAlert:
    """An alert that was read. `integration`: the one that its request names. `mark`: of the routing it was read with."""

    entry: Entry
    integration: str
    mark: object
    size: int


@dataclass(slots=True)
class CachedCore:
    """Alerts with one core. `entry`: of the first one, which was read wholly, without its request id.

    `newest`: the entry of the last one without a request id, and the identity of its copies; None: there was none. `any_summary`:
    their summary does not influence the decision. The others as of `CachedAlert`.
    """

    entry: Entry
    integration: str
    mark: object
    size: int
    any_summary: bool
    newest: tuple[CacheKey, Entry] | None
    _content: bytes = b""

    def with_words(self, words: Any) -> Entry | None:
        """The entry of another one, with these words. None: it must be read completely, as it breaks a rule or its summary
        influences the decision."""
        data = serialized_words(words)
        if data is None:
            return None
        entry, message = self.entry, self.entry.message
        summary = words.alert.summary
        if summary != message.summary and not (self.any_summary and summary):
            return None
        if not self._content:
            self._content = without_words(message.content)
        if len(self._content) + len(data) > LIMIT:
            return None
        message = message.saying(summary, self._content + data)
        if not words.request_id:
            return Entry(entry.org_id, message, like=entry)
        alert = AlertInput.FromString(message.content)
        request = SendAlertRequest(request_id=words.request_id, integration=self.integration, alert=alert)
        return Entry(entry.org_id, message, request.request_id, body_hash(request))


class SenderCache:
    """The alerts of one sender. `get` is the whole cost of recognising one; `find_core` finds one with the same core."""

    __slots__ = ("_known", "get", "size")

    def __init__(self) -> None:
        # The oldest one of a `dict` is behind the places of all that have left.
        self._known: OrderedDict[Hashable, CachedAlert | CachedCore] = OrderedDict()
        self.get: Callable[[Hashable], Any] = self._known.get
        self.size = 0

    def find_core(self, core: CacheKey) -> CachedCore | None:
        """What is known of alerts with the core."""
        found: CachedCore | None = self.get((_CORE, core))
        return found

    def put(self, key: Hashable, known: CachedAlert | CachedCore, most: int) -> None:
        """Store, replacing the former entry; the oldest entries are dropped beyond `most` bytes."""
        before = self._known.pop(key, None)
        self.size += known.size - (before.size if before is not None else 0)
        self._known[key] = known
        while self.size > most and len(self._known) > 1:
            self.size -= self._known.popitem(last=False)[1].size


class AlertCache:
    """The caches of all senders; those not used for longest are dropped."""

    def __init__(self, most: int = MOST_BYTES) -> None:
        self._most = most
        self._senders: OrderedDict[tuple[str, str], SenderCache] = OrderedDict()
        self._seen: Bounded[UUID, None] = Bounded(_MOST_SEEN)
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes, roughly."""
        return self._size

    def of(self, org_id: str, subject: str) -> SenderCache:
        """The sender's cache."""
        cache = self._senders.get((org_id, subject))
        if cache is None:
            cache = self._senders[org_id, subject] = SenderCache()
            self._size += _OVERHEAD
            self._make_room()
        else:
            self._senders.move_to_end((org_id, subject))
        return cache

    def is_first(self, key: UUID) -> bool:
        """Whether no alert with this key (`Message.key`) has come lately. The next one is then not the first."""
        if key in self._seen:
            return False
        self._seen[key] = None
        return True

    def put(self, key: CacheKey, entry: Entry, integration: str, mark: object) -> None:
        """Remember what an alert of the entry's sender became."""
        self._put(key, CachedAlert(entry, integration, mark, _size(key)))

    def put_core(
        self,
        core: CacheKey,
        key: CacheKey,
        entry: Entry,
        integration: str,
        mark: object,
        *,
        any_summary: bool,
        newest: bool = True,
    ) -> None:
        """Remember what alerts with the core become, of which this is the first.

        `key`: what it is recognised by; `newest`: a copy of it as well.
        """
        known = CachedCore(
            entry, integration, mark, _size_of_core(core, key), any_summary, (key, entry) if newest else None
        )
        self._put((_CORE, core), known)

    def put_newest(self, core: CacheKey, known_core: CachedCore, key: CacheKey, entry: Entry) -> None:
        """Remember the newest alert with the core: of which `known_core` is known."""
        known_core.newest = (key, entry)
        size = _size_of_core(core, key)
        if size > known_core.size:
            self._put((_CORE, core), replace(known_core, size=size))

    def _put(self, key: Hashable, known: CachedAlert | CachedCore) -> None:
        cache = self.of(known.entry.org_id, known.entry.message.actor)
        before = cache.size
        cache.put(key, known, self._most // _SHARE)
        self._size += cache.size - before
        self._make_room()

    def _make_room(self) -> None:
        while self._size > self._most and len(self._senders) > 1:
            _, cache = self._senders.popitem(last=False)
            self._size -= cache.size + _OVERHEAD


def _size(key: CacheKey) -> int:
    # The alert's bytes are held twice: as what is recognised and as what is written.
    return _OVERHEAD + 2 * _length(key)


def _size_of_core(core: CacheKey, key: CacheKey) -> int:
    # The first alert is held as it is written, and the newest one as what is recognised as well.
    return _size(core) + 3 * _length(key)


def _length(key: CacheKey) -> int:
    if isinstance(key, bytes):
        return len(key)
    if isinstance(key[0], str):
        return len(key[2])  # what is read with it is the same for all of a body
    return len(key[0]) + sum(len(name) + len(value) for name, value in key[1] or ())
