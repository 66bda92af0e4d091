"""What every request of a sender goes through, whatever its format: who sends, what it holds, and what is answered."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final

from aiohttp import web
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.budgets import BYTES, RPCS
from tocsin_kit.errors import TocsinError, invalid
from tocsin_kit.http import http_status
from tocsin_kit.logging import get_logger
from tocsin_kit.rpc.failures import masked
from tocsin_kit.rpc.server import RpcServer
from tocsin_kit.time_slices import TimeSlice

from tocsin_ingest.app.alerts.alert_cache import AlertText
from tocsin_ingest.app.alerts.alert_request import AlertRequest, Sender, request_of
from tocsin_ingest.app.alerts.alert_size import shorten
from tocsin_ingest.app.alerts.refusals import Refusals
from tocsin_ingest.app.alerts.route_alert import Stated
from tocsin_ingest.app.alerts.send_alert import AlertIntake, PendingAnswers
from tocsin_ingest.app.alerts.signatures import check_signature
from tocsin_ingest.app.alerts.transient import is_transient
from tocsin_ingest.app.integrations.directory import Directory
from tocsin_ingest.http import documents
from tocsin_ingest.http.body import Bodies, Refused
from tocsin_ingest.http.callers import clean_key, sender_of
from tocsin_ingest.http.documents import Document
from tocsin_ingest.http.fetcher import Fetcher
from tocsin_ingest.http.format import Format, Item, Reading
from tocsin_ingest.http.known_bodies import LARGEST, KnownBodies, KnownBody
from tocsin_ingest.http.results import Answer, Results

_log = get_logger(__name__)

_LARGE: Final = 1 << 20
"""Bytes of a body whose signature takes too long for the event loop: 32 MiB would block it for 50 ms and more."""
_OF_THE_BODY: Final = (ErrorReason.ERROR_REASON_INVALID_FIELD, ErrorReason.ERROR_REASON_CREDENTIAL_MISSING)
"""Reasons for which a whole body is refused because something is missing in it."""
_AT_ONCE: Final = 500
"""Alerts of one body that are decoded together, while as many wait for their commit. No more of them are in memory."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What the receivers of all formats share."""

    intake: AlertIntake
    directory: Directory
    rpc: RpcServer
    refusals: Refusals
    bodies: Bodies
    fetcher: Fetcher
    known: KnownBodies = field(default_factory=KnownBodies)


