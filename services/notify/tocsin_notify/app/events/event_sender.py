"""Sends deliveries to subscriptions: taken with a lease, sent with no transaction open, concluded by the number of the attempt.

A process that dies leaves leases that run out; another one sends again under the same id.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from google.protobuf.message import DecodeError
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger

from tocsin_notify.app.events.event_payload import payload
from tocsin_notify.app.events.event_slots import EventSlots
from tocsin_notify.app.events.event_types import PING
from tocsin_notify.app.events.stop_notices import tell_stopped
from tocsin_notify.channels.standard_webhooks import StandardWebhooks
from tocsin_notify.domain.subscription import EndpointAnswer, EventRetryPolicy, SubscriptionHealth, judge
from tocsin_notify.metrics import NotifyMetrics
from tocsin_notify.store.cipher import Cipher, SecretLost
from tocsin_notify.store.events import event_deliveries, subscriptions
from tocsin_notify.store.events.event_deliveries import Attempt, EventDelivery, Room
from tocsin_notify.store.events.subscriptions import Subscription

_log = get_logger(__name__)

_MOST_PER_CLAIM: Final = 50
_SWEEP: Final = 1.0
"""Seconds after which `everything` runs anyway."""
_TO_NOTE: Final = 15.0
"""Seconds of a lease beyond the request itself: time to write the outcome, even if the database is busy."""


@dataclass(frozen=True, slots=True)
class _Send:
    """A request that is ours to make; its slot is taken."""

    subscription: Subscription
    delivery: EventDelivery
    start_time: datetime


class EventSender:
    """One object per process; every replica sends."""

    def __init__(
        self,
        db: Database,
        endpoints: StandardWebhooks,
        cipher: Cipher,
        metrics: NotifyMetrics,
        policy: EventRetryPolicy,
        *,
        concurrency: int,
        timeout: float,
        nudge: Callable[[], None],
        notified: Callable[[], None],
    ) -> None:
        """`timeout`: seconds that one request may take. `nudge`: let `everything` run again. `notified`: a message is due."""
        self._db = db
        self._endpoints = endpoints
        self._cipher = cipher
        self._metrics = metrics
        self._policy = policy
        self._slots = EventSlots(concurrency)
        self._timeout = timeout
        self.lease: Final = timeout + _TO_NOTE
        """Seconds after which another replica may send what this one was sending."""
        self._nudge = nudge
        self._notified = notified
        self._running: set[asyncio.Task[None]] = set()
        self.stopping = False

    async def everything(self) -> None:
        """Start what is due, as long as there are slots. The end of a request nudges, and the next round starts further
        ones."""
        roomless = set[UUID]()
        while not self.stopping and self._slots.free > 0:
            sends, seen = await self._claim(roomless)
            for send in sends:
                self._start(send)
            roomless |= seen - {send.subscription.id for send in sends}
            if not seen:
                return

    def has_room(self, org_id: str) -> bool:
        """Whether the tenant may have one more request at once."""
        return self._slots.free > 0 and org_id not in self._slots.full_tenants()

    async def send_now(self, subscription: Subscription, delivery: EventDelivery) -> None:
        """Send one that the caller has just stored and taken, and return once its outcome is noted."""
        await asyncio.shield(self._start(_Send(subscription, delivery, delivery.create_time)))

    async def drain(self, grace: float) -> None:
        """Let requests end for `grace` seconds, then cut them off and give back their deliveries."""
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=grace)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

    async def _claim(self, roomless: set[UUID]) -> tuple[list[_Send], set[UUID]]:
        """Deliveries to send, and the subscriptions that were looked at. Raises DATABASE_UNAVAILABLE."""
        slots = self._slots
        async with self._db.claim() as tx:
            found = await subscriptions.claim(
                tx,
                full=slots.full_tenants(),
                busy=[*slots.full_subscriptions(), *roomless],
                doubtful=slots.for_doubtful > 0,
                per_tenant=slots.share,
                limit=min(_MOST_PER_CLAIM, slots.free),
            )
            by_id = {each.id: each for each in found}
            rooms = self._rooms(found)
            taken = await event_deliveries.take(tx, rooms, self.lease) if rooms else []
            now = await tx.now()
        return [_Send(by_id[each.subscription], each, now) for each in taken], set(by_id)

    def _rooms(self, found: list[Subscription]) -> list[Room]:
        """How many requests each subscription may have, so that together they take no more slots than there are. Slots
        are held while it is worked out."""
        rooms: list[Room] = []
        held: list[Subscription] = []
        for each in found:
            room = self._slots.room(each.org_id, each.id, each.standing)
            if room:
                rooms.append(Room(each.org_id, each.id, room, each.standing.probing))
            for _ in range(room):
                self._slots.take(each.org_id, each.id, each.standing)
                held.append(each)
        for each in held:
            self._slots.leave(each.org_id, each.id, each.standing)
        return rooms

    def _start(self, send: _Send) -> "asyncio.Task[None]":
        subscription = send.subscription
        self._slots.take(subscription.org_id, subscription.id, subscription.standing)
        task = asyncio.get_running_loop().create_task(self._run(send))
        self._running.add(task)
        task.add_done_callback(lambda done: self._ended(done, send))
        return task

    def _ended(self, task: "asyncio.Task[None]", send: _Send) -> None:
        self._running.discard(task)
        self._slots.leave(send.subscription.org_id, send.subscription.id, send.subscription.standing)
        if not task.cancelled() and task.exception() is not None:
            # Its lease runs out, and it is sent again.
            _log.error("event_not_noted", delivery=str(send.delivery.id), exc_info=task.exception())
        if not self.stopping:
            self._nudge()

    async def _run(self, send: _Send) -> None:
        began = asyncio.get_running_loop().time()
        try:
            answer = await self._request(send)
        except asyncio.CancelledError:
            await self._give_back(send)
            return
        self._metrics.event_seconds.observe(asyncio.get_running_loop().time() - began)
        self._metrics.events.labels("taken" if answer.taken else "failed").inc()
        try:
            await self._conclude(send, answer)
        except TocsinError as error:
            _log.warning("event_not_noted", delivery=str(send.delivery.id), error=error.message)

    async def _request(self, send: _Send) -> EndpointAnswer:
        subscription, delivery = send.subscription, send.delivery
        try:
            content = payload(subscription, delivery)
            keys = [self._cipher.open(subscription.org_id, subscription.id, subscription.secret)]
            former, until = subscription.former_secret, subscription.former_until
            if former is not None and until is not None and until > send.start_time:
                keys.append(self._cipher.open(subscription.org_id, subscription.id, former))
        except (DecodeError, ValueError, SecretLost) as error:
            return EndpointAnswer(False, 0, str(error))
        stamp = int(send.start_time.timestamp())
        try:
            async with asyncio.timeout(self._timeout + 1):
                return await self._endpoints.send(subscription.url, keys, str(delivery.id), stamp, content)
        except TimeoutError:
            return EndpointAnswer(False, 0, f"no answer within {self._timeout:g} s")
        except Exception as error:
            _log.exception("endpoint_defect", delivery=str(delivery.id))
            return EndpointAnswer(False, 0, f"internal error: {type(error).__name__}")

    async def _conclude(self, send: _Send, answer: EndpointAnswer) -> None:
        async def work(tx: Tx) -> None:
            await self._note(tx, send, answer)

        await self._db.run(send.subscription.org_id, work)

    async def _note(self, tx: Tx, send: _Send, answer: EndpointAnswer) -> None:
        delivery = send.delivery
        found = await subscriptions.read(tx, delivery.subscription, lock=True)
        if found is None:
            return
        now = await tx.now()
        verdict = judge(
            found.standing,
            answer,
            now,
            attempts=delivery.attempts,
            since=delivery.since,
            policy=self._policy,
            luck=random.random(),
        )
        ping = delivery.type == PING
        due_time = None if ping else verdict.due_time
        if not await event_deliveries.conclude(
            tx, delivery.id, delivery.attempts, taken=verdict.taken, due_time=due_time
        ):
            return
        attempt = Attempt(delivery.attempts, send.start_time, now, answer.status, answer.detail)
        await event_deliveries.log(tx, delivery.id, attempt)
        # A ping is sent for a person who tests the endpoint: it says nothing about the delivery of events.
        standing = found.standing if ping else verdict.standing
        await subscriptions.fare(tx, found.id, standing, -1 if due_time is None else 0)
        if verdict.stopped and not ping:
            await self._tell(tx, found, standing)
        if due_time is not None and (pause := (due_time - now).total_seconds()) < _SWEEP:
            tx.after_commit(lambda: self._wake_in(pause))
        if due_time is None and not verdict.taken and not ping:
            tx.after_commit(lambda: self._metrics.events.labels("given_up").inc())

    def _wake_in(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self._nudge)

    async def _tell(self, tx: Tx, subscription: Subscription, standing: SubscriptionHealth) -> None:
        await tell_stopped(tx, subscription, standing)

        def after() -> None:
            self._metrics.subscriptions_stopped.inc()
            self._notified()
            _log.error(
                "subscription_stopped",
                org_id=subscription.org_id,
                subscription=str(subscription.id),
                failure=standing.failure,
                remedy="mend the endpoint, then call EnableSubscription",
            )

        tx.after_commit(after)

    async def _give_back(self, send: _Send) -> None:
        async def work(tx: Tx) -> None:
            found = await subscriptions.read(tx, send.delivery.subscription, lock=True)
            if found is not None and await event_deliveries.give_back(tx, send.delivery.id, send.delivery.attempts):
                await subscriptions.fare(tx, found.id, found.standing, 0)

        try:
            await self._db.run(send.subscription.org_id, work)
        except TocsinError as error:
            _log.warning("event_not_given_back", delivery=str(send.delivery.id), error=error.message)
