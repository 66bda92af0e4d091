"""A repeat gets the first answer; twins never do the work twice."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import asyncpg
import pytest
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1.alert_service_pb2 import SendAlertRequest, SendAlertResponse
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.db.requests import (
    StoredAnswer,
    body_hash,
    keep,
    once,
    once_each,
    once_kept,
    recall,
    remember,
    sweep_requests,
)
from tocsin_kit.errors import TocsinError

Eventually = Callable[..., Awaitable[None]]
ID = "0198c5f0-0000-7000-8000-000000000001"
COUNT = """
INSERT INTO widgets (org_id, name, size) VALUES ($1, 'runs', 1)
ON CONFLICT (org_id, name) DO UPDATE SET size = widgets.size + 1 RETURNING size
"""


def request(request_id: str = ID, integration: str = "integrations/one") -> SendAlertRequest:
    return SendAlertRequest(request_id=request_id, integration=integration)


async def answer(tx: Tx, message: SendAlertRequest, method: str = "Send") -> int:
    async def work() -> SendAlertResponse:
        return SendAlertResponse(count=await tx.fetchval(COUNT, tx.org_id))

    return (await once(tx, method, message, SendAlertResponse, work)).count


async def call(db: Database, message: SendAlertRequest, *, org_id: str = "a", method: str = "Send") -> int:
    return await db.run(org_id, lambda tx: answer(tx, message, method))


async def test_a_repeat_gets_the_first_answer(db: Database) -> None:
    assert [await call(db, request()) for _ in range(3)] == [1, 1, 1]


async def test_without_an_id_every_call_works(db: Database) -> None:
    assert [await call(db, request("")) for _ in range(3)] == [1, 2, 3]


async def test_an_id_belongs_to_its_tenant_and_method(db: Database) -> None:
    assert await call(db, request()) == 1
    assert await call(db, request(), org_id="b") == 1
    assert await call(db, request(), method="Other") == 2


async def test_the_same_id_with_another_body_is_refused(db: Database) -> None:
    await call(db, request())
    with pytest.raises(TocsinError) as caught:
        await call(db, request(integration="integrations/two"))
    assert caught.value.reason == ErrorReason.ERROR_REASON_REQUEST_ID_REUSED
    assert [violation.field for violation in caught.value.fields] == ["request_id"]
    assert await call(db, request()) == 1


async def test_a_failed_first_try_leaves_nothing_behind(db: Database) -> None:
    async def fail(tx: Tx) -> None:
        await answer(tx, request())
        raise KeyError

    with pytest.raises(KeyError):
        await db.run("a", fail)
    assert await call(db, request()) == 1


@pytest.mark.parametrize("first_fails", [False, True])
async def test_a_twin_waits_for_the_first(db: Database, eventually: Eventually, first_fails: bool) -> None:
    async def waiting() -> bool:
        async with db.system() as tx:
            return bool(await tx.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

    twin: asyncio.Task[int] | None = None

    async def first(tx: Tx) -> None:
        nonlocal twin
        await answer(tx, request())
        twin = asyncio.create_task(call(db, request()))
        await eventually(waiting)
        if first_fails:
            raise KeyError

    if first_fails:
        with pytest.raises(KeyError):
            await db.run("a", first)
    else:
        await db.run("a", first)
    assert twin is not None
    assert await twin == 1


async def test_a_crowd_of_twins_does_the_work_once(db: Database) -> None:
    assert await asyncio.gather(*(call(db, request()) for _ in range(20))) == [1] * 20


async def kept(db: Database, message: SendAlertRequest, began: Callable[[], Awaitable[None]] | None = None) -> int:
    """`call` by work that writes its answer at its end."""

    async def work(tx: Tx) -> int:
        if began is not None:
            await began()
        assert await tx.fetchval("SHOW plan_cache_mode") == "force_generic_plan"
        count: int = await tx.fetchval(COUNT, tx.org_id)
        await keep(tx, "Send", message, SendAlertResponse(count=count))
        return count

    return await once_kept(db, "a", "Send", message, work, partial(answer, message=message))


async def test_work_that_keeps_its_answer_at_its_end_is_done_once_for_each_request(db: Database) -> None:
    assert [await kept(db, request()) for _ in range(3)] == [1, 1, 1]
    assert await call(db, request()) == 1, "the same row as that of `once`"
    assert [await kept(db, request("")) for _ in range(2)] == [2, 3]
    with pytest.raises(TocsinError) as caught:
        await kept(db, request(integration="integrations/two"))
    assert caught.value.reason == ErrorReason.ERROR_REASON_REQUEST_ID_REUSED
    assert await kept(db, request("'; DROP TABLE widgets; --")) == 4


async def test_twins_that_began_before_either_has_its_answer_get_one_answer(db: Database) -> None:
    begun = asyncio.Barrier(2)
    first_time = set[asyncio.Task[object] | None]()

    async def together() -> None:
        if (mine := asyncio.current_task()) not in first_time:
            first_time.add(mine)
            await begun.wait()

    assert await asyncio.gather(*(kept(db, request(), together) for _ in range(2))) == [1, 1]
    assert await kept(db, request("")) == 2


async def test_a_repeat_that_is_refused_because_of_the_first_gets_the_answer_of_the_first(db: Database) -> None:
    """Both began before either had its answer. What the first did may not be done again."""
    begun = asyncio.Barrier(2)
    first_done = asyncio.Event()

    async def work(tx: Tx, *, leads: bool) -> int:
        await begun.wait()
        if not leads:
            await first_done.wait()
            raise TocsinError(ErrorReason.ERROR_REASON_INCIDENT_STATE, "there is no next level")
        await keep(tx, "Send", request(), SendAlertResponse(count=7))
        return 7

    async def one(*, leads: bool) -> int:
        message = request()
        answered = await once_kept(db, "a", "Send", message, partial(work, leads=leads), lambda tx: answer(tx, message))
        first_done.set()
        return answered

    assert {*await asyncio.gather(one(leads=True), one(leads=False))} == {7}


async def test_a_refusal_of_what_came_for_the_first_time_is_told(db: Database) -> None:
    async def work(tx: Tx) -> int:
        raise TocsinError(ErrorReason.ERROR_REASON_INCIDENT_STATE, "there is no next level")

    for message in (request(), request("")):
        with pytest.raises(TocsinError, match="no next level"):
            await once_kept(db, "a", "Send", message, work, partial(answer, message=message))


async def test_answers_are_kept_for_a_day(db: Database) -> None:
    await call(db, request())
    other = request("0198c5f0-0000-7000-8000-000000000002")
    await call(db, other)
    async with db.system() as tx:
        await tx.execute(
            "UPDATE requests SET create_time = app_now() - interval '24 hours 1 second' WHERE request_id = $1", ID
        )
    assert await sweep_requests(db) == 1
    assert await sweep_requests(db) == 0
    assert await call(db, other) == 2
    assert await call(db, request()) == 3


async def test_answers_kept_in_sets_are_those_of_their_tenant_and_method(db: Database) -> None:
    other = "0198c5f0-0000-7000-8000-000000000002"
    answers = {
        each: StoredAnswer(body_hash(request(each)), SendAlertResponse(count=7).SerializeToString())
        for each in (ID, other)
    }
    async with db.transaction("a") as tx:
        await remember(tx, "Send", answers)
    async with db.transaction("a") as tx:
        assert await recall(tx, "Send", [ID, other, "unknown"]) == answers
        assert await recall(tx, "Other", [ID]) == {}
        # The same rows as those of one request at a time.
        assert await answer(tx, request()) == 7
    async with db.transaction("b") as tx:
        assert await recall(tx, "Send", [ID]) == {}
        await remember(tx, "Send", {ID: answers[ID]})


async def test_an_id_that_was_taken_since_it_was_recalled_is_not_kept_twice(db: Database) -> None:
    await call(db, request())
    with pytest.raises(asyncpg.UniqueViolationError):
        async with db.transaction("a") as tx:
            await remember(tx, "Send", {ID: StoredAnswer(b"", b"")})


async def test_requests_that_are_committed_together_are_answered_as_each_by_itself(db: Database) -> None:
    new, failing = "0198c5f0-0000-7000-8000-000000000002", "0198c5f0-0000-7000-8000-000000000003"
    sent = [
        request(),  # answered before
        request(integration="integrations/two"),
        request(new),
        request(new),
        request(new, "integrations/two"),
        request(failing),
        request(failing),
        request(""),
        request(""),
    ]
    refusal = TocsinError(ErrorReason.ERROR_REASON_RATE_LIMITED, "no")
    worked: list[int] = []

    async def together(messages: list[SendAlertRequest]) -> list[int | str]:
        async def work(tx: Tx, places: Sequence[int]) -> list[SendAlertResponse | TocsinError]:
            worked.extend(places)
            count = [await tx.fetchval(COUNT, tx.org_id) for _ in places]
            return [
                refusal if messages[place].request_id == failing else SendAlertResponse(count=each)
                for place, each in zip(places, count, strict=True)
            ]

        answers = await once_each(db, "a", "Send", [(each, None) for each in messages], SendAlertResponse, work)
        return [each.reason_name if isinstance(each, TocsinError) else each.count for each in answers]

    assert await call(db, request()) == 1
    reused, limited = "REQUEST_ID_REUSED", "RATE_LIMITED"
    assert await together(sent) == [1, reused, 2, 2, reused, limited, limited, 4, 5]
    assert worked == [2, 5, 7, 8]
    assert await together(sent[:6]) == [1, reused, 2, 2, reused, limited], "only what failed is done again"
    assert worked[4:] == [5]
    assert await call(db, request(new)) == 2


async def test_twins_that_are_committed_together_elsewhere_find_the_first_answer(db: Database) -> None:
    async def alone() -> int:
        async def work(tx: Tx, places: Sequence[int]) -> list[SendAlertResponse | TocsinError]:
            return [SendAlertResponse(count=await tx.fetchval(COUNT, tx.org_id))]

        [answer] = await once_each(db, "a", "Send", [(request(), None)], SendAlertResponse, work)
        assert isinstance(answer, SendAlertResponse)
        return answer.count

    assert set(await asyncio.gather(*(alone() for _ in range(8)))) == {1}
