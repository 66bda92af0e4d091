"""A storm as people see it: many incidents for a few of them, with some critical ones, and what each of them gets."""

import asyncio
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp
from tocsin.ingest.v1 import alert_pb2, alert_service_pb2
from tocsin.notify.v1 import contact_service_pb2
from tocsin.type.v1.severity_pb2 import SEVERITY_CRITICAL, SEVERITY_ERROR, SEVERITY_WARNING, Severity
from tocsin_testkit.busy import until
from tocsin_testkit.clients import Clients
from tocsin_testkit.installation import PUBLIC_URL
from tocsin_testkit.person import Person
from tocsin_testkit.received import Received
from tocsin_testkit.tenant import Sender, Tenant

CRITICAL_EVERY = 50
"""One incident of so many is critical; the others are error and warning in turns."""


@dataclass(slots=True)
class Struck:
    """One person in the storm. `incidents`: title by name, of theirs; `began`: when the first of them was sent."""

    person: Person
    sender: Sender
    incidents: dict[str, str] = field(default_factory=dict)
    critical: set[str] = field(default_factory=set)
    began: float = 0.0

    @property
    def got(self) -> list[Received]:
        """Everything that reached them, but codes."""
        [address] = self.person.addresses
        return [m for m in self.person.world.inbox.messages if m.address == address and m.kind != "verification"]

    @property
    def alone(self) -> list[Received]:
        """The pages that came by themselves."""
        return [message for message in self.got if message.is_page]

    @property
    def together(self) -> list[Received]:
        """The messages that stand for several pages."""
        return [message for message in self.got if message.kind == "bundle"]

    @property
    def first_after(self) -> float:
        """Seconds from the first incident to the first page."""
        return min(message.at for message in self.got) - self.began


async def people(tenant: Tenant, count: int) -> list[Struck]:
    """So many, each with a policy and a sender of their own."""
    found = []
    for number in range(count):
        person = await tenant.person(f"p{number}")
        found.append(Struck(person, await tenant.integration(await tenant.policy([person], minutes=600))))
    return found


async def budget(tenant: Tenant, pages: int) -> None:
    """What everybody of the tenant gets one by one within five minutes."""
    chosen = contact_service_pb2.NotificationSettings(user="users/*")
    chosen.page_budget.pages = pages
    chosen.page_budget.window.seconds = 300
    request = contact_service_pb2.UpdateNotificationSettingsRequest(notification_settings=chosen)
    await tenant.admin.contacts.UpdateNotificationSettings(request)


async def strike(struck: Sequence[Struck], each: int, *, seconds: float = 0.0, at_once: int = 5) -> None:
    """Incidents for all of them, `each` for everybody, spread over so many seconds; the senders take turns."""
    began = time.monotonic()

    async def one_by_one(place: int, one: Struck) -> None:
        for start in range(0, each, at_once):
            due = began + seconds * (start + at_once * place / len(struck)) / each
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await _send(one, range(start, min(start + at_once, each)))

    await asyncio.gather(*(one_by_one(place, one) for place, one in enumerate(struck)))


async def _send(one: Struck, numbers: Sequence[int]) -> None:
    one.began = one.began or time.monotonic()
    titles = {number: f"{one.person.name} {number} down" for number in numbers}
    alerts = [
        alert_service_pb2.SendAlertRequest(
            alert=alert_pb2.AlertInput(summary=title, dedup_key=title, severity=_severity(number))
        )
        for number, title in titles.items()
    ]
    answer = await Clients(one.person.world.channels, one.sender.key).alerts.SendAlerts(
        alert_service_pb2.SendAlertsRequest(alerts=alerts)
    )
    for number, result in zip(numbers, answer.results, strict=True):
        one.incidents[result.response.incident] = titles[number]
        if number % CRITICAL_EVERY == CRITICAL_EVERY - 1:
            one.critical.add(result.response.incident)


def _severity(number: int) -> Severity.ValueType:
    if number % CRITICAL_EVERY == CRITICAL_EVERY - 1:
        return SEVERITY_CRITICAL
    return SEVERITY_ERROR if number % 2 else SEVERITY_WARNING


async def found(struck: Struck) -> set[str]:
    """The titles of the incidents that they see: in pages, and behind the links of messages that stand for several."""
    titles = {struck.incidents[message.incident] for message in struck.alone}
    async with aiohttp.ClientSession() as session:
        for message in struck.together:
            link = str(json.loads(message.body)["answer_url"]).removeprefix(PUBLIC_URL)
            async with session.get(struck.person.world.notify_url + link) as response:
                assert response.status == 200
                titles |= set(re.findall(r'<a href="[^"]+">([^<]+)</a>', await response.text()))
    return titles


async def all_is_told(struck: Sequence[Struck]) -> None:
    """Waits until each incident is behind something that reached its person."""

    async def told() -> bool:
        return all([await found(one) == set(one.incidents.values()) for one in struck])

    await until(told, seconds=180)
