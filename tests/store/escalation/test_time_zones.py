"""A page says in which time zone its user reads times."""

from datetime import timedelta

from tocsin_escalation.app.computing import Computations
from tocsin_escalation.app.people import people
from tocsin_escalation.app.people import policies as writing
from tocsin_escalation.domain.events import RespondersAdded
from tocsin_escalation.domain.policy import Level, Policy, Target, TargetKind
from tocsin_escalation.store.people.directory import UserRow
from tocsin_kit.db.pool import Tx

from tests.store.escalation.recorders import ORG, Desk
from tests.store.escalation.test_forgotten_pages import handed_over

CEM, DORA, CORE = Target(TargetKind.USER, "cem"), Target(TargetKind.USER, "dora"), Target(TargetKind.TEAM, "core")


async def test_it_is_that_of_the_user(desk: Desk) -> None:
    async def make(tx: Tx) -> None:
        await people.create_user(tx, UserRow("cem", "Cem", "Asia/Kolkata", False))
        await people.create_user(tx, UserRow("dora", "Dora", "Europe/Lisbon", False))
        level = Level((CEM, Target(TargetKind.USER, "ana")), timedelta(minutes=5))
        await writing.create(tx, Policy("far", (level,)), "Far", False, Computations())

    await desk.db.run(ORG, make)
    incident = await desk.opens(policy="far")
    await desk.take(incident, RespondersAdded("users/ana", (DORA,)))
    zones = {job.user: job.time_zone for job in await handed_over(desk)}
    assert zones == {"users/cem": "Asia/Kolkata", "users/ana": "", "users/dora": "Europe/Lisbon"}
