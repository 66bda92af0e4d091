"""Integration keys that do not exist: they cost a few queries together, and delay no sender whose key is right."""

import asyncio
import secrets

import aiohttp
import grpc
import pytest
from tocsin_ingest.store.integrations import integrations
from tocsin_testkit.busy import within

from tests.store.ingest.support import FakeEscalation, key, new_org, running, trigger

FLOOD = 1500


def invented() -> str:
    return f"tik_{secrets.token_urlsafe(32)}"


async def test_a_flood_of_wrong_keys_costs_few_queries_and_a_right_one_gets_in(
    database_url: str, escalation: FakeEscalation, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = 0
    ask = integrations.find_keys

    async def counted(*arguments: object) -> object:
        nonlocal queries
        queries += 1
        return await ask(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(integrations, "find_keys", counted)
    async with (
        running(database_url, escalation.target, auth_wrong_per_second=1) as ingest,
        aiohttp.ClientSession() as http,
    ):
        right = (await ingest.integration(new_org()))[1]
        new = (await ingest.integration(new_org()))[1]
        url = f"{ingest.http}/v1/alertmanager"

        async def post(token: str) -> int:
            headers = {"Authorization": f"Bearer {token}"}
            async with http.post(url, json={"version": "4", "alerts": []}, headers=headers) as response:
                return response.status

        async def call(token: str) -> str:
            try:
                await ingest.alerts.SendAlert(trigger("a"), metadata=key(token), timeout=60)
            except grpc.aio.AioRpcError as error:
                return error.code().name
            return "OK"

        assert await call(right) == "OK"
        before = queries
        flood = [asyncio.create_task((post if number % 3 == 0 else call)(invented())) for number in range(FLOOD)]
        assert await call(right) == "OK"
        async with asyncio.timeout(within(60)):
            # Never seen before, it may be told to come again while a thousand wrong ones of its address wait.
            while (told := await call(new)) == "RESOURCE_EXHAUSTED":
                continue
        assert told == "OK"
        async with asyncio.timeout(within(60)):
            while (status := await post(new)) == 503:  # by which Alertmanager comes again
                continue
        assert status == 200
        answers = await asyncio.gather(*flood)
        assert set(answers) <= {401, 503, "UNAUTHENTICATED", "RESOURCE_EXHAUSTED", "UNAVAILABLE"}
        assert {401, 503, "UNAUTHENTICATED", "RESOURCE_EXHAUSTED"} <= set(answers)
        assert queries - before < FLOOD / 5
        assert await call(right) == "OK"
