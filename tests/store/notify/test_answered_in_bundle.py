"""Once an acknowledge has returned, no message for several pages starts that still names the page which it answered."""

import asyncio
import json
from typing import Any

import pytest
from tocsin_notify.app.delivery.permits import Permit
from tocsin_notify.domain.page import Kind
from tocsin_notify.store.delivery.gate import incident_key

from tests.store.notify.bundling import COLLECTED, TWO, bundles, delayed_bundle, incident_of, storm
from tests.store.notify.support import WARNING, World, new_org, until


async def test_an_acknowledge_waits_for_a_message_that_names_its_incident_and_is_about_to_start(world: World) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    async with world.replica(**TWO) as notify:
        jobs = await delayed_bundle(world, notify, org, [(503, {"Retry-After": "900"})])
        bundle = (await world.row("SELECT page_id FROM notifications WHERE incident = page_id"))["page_id"]
        async with world.admin.transaction():
            await world.admin.execute("SELECT pg_advisory_xact_lock_shared($1)", incident_key(org, bundle))
            cancelling = asyncio.create_task(notify.cancel(org, incident_of(jobs[2])))
            done, _ = await asyncio.wait([cancelling], timeout=0.3)
            assert not done, "a call may be about to start"
        await cancelling


@pytest.mark.parametrize("every_time", [False, True])
async def test_a_late_message_that_names_an_answered_incident_is_worded_anew(
    world: World, monkeypatch: pytest.MonkeyPatch, every_time: bool
) -> None:
    """Once: while one incident after the other is answered, the message about the others goes all the same."""
    org, late, go = new_org(), asyncio.Event(), asyncio.Event()
    real = Permit.begin

    async def begin(self: Permit, call: Any, *, repeat: bool = False) -> Any:
        if self._delivery.kind is Kind.BUNDLE:
            late.set()
            await go.wait()
            if every_time and self._delivery.attempt > 1:
                await notify.cancel(org, incident_of(jobs[3]))
            repeat = True
        return await real(self, call, repeat=repeat)

    await world.method(org, webhook="ana")
    async with world.replica(**TWO) as notify:
        jobs = await storm(notify, org, WARNING, WARNING)
        await until(lambda: world.arrived("ana") == 2)
        jobs += await storm(notify, org, WARNING, WARNING, WARNING)
        monkeypatch.setattr(Permit, "begin", begin)
        await world.forward(COLLECTED)
        await late.wait()
        await notify.cancel(org, incident_of(jobs[2]))
        go.set()
        await until(lambda: len(bundles(world)) == 1)
        assert len(json.loads(bundles(world)[0].body)["bundle"]["text"].splitlines()) == 2
        row = await world.row("SELECT attempts FROM notifications WHERE incident = page_id")
        assert row["attempts"] == 2, "the first one was given up before it began"
