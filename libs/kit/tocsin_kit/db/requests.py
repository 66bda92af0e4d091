"""Idempotency: a mutation repeated with its `request_id` within 24 hours gets its first answer (AIP-155).

The row is written first, in the transaction of the work itself. A concurrent repeat waits for it, and then finds the answer or,
when the first call failed, does the work.
"""

import hashlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import asyncpg
from google.protobuf.message import Message
from tocsin.errors.v1.error_reason_pb2 import ErrorReason

from tocsin_kit.db.audit import Served, write_entries, write_entry
from tocsin_kit.db.inlined import inlined
from tocsin_kit.db.pool import ONE_PLAN, Database, OneRoundTrip, Tx
from tocsin_kit.db.retention import delete_in_batches
from tocsin_kit.errors import FieldViolation, TocsinError
from tocsin_kit.rpc.call import Call

R = TypeVar("R", bound=Message)
T = TypeVar("T")

KEPT: Final = "24 hours"
_SWEEP_BATCH: Final = 1000
_SWEEP_ROUNDS: Final = 100
_MAX_ID: Final = 128

_CLAIM: Final = """
INSERT INTO requests (org_id, method, request_id, body_hash) VALUES ($1, $2, $3, $4)
ON CONFLICT (org_id, method, request_id) DO NOTHING
RETURNING true
"""
_READ: Final = "SELECT body_hash, response FROM requests WHERE org_id = $1 AND method = $2 AND request_id = $3"
_ANSWER: Final = "UPDATE requests SET response = $4 WHERE org_id = $1 AND method = $2 AND request_id = $3"
_ASKED: Final = "SELECT FROM requests WHERE org_id = $1 AND method = $2 AND request_id = $3"
_ASKED_BEFORE: Final = "SELECT 1"
_KEEP: Final = "INSERT INTO requests (org_id, method, request_id, body_hash, response) VALUES ($1, $2, $3, $4, $5)"
_RECALL: Final = """
SELECT request_id, body_hash, response FROM requests WHERE org_id = $1 AND method = $2 AND request_id = ANY($3::text[])
"""
_REMEMBER: Final = """
INSERT INTO requests (org_id, method, request_id, body_hash, response)
SELECT $1, $2, * FROM unnest($3::text[], $4::bytea[], $5::bytea[])
"""
_SWEEP: Final = f"""
DELETE FROM requests WHERE (org_id, method, request_id) IN (
    SELECT org_id, method, request_id FROM requests WHERE create_time < app_now() - interval '{KEPT}'
    ORDER BY create_time LIMIT $1 FOR UPDATE SKIP LOCKED
)
"""


_REUSED: Final = "was used for a request with another body; use a new UUID"


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """The first answer to a request id, serialized, and the hash of the request that it answered."""

    body_hash: bytes
    response: bytes


def body_hash(request: Message) -> bytes:
    """Whether two requests with one id are the same."""
    return hashlib.sha256(request.SerializeToString(deterministic=True)).digest()


def reused() -> TocsinError:
    """The error of a request whose id came before with another body: REQUEST_ID_REUSED."""
    return TocsinError(
        ErrorReason.ERROR_REASON_REQUEST_ID_REUSED,
        f"this request_id {_REUSED}",
        fields=(FieldViolation("request_id", _REUSED),),
    )


async def once(tx: Tx, method: str, request: Message, response_type: type[R], work: Callable[[], Awaitable[R]]) -> R:
    """The answer of `work`, or its first answer to the same `request.request_id` of this tenant and method.

    Without a request id it is just `work()`. Call it first in the transaction and do everything inside `work`. Raises
    REQUEST_ID_REUSED when the id came with another body, CONFLICT when the first call is still running after the transaction's
    lock timeout. An error rolls back the row too: the next try does the work.

    Work that is done gets an entry in the audit log, with the stored answer: it must not hold a secret.
    """
    request_id: str = request.request_id  # type: ignore[attr-defined]
    if not request_id:
        response = await work()
        await write_entry(tx, request, response)
        return response
    key = (tx.org_id, method, request_id[:_MAX_ID])
    digest = body_hash(request)
    while not await tx.fetchval(_CLAIM, *key, digest):
        row = await tx.fetchrow(_READ, *key)
        if row is None:
            continue  # swept in this very moment
        if row["body_hash"] != digest:
            raise reused()
        return response_type.FromString(row["response"])
    response = await work()
    round_trip = OneRoundTrip(tx)
    await round_trip.execute(_ANSWER, *key, response.SerializeToString())
    await write_entry(round_trip, request, response)
    await round_trip.send()
    return response


async def once_kept(
    database: Database,
    org_id: str,
    method: str,
    request: Message,
    work: Callable[[Tx], Awaitable[T]],
    repeated: Callable[[Tx], Awaitable[T]],
) -> T:
    """`once` with two round trips less: `work` writes the answer together with all else, by `keep`.

    Whether the id came before is asked in the round trip of BEGIN. If it did, `repeated` is called instead, which uses `once`. A
    concurrent repeat does the work too, and finds at its end that the answer is there: it is rolled back and begins again. Or its
    work is refused, because the first call did it: then it gets that call's answer. `work` that raises has written nothing. Its
    statements find rows by their keys (`ONE_PLAN`). Raises as `Database.run`.
    """
    asked = _asking(org_id, method, request)
    first = f"{ONE_PLAN};{asked}" if asked else ONE_PLAN

    async def run(tx: Tx) -> T:
        if tx.answer == _ASKED_BEFORE:
            return await repeated(tx)
        try:
            return await work(tx)
        except TocsinError:
            if not asked or not await tx.fetch(asked):
                raise
        return await repeated(tx)

    try:
        return await database.run(org_id, run, first=first)
    except asyncpg.UniqueViolationError:
        return await database.run(org_id, run, first=first)


