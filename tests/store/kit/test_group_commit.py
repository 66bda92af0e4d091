"""Calls that arrive together share a transaction; what one of them runs into is no answer to the others."""

import asyncio
from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1.alert_service_pb2 import SendAlertRequest, SendAlertResponse
from tocsin_kit.auth import Principal
from tocsin_kit.db.group_commit import GroupCommit
from tocsin_kit.db.pool import Tx
from tocsin_kit.errors import TocsinError
from tocsin_kit.rpc.call import Call, enter

_ADD = "UPDATE widgets SET size = size + 1 WHERE org_id = $1 AND name = ANY($2::text[]) RETURNING name, size"


async def test_calls_of_a_tenant_go_together_and_those_of_others_beside_them(open_database: Any) -> None:
    db = await open_database()
    batches: list[tuple[str, int]] = []

    async def work(tx: Tx, wanted: Sequence[str]) -> list[SendAlertResponse]:
        batches.append((tx.org_id, len(wanted)))
        return [SendAlertResponse(dedup_key=each) for each in wanted]

    commits = GroupCommit(db, "Send", SendAlertResponse, work)
    answers = await asyncio.gather(*(_call(commits, org, str(number)) for number in range(5) for org in ("a", "b")))
    assert [each.dedup_key for each in answers] == [str(number) for number in range(5) for _ in "ab"]
    assert sorted(batches) == [("a", 5), ("b", 5)]


async def test_a_call_that_waits_for_another_session_in_vain_fails_alone(open_database: Any, url: str) -> None:
    db = await open_database(lock_timeout=0.05)
    async with db.transaction("a") as tx:
        await tx.execute(
            "INSERT INTO widgets (org_id, name, size) SELECT 'a', g::text, 0 FROM generate_series(0, 2) AS g"
        )

    async def work(tx: Tx, wanted: Sequence[str]) -> list[SendAlertResponse]:
        sizes = {row["name"]: row["size"] for row in await tx.fetch(_ADD, tx.org_id, list(wanted))}
        return [SendAlertResponse(count=sizes[each]) for each in wanted]

    commits = GroupCommit(db, "Send", SendAlertResponse, work)
    holder = await asyncpg.connect(url, server_settings={"tocsin.org_id": "*"})
    async with holder.transaction():
        await holder.execute("SELECT FROM widgets WHERE name = '1' FOR UPDATE")
        calls = [_call(commits, "a", str(number)) for number in range(3)]
        before, held, after = await asyncio.gather(*calls, return_exceptions=True)
    await holder.close()
    assert isinstance(before, SendAlertResponse)
    assert isinstance(after, SendAlertResponse)
    assert (before.count, after.count) == (1, 1), "each was done once"
    assert isinstance(held, TocsinError)
    assert held.reason == ErrorReason.ERROR_REASON_CONFLICT


async def test_what_the_work_answers_with_an_error_is_raised_for_that_call(open_database: Any) -> None:
    refusal = TocsinError(ErrorReason.ERROR_REASON_RATE_LIMITED, "no")

    async def work(tx: Tx, wanted: Sequence[str]) -> list[SendAlertResponse | TocsinError]:
        return [refusal if each == "1" else SendAlertResponse() for each in wanted]

    commits = GroupCommit(await open_database(), "Send", SendAlertResponse, work)
    first, second = _call(commits, "a", "0"), _call(commits, "a", "1")
    assert await first == SendAlertResponse()
    with pytest.raises(TocsinError, match="no"):
        await second


def _call(commits: GroupCommit[str, SendAlertResponse], org_id: str, wanted: str) -> "asyncio.Task[SendAlertResponse]":
    async def serve() -> SendAlertResponse:
        enter(Call("Send", Principal(org_id, "users/ana", frozenset()), "", None))
        return await commits.once_together(SendAlertRequest(), wanted)

    return asyncio.create_task(serve())
