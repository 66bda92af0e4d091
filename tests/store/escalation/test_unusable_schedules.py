"""A schedule that this version cannot resolve keeps no other user from being paged."""

import asyncio
import json
import threading
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from tocsin_escalation.app.computing import Computations, compute
from tocsin_escalation.app.people import people, policies
from tocsin_escalation.domain.policy import Level, Policy, Target, TargetKind
from tocsin_escalation.domain.schedules.model import Layer, Turn, Unit
from tocsin_escalation.store.people.directory import UserRow
from tocsin_escalation.store.schedules import schedules
from tocsin_escalation.store.schedules.schedules import ScheduleRow, layers_to_json
from tocsin_kit.db.pool import Tx
from tocsin_kit.errors import TocsinError
from tocsin_testkit.busy import within

from tests.store.escalation.recorders import ORG, Desk

FIVE = timedelta(minutes=5)
WEEK = Layer("week", (Turn(Unit.WEEK, 1),), 0, (("ana",),), "UTC")


async def test_an_incident_pages_who_can_be_found_even_if_a_schedule_cannot_be_resolved(desk: Desk) -> None:
    [data] = json.loads(layers_to_json((WEEK,)))
    written = {
        "gone": [data | {"zone": "Nowhere/Gone"}],
        "never": [data | {"turns": []}],
        "nobody": [data | {"line_up": []}],
    }

    async def work(tx: Tx) -> None:
        for id, layers in written.items():
            await schedules.insert(tx, ScheduleRow(id, id, "", "UTC", False, (WEEK,)))
            await tx.execute("UPDATE schedules SET layers = $1 WHERE id = $2", json.dumps(layers), id)
            named = Target(TargetKind.SCHEDULE, id)
            levels = (Level((named,), FIVE), Level((Target(TargetKind.USER, "ben"), named), FIVE))
            await policies.create(tx, Policy(id, levels), id, False, Computations())

    await desk.db.run(ORG, work)
    found = {id: await desk.paged(await desk.opens(policy=id)) for id in written}
    assert found == {"gone": [(1, "ana")], "never": [(2, "ben")], "nobody": [(2, "ben")]}


async def test_a_page_does_not_wait_for_what_callers_ask(desk: Desk) -> None:
    """Questions of callers keep all threads for as long as they like: pages have threads of their own."""
    go, loop = threading.Event(), asyncio.get_running_loop()

    async def work(tx: Tx) -> None:
        await schedules.insert(tx, ScheduleRow("one", "one", "", "UTC", False, (WEEK,)))
        await policies.create(
            tx, Policy("one", (Level((Target(TargetKind.SCHEDULE, "one"),), FIVE),)), "one", False, Computations()
        )

    await desk.db.run(ORG, work)
    asked: list[asyncio.Future[Any]] = [asyncio.create_task(compute("other", go.wait))]
    asked += [loop.run_in_executor(None, go.wait) for _ in range(64)]  # more than asyncio has threads
    try:
        async with asyncio.timeout(within(20)):
            assert await desk.paged(await desk.opens(policy="one")) == [(1, "ana")]
    finally:
        go.set()
        await asyncio.gather(*asked)


async def test_a_user_has_a_zone_that_everybody_knows_and_one_that_was_given_up_is_in_no_way(desk: Desk) -> None:
    """A name that the host alone has is refused; a user whose zone the data have given up can still be disabled."""

    async def hire(tx: Tx, zone: str) -> None:
        await people.create_user(tx, UserRow("cem", "Cem", zone, False))

    for name in ("posixrules", "localtime", "right/Europe/Berlin", "Nowhere/Gone"):
        with pytest.raises(TocsinError, match="is no IANA time zone"):
            await desk.db.run(ORG, partial(hire, zone=name))

    async def given_up(tx: Tx) -> None:
        await tx.execute("UPDATE users SET time_zone = 'Nowhere/Gone' WHERE id = 'ben'")
        await people.update_user(tx, "ben", "", lambda row: replace(row, disabled=True))

    await desk.db.run(ORG, given_up)