def _asking(org_id: str, method: str, request: Message) -> str:
    """A statement without parameters; empty for a request without an id."""
    request_id: str = request.request_id  # type: ignore[attr-defined]
    if not request_id:
        return ""
    return inlined(_ASKED, org_id, method, request_id[:_MAX_ID])


async def keep(tx: Tx, method: str, request: Message, response: Message) -> None:
    """Store the answer, with its entry in the audit log, at the end of work that `once` would have done.

    Call it in the `work` of `once_kept`.
    """
    request_id: str = request.request_id  # type: ignore[attr-defined]
    if request_id:
        await tx.execute(
            _KEEP, tx.org_id, method, request_id[:_MAX_ID], body_hash(request), response.SerializeToString()
        )
    await write_entry(tx, request, response)


async def once_each(
    database: Database,
    org_id: str,
    method: str,
    requests: Sequence[tuple[Message, Call | None]],
    response_type: type[R],
    work: Callable[[Tx, Sequence[int]], Awaitable[Sequence[R | TocsinError]]],
) -> list[R | TocsinError]:
    """`once` for requests of one tenant that are committed together, each with its call: an answer or its own error for each.

    `work` gets the positions of those that were not answered before, and answers each of them; it may run again, as with
    `Database.run`. Of several with one request id it gets the first. An error is not kept: the next try does the work.
    """

    async def run(tx: Tx) -> list[R | TocsinError]:
        return await _once_each(tx, method, requests, response_type, work)

    try:
        return await database.run(org_id, run)
    except asyncpg.UniqueViolationError:
        # A repeat in another transaction has stored one of the ids meanwhile: this time its answer is found.
        return await database.run(org_id, run)


async def _once_each(
    tx: Tx,
    method: str,
    requests: Sequence[tuple[Message, Call | None]],
    response_type: type[R],
    work: Callable[[Tx, Sequence[int]], Awaitable[Sequence[R | TocsinError]]],
) -> list[R | TocsinError]:
    ids = [request.request_id[:_MAX_ID] for request, _ in requests]  # type: ignore[attr-defined]
    hashes = [body_hash(request) if id else b"" for id, (request, _) in zip(ids, requests, strict=True)]
    known = await recall(tx, method, set(filter(None, ids))) if any(ids) else {}
    first = {id: place for place, id in reversed(list(enumerate(ids))) if id and id not in known}
    fresh = [place for place, id in enumerate(ids) if not id or first.get(id) == place]
    answers = dict(zip(fresh, await work(tx, fresh), strict=True)) if fresh else {}
    done = {place: answer for place, answer in answers.items() if not isinstance(answer, TocsinError)}
    kept = {
        ids[place]: StoredAnswer(hashes[place], answer.SerializeToString())
        for place, answer in done.items()
        if ids[place]
    }
    if kept:
        await remember(tx, method, kept)
    called = [(call, request, done[place]) for place, (request, call) in enumerate(requests) if call and place in done]
    await write_entries(tx, [Served(*each) for each in called])

    def repeated(place: int) -> R | TocsinError:
        id = ids[place]
        before = known[id].body_hash if id in known else hashes[first[id]]
        if before != hashes[place]:
            return reused()
        return response_type.FromString(known[id].response) if id in known else answers[first[id]]

    return [answers[place] if place in answers else repeated(place) for place in range(len(requests))]


async def answered(tx: Tx, method: str, request: Message, response_type: type[R]) -> R | None:
    """The stored answer of `once` to this request, if there is one: for work that begins before the transaction."""
    request_id: str = request.request_id  # type: ignore[attr-defined]
    row = await tx.fetchrow(_READ, tx.org_id, method, request_id[:_MAX_ID]) if request_id else None
    if row is None or row["response"] is None:
        return None
    # A request with another body is refused by `once`.
    return response_type.FromString(row["response"]) if row["body_hash"] == body_hash(request) else None


async def recall(tx: Tx, method: str, request_ids: Collection[str]) -> dict[str, StoredAnswer]:
    """Those of the tenant's request ids with a stored answer: `once` in sets, for many requests at a time.

    Compare `StoredAnswer.body_hash` with that of the request; where they differ, the error is `reused()`.
    """
    rows = await tx.fetch(_RECALL, tx.org_id, method, list(request_ids))
    return {row["request_id"]: StoredAnswer(row["body_hash"], row["response"]) for row in rows}


async def remember(tx: Tx, method: str, answers: Mapping[str, StoredAnswer]) -> None:
    """Store the answers, by request id of at most 128 characters.

    Raises asyncpg's UniqueViolationError when another transaction has stored one of the ids since `recall`.
    """
    ids = sorted(answers)
    await tx.execute(
        _REMEMBER,
        tx.org_id,
        method,
        ids,
        [answers[each].body_hash for each in ids],
        [answers[each].response for each in ids],
    )


async def sweep_requests(database: Database) -> int:
    """Delete answers older than 24 hours, in small transactions; returns how many. For a loop, every few minutes."""

    async def sweep(tx: Tx, limit: int) -> int:
        return int((await tx.execute(_SWEEP, limit)).removeprefix("DELETE "))

    return await delete_in_batches(database, sweep, batch=_SWEEP_BATCH, rounds=_SWEEP_ROUNDS)
