"""The story the demo tells: three systems send, three people have phones, one of them answers."""

import asyncio
import copy
import json
import uuid
from importlib.resources import files
from typing import Any

import aiohttp
from tocsin.ingest.v1 import alert_pb2

from tocsin_testkit.demo.tell import BLUE, GREEN, YELLOW, Teller
from tocsin_testkit.person import Person
from tocsin_testkit.tenant import Sender, Tenant

LEVEL_SECONDS = 3
STORM = 60


class Story:
    """Tells it, and keeps what has to be checked."""

    def __init__(self, tenant: Tenant, tell: Teller) -> None:
        self.tenant = tenant
        self.tell = tell
        self.pages: dict[str, list[tuple[str, int]]] = {}
        self.counts: dict[str, int] = {}
        self.digest = ""
        """Its subject."""

    async def set_up(self) -> None:
        """A tenant with people, policies and keys, all through the public RPCs."""
        self.tell.chapter("A tenant, its people and its policy")
        self.ana = await self.tenant.person("ana", email=True)
        self.tell.happens("users/ana  is reached by e-mail (she typed in the code that was mailed to her)")
        self.ben = await self.tenant.person("ben")
        self.tell.happens("users/ben  is reached by a signed webhook")
        self.cem = await self.tenant.person("cem")
        self.tell.happens("users/cem  is reached by a signed webhook")
        minutes = LEVEL_SECONDS / 60
        policy = await self.tenant.policy([self.ana], [self.ben], [self.cem], minutes=minutes, name="production")
        self.tell.happens(f"policies/production: ana, then ben, then cem, {LEVEL_SECONDS} seconds each")
        alone = await self.tenant.policy(
            [self.ana], minutes=minutes / 3, name="single", fallback_target={"user": "users/cem"}
        )
        self.tell.happens("policies/single: ana for one second, then the fallback target cem")
        self.prometheus = await self.tenant.integration(policy)
        self.nagios = await self.tenant.integration(policy)
        self.batch = await self.tenant.integration(alone)

    async def database_goes_down(self) -> None:
        """Alertmanager, a storm of duplicates, two levels, an acknowledge, a resolve."""
        self.tell.chapter("Alertmanager: the database is down, and it says so again and again")
        firing = payload("alertmanager_firing")
        answers = await asyncio.gather(*(self._alertmanager(firing) for _ in range(STORM)))
        incident = await self._only_incident("PostgreSQL on db1 is down")
        self.counts[incident] = len(answers)
        self.tell.happens(
            f"{STORM} webhooks posted at once, all answered {set(answers)}: one incident, {short(incident)}"
        )
        await self._paged(self.ana, incident, 1)
        self.tell.happens(f"ana sleeps on; {LEVEL_SECONDS} seconds pass …")
        await self._paged(self.ben, incident, 2)
        answer = await self.ben.acknowledges(incident)
        self.tell.happens(f"ben acknowledges: generation {answer.incident.generation}, no timer runs any more", GREEN)
        await self.ana.is_told(incident, "acknowledgment")
        self.tell.happens("ana is told that ben has it")
        self.tell.happens(f"cem would be next; {LEVEL_SECONDS} seconds pass, and his phone stays dark …")
        await self.tenant_time(LEVEL_SECONDS + 1)
        resolved = copy.deepcopy(firing)
        resolved["status"] = resolved["alerts"][0]["status"] = "resolved"
        resolved["alerts"][0]["endsAt"] = "2026-03-01T03:07:11.437Z"
        await self._alertmanager(resolved)
        for person in (self.ana, self.ben):
            await person.is_told(incident, "resolution")
        self.tell.happens("Alertmanager resolves it; ana and ben are told", GREEN)

    async def disk_fills_up(self) -> None:
        """A PagerDuty client that triggers, acknowledges and resolves."""
        self.tell.chapter("A PagerDuty client: same JSON, same answers, another URL")
        trigger = payload("pagerduty_trigger") | {"routing_key": self.nagios.key}
        status, body = await self._pagerduty(trigger)
        incident = await self._only_incident("web7: /var is 97% full")
        self.tell.happens(f"POST /v2/enqueue trigger: {status} {body['message']!r}, {short(incident)}")
        await self._paged(self.ana, incident, 1)
        key = {"routing_key": self.nagios.key, "dedup_key": trigger["dedup_key"]}
        await self._pagerduty(key | {"event_action": "acknowledge"})
        await self.ana.is_told(incident, "acknowledgment")
        self.tell.happens("POST /v2/enqueue acknowledge: paging has stopped", GREEN)
        await self._pagerduty(key | {"event_action": "resolve"})
        await self.ana.is_told(incident, "resolution")
        self.tell.happens("POST /v2/enqueue resolve: it is over", GREEN)

    async def nobody_answers(self) -> None:
        """gRPC, with the same request twice, while no service answers."""
        self.tell.chapter("Over gRPC: a batch job that nobody answers for")
        request_id = str(uuid.uuid4())
        alert = {"dedup_key": "batch/42", "source": "cron1", "labels": {"job": "billing"}}
        first = await self.batch.sends("billing run has failed", request_id=request_id, **alert)
        again = await self.batch.sends("billing run has failed", request_id=request_id, **alert)
        self.tell.happens(f"SendAlert: {outcome(first.outcome)}, {short(first.incident)}")
        answer = "the first answer again" if again == first else "another answer, which is wrong"
        self.tell.happens(f"SendAlert repeated with the same request_id: {answer}")
        await self._paged(self.ana, first.incident, 1)
        await self._paged(self.cem, first.incident, 0)
        await self.tenant.world.idle()
        self.tell.happens("nobody answered at any level: the incident is EXHAUSTED, and the log says it loudly", YELLOW)
        self.exhausted = first.incident

    async def tenant_time(self, seconds: float) -> None:
        """Real seconds pass; the demo shows the real clock."""
        await asyncio.sleep(seconds)

    async def _paged(self, person: Person, incident: str, level: int) -> None:
        page = await person.is_paged(incident, level=level)
        self.pages.setdefault(incident, []).append((person.id, level))
        where = "no level is left; fallback target:" if level == 0 else f"level {level}:"
        self.tell.happens(f"{where} {person.id} paged by {page.channel}: {page.subject}", BLUE)

    async def _only_incident(self, title: str) -> str:
        entries = await self.tenant.incidents_titled(title)
        assert len(entries) == 1, f"{len(entries)} incidents are called {title!r}"
        return entries[0]

    async def _alertmanager(self, body: dict[str, Any]) -> int:
        return (await self._post("/v1/alertmanager", body, self.prometheus))[0]

    async def _pagerduty(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        status, text = await self._post("/v2/enqueue", body)
        assert status == 202, f"{status} {text}"
        return status, json.loads(text)

    async def _post(self, path: str, body: dict[str, Any], sender: Sender | None = None) -> tuple[int, str]:
        url = self.tenant.world.stack.services["ingest"][0].http_url + path
        headers = {"Authorization": f"Bearer {sender.key}"} if sender else {}
        async with aiohttp.ClientSession() as session, session.post(url, json=body, headers=headers) as response:
            return response.status, await response.text()


def payload(name: str) -> dict[str, Any]:
    """A recorded payload."""
    text = (files("tocsin_testkit.demo") / "payloads" / f"{name}.json").read_text()
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def short(incident: str) -> str:
    """An incident's name, short enough for a line."""
    return incident[:18] + "…"


def outcome(value: int) -> str:
    """An outcome in a word."""
    return alert_pb2.AlertOutcome.Name(value).removeprefix("ALERT_OUTCOME_").lower()  # type: ignore[arg-type]
