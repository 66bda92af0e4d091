"""Accept alerts: recognise or read each, and wait until it is committed."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1.alert_service_pb2 import SendAlertRequest
from tocsin_kit.auth import invalid_credential
from tocsin_kit.batches import Batches, Several, overloaded
from tocsin_kit.budgets import Budgets
from tocsin_kit.db.requests import body_hash
from tocsin_kit.errors import TocsinError
from tocsin_kit.ids import parse_name
from tocsin_kit.rpc.validation import validate
from tocsin_kit.time_slices import TimeSlice

from tocsin_ingest.app.alerts.admission import Admission
from tocsin_ingest.app.alerts.alert_cache import AlertCache, CachedCore, CacheKey, SenderCache, cache_key
from tocsin_ingest.app.alerts.alert_parts import core_of
from tocsin_ingest.app.alerts.alert_request import INTEGRATIONS, AlertRequest, Sender
from tocsin_ingest.app.alerts.alert_size import check_bytes
from tocsin_ingest.app.alerts.commit_batch import Entry
from tocsin_ingest.app.alerts.details import check_details
from tocsin_ingest.app.alerts.intake_times import IntakeTimes
from tocsin_ingest.app.alerts.known_rules import register_rules
from tocsin_ingest.app.alerts.rate_limit import RateLimit
from tocsin_ingest.app.alerts.received_alert import ReceivedAlert
from tocsin_ingest.app.alerts.route_alert import NOTHING_STATED, Stated, route_wholly
from tocsin_ingest.app.integrations.directory import Directory, Routing

_READING_SECONDS: Final = 0.1
"""Seconds after which the alerts of a batch that are read already continue: the data they were read with must not become old
while others are read."""
_SLICE: Final = 0.002
"""Seconds of a slice of time. A batch that commits meanwhile waits for the event loop after each of its statements. If it waited
for as long as a call takes to be read, the database would be idle in that time, and reading would stop while the database works."""


class AlertIntake:
    """The only entry for alerts, for every RPC and every HTTP format."""

    def __init__(
        self,
        directory: Directory,
        budgets: Budgets,
        limit: RateLimit,
        batches: Batches[Entry, bytes],
        times: IntakeTimes,
    ) -> None:
        self._directory = directory
        self._admission = Admission(budgets, limit)
        self._batches = batches
        self._times = times
        self._cache = AlertCache()
        register_rules()

    async def send(self, sender: Sender, data: bytes) -> bytes:
        """A serialized SendAlertResponse, once the alert is committed. `data`: a SendAlertRequest, as the sender wrote it.

        Raises DecodeError, INVALID_FIELD, ALERT_TOO_LARGE, INTEGRATION_NOT_FOUND, CREDENTIAL_INVALID, RATE_LIMITED,
        OVERLOADED, REQUEST_ID_REUSED, DATABASE_UNAVAILABLE, CONFLICT.
        """
        cache = self._cache.of(sender.org_id, sender.subject)
        entry = await self._cached(sender, cache, data)
        if entry is None:
            entry = await self._read(sender, cache, ReceivedAlert(data), data)
        return await self._enqueue(entry)

    async def send_all(self, sender: Sender, parts: Sequence[bytes]) -> list[bytes | Exception]:
        """The same for many alerts, with an answer or an error for each in order, as if they came one by one.

        If one cannot be parsed the whole request is refused: raises DecodeError.
        """
        cache = self._cache.of(sender.org_id, sender.subject)
        unknown = {data: ReceivedAlert(data) for data in parts if cache.get(data) is None}
        for given in unknown.values():
            given.parse(cache)

        def read(data: Any) -> ReceivedAlert:
            return unknown.get(data) or ReceivedAlert(data)

        return await (await self._take_all(sender, parts, read)).answers()

    async def submit_all(
        self, sender: Sender, parts: "Sequence[CacheKey]", read: "Callable[[Any], tuple[bytes, Stated]]"
    ) -> "PendingAnswers":
        """The same for alerts that `read` makes from their identities: returns as soon as they wait for their batch."""

        def given(key: Any) -> ReceivedAlert:
            return ReceivedAlert(*read(key))

        return await self._take_all(sender, parts, given)

    async def _take_all(
        self, sender: Sender, parts: "Sequence[CacheKey]", read: "Callable[[Any], ReceivedAlert]"
    ) -> "PendingAnswers":
        reading = iter(parts)
        taken: list[_PendingAnswers] = []
        while entries := await self._entries(sender, reading, read):
            taken.append(self._take(entries, taken))
        return PendingAnswers(taken)

    async def submit(
        self, sender: Sender, request: SendAlertRequest, stated: Stated = NOTHING_STATED, *, own: bool = False
    ) -> "asyncio.Future[bytes]":
        """Like `send`, for one of many that come one by one: returns as soon as it waits for its batch.

        All errors are in the future, so that one bad alert does not affect the next. `own`: an alert of Tocsin itself, which is
        rare and not limited.
        """
        return await self.submit_request(sender, AlertRequest.of(request, stated), request, own=own)

    async def submit_request(
        self, sender: Sender, sent: "AlertRequest", request: SendAlertRequest | None = None, *, own: bool = False
    ) -> "asyncio.Future[bytes]":
        """The same for one that may be sent again. `request`: the request object, if it exists already."""
        try:
            cache = self._cache.of(sender.org_id, sender.subject)
            entry = await self._cached(sender, cache, sent.key)
            if entry is None:
                entry = await self._read(sender, cache, ReceivedAlert(sent.data, sent.stated, request), sent.key)
            return self._batches.enqueue(entry) if own else self._enqueue(entry)
        except Exception as error:
            failed: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            failed.set_exception(error)
            return failed

    def has_seen(self, sender: Sender, sent: "AlertRequest") -> bool:
        """Whether the sender sent the same before, and so will probably repeat it."""
        cache = self._cache.of(sender.org_id, sender.subject)
        if cache.get(sent.key) is not None:
            return True
        # It may have come for the second time just now.
        known_core = cache.find_core(cache_key(core_of(sent.data), sent.stated))
        return known_core is not None and known_core.newest == (sent.key, known_core.entry)

    def note_refused(self, sender: Sender, error: TocsinError) -> None:
        """What the sender sent was refused before it was submitted, at least one alert."""
        self._times.refused(sender.org_id, sender.integration_id, error)

    def _enqueue(self, entry: Entry) -> "asyncio.Future[bytes]":
        try:
            self._admission.admit(entry)
            return self._batches.enqueue(entry)
        except TocsinError as error:
            self._times.refused(entry.org_id, entry.message.integration_id, error)
            raise

    def _take(self, entries: "list[Entry | Exception]", call: object) -> "_PendingAnswers":
        """Admits the readable alerts of the call, and queues them together."""
        good = [each for each in entries if isinstance(each, Entry)]
        refusals = self._admission.admit_all(good)
        if refusals:
            self._note_refused(good, refusals)
            refused = iter(refusals)
            entries = [(next(refused) or each) if isinstance(each, Entry) else each for each in entries]
            good = [each for each in entries if isinstance(each, Entry)]
        waiting = self._batches.enqueue_each(good, call)
        if waiting.refused:
            self._note_refused(good[-waiting.refused :], [overloaded()] * waiting.refused)
        return _PendingAnswers(entries, waiting)

    def _note_refused(self, entries: Sequence[Entry], errors: Sequence[TocsinError | None]) -> None:
        for entry, error in zip(entries, errors, strict=True):
            if error is not None:
                self._times.refused(entry.org_id, entry.message.integration_id, error)

    async def _entries(
        self, sender: Sender, reading: "Iterator[CacheKey]", read: "Callable[[Any], ReceivedAlert]"
    ) -> "list[Entry | Exception]":
        """The next entries: all that are left, or as many as can be read in a moment."""
        loop = asyncio.get_running_loop()
        end, time_slice = loop.time() + _READING_SECONDS, TimeSlice(_SLICE)
        cache = self._cache.of(sender.org_id, sender.subject)
        get = cache.get
        routings: dict[str, Routing] = {}
        entries: list[Entry | Exception] = []
        for data in reading:
            known = get(data)
            if known is not None:
                routing = routings.get(known.integration)
                if routing is None:
                    with suppress(TocsinError):
                        routing = await self._routing(sender, known.integration, routings)
                if routing is not None and known.mark is routing.mark:
                    entries.append(known.entry)
                    continue
            try:
                entries.append(await self._read(sender, cache, read(data), data, routings))
            except Exception as error:
                entries.append(error)
            if time_slice.is_over:
                await time_slice.yield_if_over()
                # Rules and silences may have changed meanwhile.
                routings.clear()
                if loop.time() > end:
                    break
        return entries

    async def _cached(self, sender: Sender, cache: SenderCache, key: CacheKey) -> Entry | None:
        """The entry of an alert that was read before and would be read in the same way. Raises as `_look_up`."""
        known = cache.get(key)
        if known is None:
            return None
        routing = await self._look_up(sender, known.integration)
        return known.entry if known.mark is routing.mark else None

    async def _read(
        self,
        sender: Sender,
        cache: SenderCache,
        given: "ReceivedAlert",
        key: CacheKey,
        routings: "dict[str, Routing] | None" = None,
    ) -> Entry:
        """Everything about an alert that does not depend on the database's state; it is cached for alerts that repeat."""
        known_core = given.find_core(cache)
        if known_core is not None:
            routing = await self._routing(sender, known_core.integration, routings)
            found = self._from_core(known_core, key, given) if known_core.mark is routing.mark else None
            if found is not None:
                return found
        request, stated = given.request, given.stated
        validate(request)
        alert = request.alert
        content = alert.SerializeToString()
        check_bytes(len(content))
        routing = await self._routing(sender, request.integration, routings)
        if alert.HasField("details"):
            check_details(alert.details)
        message, wholly = route_wholly(
            self._directory, sender.org_id, sender.subject, routing, alert, stated, content=content
        )
        entry = Entry(sender.org_id, message)
        if wholly and not self._cache.is_first(message.key):
            keyed = bool(alert.dedup_key or (alert.labels if stated.labels is None else stated.labels))
            self._cache.put_core(
                *(given.core, key, entry, request.integration, routing.mark),
                any_summary=keyed and not routing.reads_summary,
                newest=not request.request_id,
            )
        return Entry(sender.org_id, message, request.request_id, body_hash(request)) if request.request_id else entry

    def _from_core(self, known_core: CachedCore, key: CacheKey, given: "ReceivedAlert") -> Entry | None:
        """The entry of an alert with a known core, whose routing is as it was."""
        if known_core.newest is not None and known_core.newest[0] == key:
            # An alert that came twice will come again.
            entry = known_core.newest[1]
            self._cache.put(key, entry, known_core.integration, known_core.mark)
            return entry
        found = known_core.with_words(given.words)
        if found is not None and not found.request_id:
            self._cache.put_newest(given.core, known_core, key, found)
        return found

    async def _routing(self, sender: Sender, named: str, known: "dict[str, Routing] | None" = None) -> Routing:
        """`known`: routings that were looked up since other tasks last ran."""
        if known is None:
            return await self._look_up(sender, named)
        routing = known.get(named)
        if routing is None:
            routing = await self._look_up(sender, named)
            # Other tasks may have run just now.
            known.clear()
            known[named] = routing
        return routing

    async def _look_up(self, sender: Sender, named: str) -> Routing:
        if sender.integration_id is None:
            integration_id = parse_name(named, INTEGRATIONS, field="integration") if named else ""
            return await self._directory.routing(sender.org_id, integration_id)
        try:
            routing = await self._directory.routing(sender.org_id, sender.integration_id)
        except TocsinError as error:
            if error.reason != ErrorReason.ERROR_REASON_INTEGRATION_NOT_FOUND:
                raise
            # The key itself is still cached for a moment.
            raise invalid_credential("its integration is deleted") from error
        if routing.signature is not None and not sender.signed:
            raise invalid_credential("its integration takes what is signed only, by HTTP (integration.signature)")
        return routing


class PendingAnswers:
    """Alerts of one request that wait for their commit. An answer is a serialized SendAlertResponse."""

    def __init__(self, parts: "Sequence[_PendingAnswers]") -> None:
        self._parts = parts

    async def answers(self) -> list[bytes | Exception]:
        """One for each, in order."""
        return [answer for each in self._parts for answer in await each.answers()]


class _PendingAnswers:
    """Alerts of one request: those that wait for their commit, and the errors of the refused ones."""

    def __init__(self, entries: "list[Entry | Exception]", waiting: Several[bytes]) -> None:
        self._entries = entries
        self._waiting = waiting

    async def answers(self) -> list[bytes | Exception]:
        """One for each, in order."""
        committed = await self._waiting.answers()
        if len(committed) == len(self._entries):
            return committed
        answers = iter(committed)
        return [next(answers) if isinstance(each, Entry) else each for each in self._entries]
