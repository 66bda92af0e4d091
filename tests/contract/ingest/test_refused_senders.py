"""A limit that refuses a sender leaves a note, at every listener: the sender does not count as silent, and its incidents are not
resolved for it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import aiohttp
import grpc
from tocsin.ingest.v1.alert_service_pb2 import (
    ListAlertsRequest,
    SendAlertsRequest,
    SendHeartbeatRequest,
    StreamAlertsRequest,
)
from tocsin_ingest.app.alerts.admission import ALERTS
from tocsin_ingest.app.alerts.own_alerts import REFUSED, THROTTLED
from tocsin_kit.budgets import BYTES, RPCS
from tocsin_testkit.busy import until

from tests.contract.ingest.test_integration_service import error_of
from tests.store.ingest.support import Ingest, bearer, key, new_org, trigger

_BODY: Final = {"version": "4", "alerts": [{"status": "firing", "labels": {"alertname": "Disk"}}]}


async def _alert(ingest: Ingest, _: aiohttp.ClientSession, secret: str) -> bool:
    error = await error_of(ingest.alerts.SendAlert(trigger("k"), metadata=key(secret)))
    return error.metadata["limit"] == RPCS


async def _heartbeat(ingest: Ingest, _: aiohttp.ClientSession, secret: str) -> bool:
    error = await error_of(ingest.alerts.SendHeartbeat(SendHeartbeatRequest(), metadata=key(secret)))
    return error.metadata["limit"] == RPCS


async def _posted_alert(ingest: Ingest, http: aiohttp.ClientSession, secret: str) -> bool:
    async with http.post(f"{ingest.http}/v1/alertmanager/{secret}", json=_BODY) as response:
        return response.status == 503


async def _posted_heartbeat(ingest: Ingest, http: aiohttp.ClientSession, secret: str) -> bool:
    async with http.post(f"{ingest.http}/v1/heartbeat/{secret}") as response:
        return response.status == 429


_DOORS: Final[dict[str, Callable[[Ingest, aiohttp.ClientSession, str], Awaitable[bool]]]] = {
    "alert": _alert,
    "heartbeat": _heartbeat,
    "posted-alert": _posted_alert,
    "posted-heartbeat": _posted_heartbeat,
}
"""Calls that a limit refuses, by the integration that makes them."""


async def until_noted(ingest: Ingest, org: str, wanted: set[str]) -> None:
    """Until these integrations are noted, and no others."""
    noted = set[str]()
    async with asyncio.timeout(60):
        while not noted >= wanted:
            await asyncio.sleep(0.05)
            async with ingest.database.transaction(org) as tx:
                noted = {row["integration_id"] for row in await tx.fetch("SELECT integration_id FROM intakes")}
    assert noted == wanted


async def test_a_limit_of_the_tenant_is_noted_for_the_integration_whose_call_it_refused(ingest: Ingest) -> None:
    """By its key; a person's call that was not read yet may be of any."""
    org = new_org()
    made = {door: await ingest.integration(org, integration_id=door) for door in _DOORS}
    read = (ListAlertsRequest(), bearer(org))
    await ingest.alerts.ListAlerts(read[0], metadata=read[1])
    ingest.runtime.rpc.budgets.note(org, RPCS, 1e9)
    error = await error_of(ingest.alerts.ListAlerts(read[0], metadata=read[1]))
    assert error.metadata["limit"] == RPCS
    async with aiohttp.ClientSession() as http:
        for door, (_, secret) in made.items():
            ingest.runtime.rpc.budgets.note(org, RPCS, 1e9)
            assert await _DOORS[door](ingest, http, secret), door
    await until_noted(ingest, org, set(_DOORS))
    ingest.runtime.rpc.budgets.note(org, RPCS, 1e9)
    await error_of(ingest.alerts.SendAlerts(SendAlertsRequest(alerts=[trigger("k")]), metadata=bearer(org)))
    await until_noted(ingest, org, {*_DOORS, ""})


async def test_a_limit_of_alerts_is_noted_for_the_integration_that_the_call_names(ingest: Ingest) -> None:
    org = new_org()
    name, _ = await ingest.integration(org, integration_id="named")
    request = trigger("k", integration=name)
    ingest.runtime.rpc.budgets.note(org, ALERTS, 1e9)
    error = await error_of(ingest.alerts.SendAlert(request, metadata=bearer(org)))
    assert error.metadata["limit"] == ALERTS
    ingest.runtime.rpc.budgets.note(org, ALERTS, 1e9)
    [result] = (await ingest.alerts.SendAlerts(SendAlertsRequest(alerts=[request]), metadata=bearer(org))).results
    assert result.HasField("error")
    await until_noted(ingest, org, {"named"})


