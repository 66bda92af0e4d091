"""When a page is late is asked twice: in Python when it arrives, and in SQL while its row waits. Both must say the same."""

from datetime import timedelta
from itertools import product
from math import isinf
from uuid import UUID

from tocsin_notify.domain.page import LATE, NEWS, PAGES, Kind, is_late
from tocsin_notify.store.delivery import candidates

from tests.store.notify.support import World, job, new_org

OF_INCIDENTS = sorted(PAGES | NEWS)
_TICK = timedelta(microseconds=1)
_AGO = (None, timedelta(0), LATE - _TICK, LATE, LATE + _TICK, 3 * LATE, -3 * LATE)
"""How long before its arrival a page was planned."""


async def test_a_row_that_waits_is_late_exactly_if_its_page_was_when_it_arrived(world: World) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    cases = list(product(OF_INCIDENTS, _AGO))
    async with world.replica(works=False) as notify:
        jobs = [job(org) for _ in cases]
        await notify.submit(*jobs)
        found: dict[tuple[Kind, timedelta | None], tuple[bool, bool]] = {}
        for each, (kind, ago) in zip(jobs, cases, strict=True):
            row = await world.row(
                """WITH page AS (
                     UPDATE pages p SET type = $2, planned_time = n.create_time - $3::interval FROM notifications n
                     WHERE p.id = $1 AND n.page_id = p.id RETURNING p.planned_time, n.id, n.create_time)
                   SELECT * FROM page""",
                UUID(each.page.removeprefix("pages/")),
                kind,
                ago,
            )
            async with notify.runtime.database.system() as tx:
                [waiting] = await candidates.named(tx, [row["id"]])
            found[kind, ago] = is_late(kind, row["planned_time"], row["create_time"]), isinf(waiting.age)
    assert {case: said for case, said in found.items() if said[0] != said[1]} == {}
    assert {case for case, said in found.items() if said[0]} == {
        (kind, ago)
        for kind in (Kind.NEW_INCIDENT, Kind.ESCALATION, Kind.URGENCY_RAISED)
        for ago in (LATE + _TICK, 3 * LATE)
    }
