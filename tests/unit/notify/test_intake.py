"""Which pages are stored together: those of a tenant in a storm never with those of others."""

import asyncio
import gc
from collections.abc import Sequence
from typing import cast
from uuid import uuid4

import pytest
from tocsin.notify.v1.notification_pb2 import NOTIFICATION_TYPE_NEW_INCIDENT, NotificationJob
from tocsin.type.v1.severity_pb2 import SEVERITY_CRITICAL
from tocsin_kit.db.failures import unavailable
from tocsin_notify.app.delivery.people_first import PeopleFirst
from tocsin_notify.app.pages.intake import Intake
from tocsin_notify.app.pages.jobs import read_job
from tocsin_notify.app.pages.recently_stored import RecentlyStored
from tocsin_notify.app.pages.submit import Submit
from tocsin_notify.store.pages.pages import NewPage


class Stored:
    """Stores nothing, and remembers whose pages came together."""

    def __init__(self) -> None:
        self.lately = RecentlyStored()
        self.batches: list[list[str]] = []

    async def __call__(self, given: Sequence[NewPage], *, patience: float = 0.0) -> list[bool]:
        self.batches.append([page.org_id for page in given])
        return [True] * len(given)


def page(org_id: str) -> NewPage:
    return read_job(
        NotificationJob(
            page=f"pages/{uuid4()}",
            org_id=org_id,
            type=NOTIFICATION_TYPE_NEW_INCIDENT,
            user="users/ana",
            incident=f"incidents/{uuid4()}",
            severity=SEVERITY_CRITICAL,
        )
    )


async def test_few_pages_of_a_tenant_that_brings_many_a_second_are_stored_without_those_of_others() -> None:
    stored = Stored()
    intake = Intake(cast(Submit, stored), PeopleFirst(), clock=lambda: 0.0)
    for _ in range(30):
        await intake.submit([page("storm") for _ in range(5)])
    stored.batches.clear()
    await intake.submit([page(org_id) for org_id in ("storm", "victim", "storm", "other")])
    assert sorted(map(sorted, stored.batches)) == [["other", "victim"], ["storm", "storm"]]


async def test_what_may_wait_gives_way_while_pages_are_stored() -> None:
    first = PeopleFirst(most=600.0)

    class Slowly(Stored):
        async def __call__(self, given: Sequence[NewPage], *, patience: float = 0.0) -> list[bool]:
            self.waiting = asyncio.create_task(first.give_way())
            for _ in range(10):
                await asyncio.sleep(0)
            assert not self.waiting.done()
            return await super().__call__(given, patience=patience)

    stored = Slowly()
    await Intake(cast(Submit, stored), first, clock=lambda: 0.0).submit([page("acme")])
    await stored.waiting


async def test_pages_that_fail_after_their_caller_has_left_leave_no_unretrieved_error() -> None:
    """With a full disk the log had a line for each page, as if each were a defect."""
    unseen: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: unseen.append(about))
    go = asyncio.Event()

    class Full(Stored):
        async def __call__(self, given: Sequence[NewPage], *, patience: float = 0.0) -> list[bool]:
            await go.wait()
            raise unavailable("the disk is full")

    intake = Intake(cast(Submit, Full()), PeopleFirst(), clock=lambda: 0.0)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(intake.submit([page("acme") for _ in range(5)]), 0.01)
    go.set()
    await intake.drain()
    gc.collect()
    assert unseen == []