async def test_a_stream_that_a_limit_ends_is_noted(ingest: Ingest) -> None:
    org = new_org()
    _, secret = await ingest.integration(org, integration_id="streaming")
    ingest.runtime.rpc.budgets.note(org, BYTES, 1e12)
    stream = ingest.alerts.StreamAlerts(
        iter([StreamAlertsRequest(sequence=1, request=trigger("k"))]), metadata=key(secret)
    )
    assert await stream.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await until_noted(ingest, org, {"streaming"})


async def test_people_hear_of_what_a_limit_refused_once_an_hour_and_how_much_it_was(ingest: Ingest) -> None:
    """Its sender does not send it again."""
    org = new_org()
    _, secret = await ingest.integration(org, integration_id="fast")
    await ingest.integration(org, integration_id="beating")

    async def refuse(number: int) -> None:
        for each in range(number):
            ingest.runtime.rpc.budgets.note(org, ALERTS, 1e9)
            error = await error_of(ingest.alerts.SendAlert(trigger(f"k{each}"), metadata=key(secret)))
            assert error.metadata["limit"] == ALERTS

    async def told() -> list[tuple[str, int]]:
        listed = await ingest.alerts.ListAlerts(ListAlertsRequest(), metadata=bearer(org))
        return [(each.summary, each.count) for each in listed.alerts if each.dedup_key == THROTTLED]

    async def counted(number: int) -> bool:
        async with ingest.database.transaction(org) as tx:
            return bool(await tx.fetchval("SELECT coalesce(sum(refused), 0) FROM intakes") == number)

    async def passes(minutes: int) -> None:
        async with ingest.database.transaction(org) as tx:
            await tx.execute("UPDATE intakes SET report_time = report_time - make_interval(mins => $1)", minutes)

    await ingest.alerts.SendAlert(trigger("k"), metadata=key(secret))
    await refuse(3)
    await until(lambda: counted(3))
    assert await told() == []
    await passes(minutes=2)
    await until(lambda: counted(0))
    await until(lambda: told_times(told, 1))
    [(summary, _)] = await told()
    assert summary.startswith("3 alerts were refused by a limit, and lost unless sent again: ")
    await refuse(2)
    await until(lambda: counted(2))
    await passes(minutes=50)
    await refuse(1)
    await until(lambda: counted(3))
    assert await told_times(told, 1)
    await passes(minutes=20)
    await until(lambda: told_times(told, 2))


async def told_times(told: Callable[[], Awaitable[list[tuple[str, int]]]], times: int) -> bool:
    return [count for _, count in await told()] == [times]


async def test_a_heartbeat_that_a_limit_refuses_is_no_alert(ingest: Ingest) -> None:
    org = new_org()
    _, secret = await ingest.integration(org, integration_id="beating")
    await error_of(
        ingest.alerts.SendHeartbeat(SendHeartbeatRequest(), metadata=key(secret))
    )  # the tenant is known from here on
    async with aiohttp.ClientSession() as http:
        for door in (_heartbeat, _posted_heartbeat):
            ingest.runtime.rpc.budgets.note(org, RPCS, 1e9)
            assert await door(ingest, http, secret)
    await until_noted(ingest, org, {"beating"})
    async with ingest.database.transaction(org) as tx:
        assert await tx.fetchval("SELECT refused FROM intakes") == 0


async def test_no_limit_keeps_people_from_hearing_of_what_was_refused(ingest: Ingest) -> None:
    """A sender of much that is refused has used up its limits by it."""
    org = new_org()
    _, secret = await ingest.integration(org, integration_id="wrong")
    await ingest.alerts.SendAlert(trigger("k"), metadata=key(secret))
    ingest.runtime.rpc.budgets.note(org, ALERTS, 1e9)
    async with aiohttp.ClientSession() as http:
        for body, status in (({"alerts": [{"status": "melting", "labels": {"a": "b"}}]}, 400), (_BODY, 503)):
            async with http.post(f"{ingest.http}/v1/alertmanager/{secret}", json=body) as response:
                assert response.status == status
    listed = await ingest.alerts.ListAlerts(ListAlertsRequest(), metadata=bearer(org))
    assert {each.dedup_key for each in listed.alerts} == {"k", REFUSED}
