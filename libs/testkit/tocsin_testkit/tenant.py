"""One customer of Tocsin: people with phones, policies, and systems that send alerts."""

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any

from google.protobuf.duration_pb2 import Duration
from tocsin.escalation.v1 import (
    directory_service_pb2,
    incident_pb2,
    incident_service_pb2,
    policy_service_pb2,
    schedule_pb2,
    schedule_service_pb2,
)
from tocsin.ingest.v1 import alert_pb2, alert_service_pb2, integration_service_pb2
from tocsin.type.v1 import severity_pb2, target_pb2

from tocsin_testkit.busy import within
from tocsin_testkit.clients import Clients
from tocsin_testkit.inbox import PATIENCE
from tocsin_testkit.installation import Installation
from tocsin_testkit.person import Person
from tocsin_testkit.received import Received


class Tenant:
    """Everything a test says happens through the public RPCs of this tenant."""

    def __init__(self, world: Installation, org_id: str) -> None:
        self.world = world
        self.org_id = org_id
        self.admin = world.clients(org_id)
        self.everybody: dict[str, Person] = {}

    async def person(self, name: str, *, email: bool = False, webhook: bool = True) -> Person:
        """A user with one verified contact method: a webhook, or an e-mail address; with neither they cannot be reached."""
        user = directory_service_pb2.User(display_name=name.title())
        await self.admin.directory.CreateUser(directory_service_pb2.CreateUserRequest(user_id=name, user=user))
        person = Person(self.world, self.org_id, name)
        self.everybody[name] = person
        if email:
            await person.adds_email()
        elif webhook:
            await person.adds_webhook()
        return person

    async def people(self, *names: str) -> list[Person]:
        """Several of them, each with a webhook."""
        return [await self.person(name) for name in names]

    async def team(self, name: str, *members: Person) -> str:
        """A team: `teams/{name}`."""
        team = directory_service_pb2.Team(display_name=name, members=[member.name for member in members])
        await self.admin.directory.CreateTeam(directory_service_pb2.CreateTeamRequest(team_id=name, team=team))
        return f"teams/{name}"

    async def schedule(self, name: str, *line_up: Person, weeks: int = 1, start: str = "2026-01-05T09:00") -> str:
        """A schedule in UTC whose people take weeks in turn: `schedules/{name}`. `start` is when the first has the first."""
        layer = schedule_pb2.Layer(
            layer_id="week",
            turns=[schedule_pb2.Turn(unit=schedule_pb2.TURN_UNIT_WEEK, count=weeks)],
            start=start,
            line_up=[schedule_pb2.LineUpEntry(users=[one.name]) for one in line_up],
        )
        schedule = schedule_pb2.Schedule(display_name=name, time_zone="UTC", layers=[layer] if line_up else [])
        request = schedule_service_pb2.CreateScheduleRequest(schedule_id=name, schedule=schedule)
        return str((await self.admin.schedules.CreateSchedule(request)).schedule.name)

    async def policy(
        self,
        *levels: Sequence[Person | str],
        minutes: float = 5,
        name: str = "",
        turn_minutes: float | None = None,
        **fields: Any,
    ) -> str:
        """A policy whose levels each wait `minutes`: `policies/{name}`. A target is a person or a resource name.

        With `turn_minutes` the levels page one in turn, and the next after so many minutes; 0: only if they cannot be reached.
        """
        in_turn = turn_minutes is not None
        turns = Duration(seconds=round(turn_minutes * 60)) if turn_minutes else None
        policy = policy_service_pb2.Policy(
            display_name=name or "Policy",
            levels=[
                policy_service_pb2.Level(
                    targets=[target(one) for one in level],
                    timeout=Duration(seconds=round(minutes * 60)),
                    mode=policy_service_pb2.LEVEL_MODE_IN_TURN if in_turn else policy_service_pb2.LEVEL_MODE_ALL,
                    turn_timeout=turns,
                )
                for level in levels
            ],
            **fields,
        )
        request = policy_service_pb2.CreatePolicyRequest(policy_id=name, policy=policy)
        response = await self.admin.policies.CreatePolicy(request)
        return str(response.policy.name)

    async def integration(self, policy: str = "", **fields: Any) -> "Sender":
        """A system that sends alerts, with its key."""
        integration = integration_service_pb2.Integration(display_name="prometheus", default_policy=policy, **fields)
        request = integration_service_pb2.CreateIntegrationRequest(integration=integration)
        response = await self.admin.integrations.CreateIntegration(request)
        return Sender(self, response.integration.name, response.key)

    async def incident(self, name: str) -> incident_pb2.Incident:
        """An incident as it is now."""
        response = await self.admin.incidents.GetIncident(incident_service_pb2.GetIncidentRequest(name=name))
        return response.incident  # type: ignore[no-any-return]

    async def incidents_titled(self, title: str) -> list[str]:
        """The incidents with this title, newest first, once escalation has heard of one."""
        request = incident_service_pb2.ListIncidentsRequest()
        async with asyncio.timeout(within(PATIENCE)):
            while True:
                answer = await self.admin.incidents.ListIncidents(request)
                if found := [incident.name for incident in answer.incidents if incident.title == title]:
                    return found
                await asyncio.sleep(0.05)

    async def timeline(self, name: str) -> list[incident_pb2.TimelineEntry]:
        """What happened to an incident."""
        request = incident_service_pb2.ListTimelineRequest(incident=name, page_size=500)
        return list((await self.admin.incidents.ListTimeline(request)).entries)

    async def passes(self, *, minutes: float = 0, seconds: float = 0) -> None:
        """Time passes, and everything that falls due happens."""
        await self.world.passes(minutes=minutes, seconds=seconds)

    def expected(self, message: Received) -> Received:
        """The test has asked for this message."""
        return self.world.inbox.expect(message)

    def unexpected(self) -> list[str]:
        """Pages and news that the test did not ask for."""
        return [
            f"{m.address} got {m.kind}: {m.subject!r}"
            for m in self.world.inbox.messages
            if m.kind != "verification" and not self.world.inbox.is_expected(m) and self.owns(m)
        ]

    def owns(self, message: Received) -> bool:
        """Whether a message went to one of this tenant's people."""
        return any(message.address in person.addresses for person in self.everybody.values())