class Receiver:
    """Receives the requests of one format."""

    def __init__(self, form: Format, shared: Shared) -> None:
        self._format = form
        self._known = shared.known
        self._intake = shared.intake
        self._directory = shared.directory
        self._rpc = shared.rpc
        self._budgets = shared.rpc.budgets
        self._refusals = shared.refusals
        self._bodies = shared.bodies
        self._fetcher = shared.fetcher

    async def receive(self, request: web.Request) -> web.Response:
        """A caller who may not send learns nothing about the body except whether it is JSON, which contains the key of some
        formats."""
        sender: Sender | None = None
        document: Document | None = None
        try:
            key = clean_key(self._format.key(request))
            if key:
                sender = await sender_of(self._rpc, self._directory, key, request)
                self._budgets.take(sender.org_id, RPCS)
            with self._bodies.lend() as loan:
                data = await loan.read(request)
                # Not for a large one: copying it, and computing its hash, takes longer than a slice of the event loop.
                whole = bytes(data) if self._format.known_by_bytes and len(data) <= LARGEST else None
                known = self._known.get((self._format.name, whole)) if whole is not None else None
                if known is None:
                    document = await self._read(request, data)
                    key_in_body = self._format.body_key(document.fields)
                else:
                    key_in_body = known.key
                if sender is None:
                    sender = await sender_of(self._rpc, self._directory, clean_key(key_in_body), request)
                    self._budgets.take(sender.org_id, RPCS)
                self._budgets.take(sender.org_id, BYTES, len(data))
                sender = await self._signed(sender, request, data)
                if known is None:
                    assert document is not None
                    if self._format.verify is not None:
                        await self._format.verify(self._fetcher, sender.org_id, document.fields)
                    results = await self._accept(sender, document)
                else:
                    answer = await self._commit(sender, known.sent)
                    if isinstance(answer, bytes):
                        return known.response()
                    results = Results()
                    results.add("event", answer)
        except Refused as refused:
            response = await self._refuse(sender, refused.status, refused.error)
            if refused.close:
                response.force_close()
            return response
        except Exception as failure:
            return await self._refuse_masked(sender, failure, document)
        if results.refusal is not None:
            await self._refusals.tell(sender, self._format.name, results.refused, results.refusal)
        response = self._format.answer(results)
        if results.sent is not None and whole is not None and self._intake.has_seen(sender, results.sent):
            # Its alert came before: the body will come again. Of one whose key was made here the alert is another one each time.
            self._known.put(sender, (self._format.name, whole), KnownBody.of(key_in_body, results.sent, response))
        return response

    async def _read(self, request: web.Request, data: bytes | bytearray) -> Document:
        if not data and self._format.may_be_empty:
            data = b"{}"
        document = self._format.open(request, data)
        if document is None:
            document = await documents.read(data, self._format.list_field, self._format.outer)
        document.fields.update(self._format.outside_body(request))
        return document

    async def _signed(self, sender: Sender, request: web.Request, body: bytes | bytearray) -> Sender:
        """The sender of this body. Raises CREDENTIAL_INVALID when its integration asks for a signature that is not there."""
        if sender.integration_id is None:
            return sender
        rule = (await self._directory.routing(sender.org_id, sender.integration_id)).signature
        if rule is None:
            return sender
        now = await self._directory.now(sender.org_id) if rule.timestamp_header else 0.0
        if len(body) > _LARGE:
            await asyncio.to_thread(check_signature, rule, request.headers, body, now)
        else:
            check_signature(rule, request.headers, body, now)
        return replace(sender, signed=True)

    async def _refuse_masked(
        self, sender: Sender | None, failure: Exception, document: Document | None
    ) -> web.Response:
        """In a function of its own: a frame that holds an error from below it is a cycle, and so keeps the whole body alive."""
        error = masked(failure)
        if document is not None:
            error = _cause(error, document)
        return await self._refuse(sender, http_status(error), error)

    async def _refuse(self, sender: Sender | None, status: int, error: TocsinError) -> web.Response:
        """The whole body. Without a known sender only the metrics show it."""
        if sender is not None:
            self._intake.note_refused(sender, error)
        if not is_transient(error):
            if sender is None:
                self._refusals.count(self._format.name, error)
            else:
                await self._refusals.tell(sender, self._format.name, 1, error)
        return self._format.refuse(status, error)

    async def _accept(self, sender: Sender, document: Document) -> Results:
        results = Results(notes=self._format.check(document.fields))
        if document.broken is not None:
            results.add("body", document.broken)
        if self._format.read_with is not None:
            return await self._accept_as_written(sender, document, results)
        reading = await self._reading(sender, document)
        if reading.items is None:
            found = self._alert_request(document.fields, document, "event", reading)
            if isinstance(found, TocsinError):
                found = _cause(found, document)
                if found is document.broken:
                    return results
            results.add("event", found if isinstance(found, TocsinError) else await self._commit(sender, found))
            if self._format.known_by_bytes and not isinstance(found, TocsinError) and not results.errors:
                results.sent = found
            return results
        time_slice = TimeSlice()
        items = enumerate(reading.items)
        started: list[tuple[str, asyncio.Future[Answer]]] = []
        while following := await self._start(sender, document, items, time_slice, reading):
            # The next are decoded while these are committed.
            for place, taken in started:
                results.add(place, await taken)
            started = following
        for place, taken in started:
            results.add(place, await taken)
        return results

    async def _accept_as_written(self, sender: Sender, document: Document, results: Results) -> Results:
        """Of formats whose alerts are recognised by how they are written."""
        form = self._format
        reading = await self._reading(sender, document)
        beside = json.dumps([document.fields.get(name) for name in form.read_with or ()])
        places: dict[AlertText, int] = {}

        def read(written: AlertText) -> tuple[bytes, Stated]:
            index = places[written]
            return self._request(document.item(index), document, f"{reading.place}[{index}]", reading)

        started: tuple[int, PendingAnswers] | None = None
        for start in range(0, len(document), _AT_ONCE):
            indexes = range(start, min(start + _AT_ONCE, len(document)))
            # An unreadable item has no text: its place identifies it.
            parts = [(form.name, beside, document.text(index) or str(index)) for index in indexes]
            places = dict(zip(reversed(parts), reversed(indexes), strict=True))
            following = await self._intake.submit_all(sender, parts, read)
            # The next are decoded while these are committed.
            await self._answered(results, reading, started)
            started = start, following
        await self._answered(results, reading, started)
        return results

    async def _answered(self, results: Results, reading: Reading, started: "tuple[int, PendingAnswers] | None") -> None:
        if started is None:
            return
        start, taken = started
        time_slice = TimeSlice()
        for index, answer in enumerate(await taken.answers(), start):
            results.add(f"{reading.place}[{index}]", answer if isinstance(answer, bytes) else masked(answer))
            await time_slice.yield_if_over()

    async def _reading(self, sender: Sender, document: Document) -> Reading:
        form = self._format
        if form.read is not None:
            return form.read(document, await self._directory.routing(sender.org_id, sender.integration_id or ""))
        if form.of_open_incidents:
            keys = await self._directory.firing_keys(sender.org_id, sender.integration_id or "")
            return Reading(form.item, iter(keys), "incidents")
        if document.bare:
            return Reading(form.item, document.items())
        if not form.list_field:
            return Reading(form.item)
        if not document.has_list:
            raise invalid(form.list_field, "must be a list of alerts")
        return Reading(form.item, document.items(), form.list_field)

    async def _start(
        self,
        sender: Sender,
        document: Document,
        items: "Iterator[tuple[int, Any]]",
        time_slice: TimeSlice,
        reading: Reading,
    ) -> list[tuple[str, "asyncio.Future[Answer]"]]:
        """Begin to accept the next `_AT_ONCE` items; other tasks run meanwhile."""
        started: list[tuple[str, asyncio.Future[Answer]]] = []
        for index, given in islice(items, _AT_ONCE):
            place = f"{reading.place}[{index}]"
            started.append((place, asyncio.ensure_future(self._accept_item(sender, given, document, place, reading))))
            await time_slice.yield_if_over()
        return started

    async def _accept_item(
        self, sender: Sender, given: Any, document: Document, place: str, reading: Reading
    ) -> Answer:
        found = self._alert_request(given, document, place, reading)
        return found if isinstance(found, TocsinError) else await self._commit(sender, found)

    def _alert_request(
        self, given: Any, document: Document, place: str, reading: Reading
    ) -> AlertRequest | TocsinError:
        try:
            if isinstance(given, TocsinError):
                return given
            return AlertRequest.made_of(*self._request(given, document, place, reading))
        except Exception as error:
            return masked(error)

    async def _commit(self, sender: Sender, sent: AlertRequest) -> Answer:
        try:
            return await (await self._intake.submit_request(sender, sent))
        except Exception as error:
            return masked(error)

    def _request(self, given: Any, document: Document, place: str, reading: Reading) -> tuple[bytes, Stated]:
        """The alert as a SendAlertRequest, serialized, and what its sender stated beside it."""
        item = self._item(given, document, place, reading)
        shorten(item.alert)
        return request_of(item.alert, item.request_id), Stated(item.labels, item.started, item.ended, item.expiry)

    def _item(self, given: Any, document: Document, place: str, reading: Reading) -> Item:
        """Input of a sender can break a decoder in many ways: only that alert is affected."""
        try:
            return reading.item(given, document.fields, place)
        except TocsinError:
            raise
        except Exception as error:
            _log.warning("alert_undecodable", format=self._format.name, place=place, error=repr(error)[:300])
            raise invalid(place, f"cannot be read as an alert: {type(error).__name__}") from error


def _cause(error: TocsinError, document: Document) -> TocsinError:
    """Why the body is refused: the missing part may be in the part that could not be read."""
    unread = document.left_out or document.broken
    return unread if unread is not None and error.reason in _OF_THE_BODY else error
