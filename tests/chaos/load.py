"""A handful of alerts per second over many keys, with a model of what each must have led to."""

import asyncio
import random
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Self, cast

import grpc
from tocsin.escalation.v1 import incident_pb2, incident_service_pb2
from tocsin.ingest.v1 import alert_pb2, alert_service_pb2
from tocsin.notify.v1 import notification_service_pb2
from tocsin.type.v1 import severity_pb2
from tocsin_testkit.busy import within
from tocsin_testkit.clients import Clients
from tocsin_testkit.person import Person
from tocsin_testkit.received import Received
from tocsin_testkit.tenant import Tenant

from tests.chaos.fleet import Fleet, insist, spread, tell
from tests.chaos.late_pages import account

Ending = Literal["ignored", "acknowledged", "closed", "over"]
ENDINGS: dict[Ending, int] = {"ignored": 4, "acknowledged": 3, "closed": 2, "over": 2}
"""No one answers, a person acknowledges or resolves, or the monitoring system resolves; and how often."""
STATES = {
    "ignored": incident_pb2.INCIDENT_STATE_EXHAUSTED,
    "acknowledged": incident_pb2.INCIDENT_STATE_ACKNOWLEDGED,
    "closed": incident_pb2.INCIDENT_STATE_RESOLVED,
    "over": incident_pb2.INCIDENT_STATE_RESOLVED,
}
NEWS = {"acknowledged": "acknowledgment", "closed": "resolution", "over": "resolution"}
LEVEL_SECONDS = 1
CALL_SECONDS = 3.0
HEARD_SECONDS = 40.0
"""Within these escalation hears of an incident: a lease of ingest's relay lasts 10 s, and its holder may be killed again."""
ON_ITS_WAY = 2.0
"""Seconds between the start of a call, which is all an acknowledge promises about, and its arrival in the receiver's kernel, on a
machine that has no time for the sender. How late a busy receiver reads it does not count (`tocsin_testkit.arrival`)."""


@dataclass
class Story:
    """One alert's life: what was done, and so what must have followed."""

    key: str
    ending: Ending
    duplicates: int
    pause: float
    incident: str = ""
    accepted: float = 0.0
    """`time.monotonic()` when the sender had its OK."""
    stopped: float | None = None
    """When the acknowledge or the resolve of a person had returned OK."""


@dataclass
class Outcome:
    """What came of all of them."""

    stories: int
    pages: int
    doubles: int
    refusals: Counter[str]
    faults: list[str] = field(default_factory=list)
    first: dict[str, float] = field(default_factory=dict)
    second: dict[str, float] = field(default_factory=dict)