class Sender:
    """A monitoring system with an integration key."""

    def __init__(self, tenant: Tenant, name: str, key: str) -> None:
        self.tenant = tenant
        self.name = name
        self.key = key
        self._clients = Clients(tenant.world.channels, key)

    async def sends(
        self, summary: str = "", *, request_id: str = "", **fields: Any
    ) -> alert_service_pb2.SendAlertResponse:
        """One alert over gRPC; critical unless it says otherwise."""
        fields.setdefault("severity", severity_pb2.SEVERITY_CRITICAL)
        alert = alert_pb2.AlertInput(summary=summary, **fields)
        request = alert_service_pb2.SendAlertRequest(request_id=request_id or str(uuid.uuid4()), alert=alert)
        return await self._clients.alerts.SendAlert(request)  # type: ignore[no-any-return]

    async def triggers(self, summary: str, **fields: Any) -> str:
        """Something is wrong: the incident's name."""
        return str((await self.sends(summary, **fields)).incident)

    async def resolves(self, dedup_key: str) -> alert_service_pb2.SendAlertResponse:
        """It is over."""
        return await self.sends(action=alert_pb2.ALERT_ACTION_RESOLVE, dedup_key=dedup_key)


def target(one: Person | str) -> target_pb2.Target:
    """A target of the contract."""
    name = one.name if isinstance(one, Person) else one
    kind = {"teams": "team", "schedules": "schedule"}.get(name.partition("/")[0], "user")
    return target_pb2.Target(**{kind: name})