class Load:
    """Two people, one behind the other, and a monitoring system that never rests."""

    def __init__(self, tenant: Tenant, seed: int, per_second: float) -> None:
        self.tenant = tenant
        self.fleet = cast("Fleet", tenant.world)
        self.seed = seed
        self.refusals: list[str] = []
        self.stories: list[Story] = []
        self._random = random.Random(seed)
        self._per_second = per_second
        # When the last story was told; from then on tests move time, and lateness would measure that.
        self._ended = 0.0, timedelta()

    @classmethod
    async def prepare(
        cls, tenant: Tenant, *, seed: int | None = None, per_second: float = 10, email: bool = False
    ) -> Self:
        """The seed of what happens; a new one each time unless given. It is printed with the outcome.

        `email`: the second of the two people is reached by mail.
        """
        load = cls(tenant, random.getrandbits(24) if seed is None else seed, per_second)
        load.ana, load.ben = await tenant.person("ana"), await tenant.person("ben", email=email)
        policy = await tenant.policy([load.ana], [load.ben], minutes=LEVEL_SECONDS / 60)
        load.alerts = Clients(tenant.world.channels, (await tenant.integration(policy)).key).alerts
        return load

    ana: Person
    ben: Person
    alerts: Any

    @asynccontextmanager
    async def under_way(self) -> AsyncIterator[random.Random]:
        """Alerts come while the block runs; afterwards every story is brought to its end. Yields dice of the same seed."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as lives:
            lives.create_task(self._keep_coming(stop, lives))
            try:
                yield random.Random(self.seed + 1)
            finally:
                stop.set()
        self._ended = time.monotonic(), self.fleet.clock.offset

    async def outcome(
        self, case: str, *, doubles: bool = False, but: Collection[str] = (), on_its_way: float = ON_ITS_WAY
    ) -> Outcome:
        """Let time pass until nothing can happen any more, and hold the world against the model.

        `doubles`: a page may have come twice under one key, as it may when its sender was killed while the provider
        had it. `but`: incidents of the test's own. `on_its_way`: how long a call that was begun may take to arrive.
        AssertionError names every difference; the JSON line is printed either way.
        """
        await self.fleet.heal()
        await self.fleet.orphans_come_due()
        for _ in range(3):  # two levels and the end, each at least one timeout after the one before
            await self.fleet.passes(seconds=LEVEL_SECONDS)
        got: dict[str, list[Received]] = {story.incident: [] for story in self.stories}
        outcome = Outcome(len(self.stories), 0, 0, Counter(self.refusals))
        for message in self.fleet.inbox.messages:
            if self.tenant.owns(message) and message.kind != "verification":
                if message.incident in got:
                    got[message.incident].append(self.tenant.expected(message))
                elif message.incident not in but:
                    outcome.faults.append(f"{message.kind} of nobody's incident {message.incident}")
        for story in self.stories:
            await self._compare(story, got[story.incident], outcome, on_its_way)
        if outcome.doubles and not doubles:
            outcome.faults.append(f"{outcome.doubles} pages came twice")
        letters = await self.tenant.admin.notifications.ListDeadLetters(
            notification_service_pb2.ListDeadLettersRequest()
        )
        outcome.faults += [f"dead letter: {letter.detail}" for letter in letters.dead_letters]
        self._measure(got, outcome)
        facts = {"refusals": dict(outcome.refusals), "first_level": outcome.first, "second_level": outcome.second}
        tell(case, seed=self.seed, alerts=outcome.stories, pages=outcome.pages, doubles=outcome.doubles, **facts)
        assert outcome.faults == [], f"seed {self.seed}: {outcome.faults[:5]}"
        return outcome

    async def _keep_coming(self, stop: asyncio.Event, lives: asyncio.TaskGroup) -> None:
        dice = self._random
        while not stop.is_set():
            [ending] = dice.choices(list(ENDINGS), weights=list(ENDINGS.values()))
            pause = dice.uniform(0, 1.5 * LEVEL_SECONDS)
            story = Story(f"key {len(self.stories)}", ending, dice.choice((0, 0, 1, 3)), pause)
            self.stories.append(story)
            lives.create_task(self._live(story))
            try:
                async with asyncio.timeout(dice.expovariate(self._per_second)):
                    await stop.wait()
            except TimeoutError:
                continue

    async def _live(self, story: Story) -> None:
        answer = await self._sends(story, alert_pb2.ALERT_ACTION_TRIGGER)
        story.incident, story.accepted = answer.incident, time.monotonic()
        for number in range(2, story.duplicates + 2):
            answer = await self._sends(story, alert_pb2.ALERT_ACTION_TRIGGER)
            assert (answer.incident, answer.count) == (story.incident, number), f"duplicate of {story}: {answer}"
        if story.ending == "ignored":
            return
        await asyncio.sleep(story.pause)  # a person is on the way to a keyboard
        if story.ending == "over":
            await self._sends(story, alert_pb2.ALERT_ACTION_RESOLVE)
            return
        await self._responds(story)
        story.stopped = time.monotonic()

    async def _sends(
        self, story: Story, action: alert_pb2.AlertAction.ValueType
    ) -> alert_service_pb2.SendAlertResponse:
        request = alert_service_pb2.SendAlertRequest(
            request_id=str(uuid.uuid4()),
            alert=alert_pb2.AlertInput(
                summary=story.key, dedup_key=story.key, action=action, severity=severity_pb2.SEVERITY_CRITICAL
            ),
        )
        return await self._insist(lambda: self.alerts.SendAlert(request, timeout=within(CALL_SECONDS)))  # type: ignore[no-any-return]

    async def _responds(self, story: Story) -> None:
        """Ana acknowledges or resolves; escalation may not have heard of the incident yet."""
        incidents = self.ana.own.incidents
        id = str(uuid.uuid4())
        if story.ending == "acknowledged":
            acknowledge = incident_service_pb2.AcknowledgeIncidentRequest(name=story.incident, request_id=id)
            await self._insist(lambda: incidents.AcknowledgeIncident(acknowledge, timeout=within(CALL_SECONDS)))
        else:
            resolve = incident_service_pb2.ResolveIncidentRequest(name=story.incident, request_id=id)
            await self._insist(lambda: incidents.ResolveIncident(resolve, timeout=within(CALL_SECONDS)))

    async def _insist(self, call: Any) -> Any:
        async def unless_too_early() -> Any:
            deadline = time.monotonic() + within(HEARD_SECONDS)
            while True:
                try:
                    return await call()
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.NOT_FOUND or time.monotonic() > deadline:
                        raise
                await asyncio.sleep(0.05)

        return await insist(unless_too_early, refusals=self.refusals)

    async def _compare(self, story: Story, got: list[Received], outcome: Outcome, on_its_way: float) -> None:
        faults: list[str] = []
        pages = [message for message in got if message.is_page]
        keys = {(message.address, message.kind, message.level): set[str]() for message in got}
        for message in got:
            keys[message.address, message.kind, message.level].add(message.key)
        outcome.pages += sum(len(each) for (_, kind, _), each in keys.items() if kind in ("new_incident", "escalation"))
        outcome.doubles += len(got) - sum(map(len, keys.values()))
        faults += [f"{place} {len(each)} times" for place, each in keys.items() if len(each) > 1]
        levels = {message.level for message in pages}
        if not levels <= {1, 2} or any(m.address not in (self.ana, self.ben)[m.level - 1].addresses for m in pages):
            faults.append(f"pages of levels {levels} to the wrong people")
        if story.ending == "ignored" and levels != {1, 2}:
            faults.append(f"levels {levels} were paged, not both")
        if story.stopped is not None:
            late = [m.at - story.stopped for m in pages if m.at > story.stopped + within(on_its_way)]
            faults += [f"a page {seconds * 1000:.0f} ms after {story.ending} was OK" for seconds in late]
            if late:
                faults.append(await account(self.fleet, story.incident, story.stopped, pages))
        told = [message for message in got if not message.is_page]
        faults += [f"news of {m.kind}" for m in told if m.kind != NEWS.get(story.ending)]
        if story.ending == "over" and {m.address for m in pages} - {m.address for m in told}:
            faults.append("somebody who was paged was not told that it is over")
        state = (await self.tenant.incident(story.incident)).state
        if state != STATES[story.ending]:
            faults.append(incident_pb2.IncidentState.Name(state))
        outcome.faults += [f"{story}: {fault}" for fault in faults]

    def _measure(self, got: dict[str, list[Received]], outcome: Outcome) -> None:
        """How late the first page was after the sender's OK, and the second after its planned time."""
        ended, offset = self._ended
        since_start = datetime.now(UTC) + offset - timedelta(seconds=time.monotonic())
        first, second = [], []
        for story in self.stories:
            for message in got[story.incident]:
                if message.at > ended or not message.is_page or message.planned_time is None:
                    continue
                if message.level == 1:
                    first.append(max(0.0, message.at - story.accepted))
                else:
                    planned = (message.planned_time - since_start) / timedelta(seconds=1)
                    second.append(message.at - planned)
        outcome.first, outcome.second = spread(first), spread(second)
