"""The audit log: who changed what, written in the transaction of the change.

`once`, which every mutation of a caller goes through, writes the entry, so a new RPC cannot forget it. The former state of a
resource comes from `note_before`: `apply_update_mask` calls it for updates, an RPC that deletes calls it itself.

Rows can only be added. A trigger refuses every UPDATE and TRUNCATE, and every DELETE of a row that is younger than `LEAST_DAYS`,
even by the table's owner. Only a transaction of all tenants may delete older rows (`sweep_audit`).
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

import sqlalchemy as sa
from google.protobuf.descriptor import Descriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from sqlalchemy import ColumnElement, FromClause, MetaData, Select
from tocsin.type.v1 import access_pb2

from tocsin_kit.db import tables
from tocsin_kit.db.pool import Database
from tocsin_kit.db.retention import delete_in_batches
from tocsin_kit.db.statements import Filtered, columns_of, constant, param
from tocsin_kit.db.tx import Tx
from tocsin_kit.rpc.call import Call, find_call

LEAST_DAYS: Final = 30
MOST_BYTES: Final = 32 << 10
"""Of a resource in an entry, as JSON."""
MOST_RESOURCES: Final = 1000
_NAME: Final = re.compile("[A-Za-z]+/[A-Za-z0-9._-]+")
_SWEEP_BATCH: Final = 1000
_SWEEP_ROUNDS: Final = 100
_INSERT: Final = """
INSERT INTO audit_entries (org_id, actor, method, resources, reason, before, after, credential, trace_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""
_INSERT_EACH: Final = """
INSERT INTO audit_entries (org_id, actor, method, resources, reason, before, after, credential, trace_id)
SELECT $1, g.actor, g.method, ARRAY(SELECT jsonb_array_elements_text(g.resources)), g.reason, g.before, g.after, g.credential,
  g.trace_id
FROM unnest($2::text[], $3::text[], $4::jsonb[], $5::text[], $6::jsonb[], $7::jsonb[], $8::text[], $9::text[])
  AS g(actor, method, resources, reason, before, after, credential, trace_id)
"""
_SWEEP: Final = """
DELETE FROM audit_entries WHERE (org_id, id) IN (
    SELECT org_id, id FROM audit_entries WHERE create_time < app_now() - make_interval(days => $1)
    ORDER BY create_time LIMIT $2)
RETURNING id
"""


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One entry. `before` and `after` are JSON, or empty."""

    id: int
    create_time: datetime
    actor: str
    method: str
    resources: tuple[str, ...]
    reason: str
    before: str | None
    after: str | None
    credential: str
    trace_id: str


_METADATA: Final = MetaData()
_E: Final = tables.audit_entries(_METADATA)
_R: Final = tables.audit_resources(_METADATA)
_FOUND: Final = (
    sa.select(_E).where(_E.c.org_id == _R.c.org_id, _E.c.id == _R.c.entry_id).offset(constant(0)).lateral("found")
)
"""The entry of a row of `_R`. OFFSET keeps the planner from joining: it looks each up by its key."""


def _entries(found: FromClause) -> Select[Any]:
    return sa.select(*columns_of(found, AuditRow)).limit(param("most", sa.Integer))


def _filters(found: FromClause) -> list[ColumnElement[bool]]:
    return [
        found.c.actor == param("actor"),
        found.c.create_time >= param("since"),
        found.c.create_time < param("until"),
    ]


_ANY: Final = Filtered(
    _entries(_E).where(_E.c.org_id == param("org_id")).order_by(_E.c.id.desc()),
    *_filters(_E),
    _E.c.id < param("after"),
)
_OF_RESOURCE: Final = Filtered(
    _entries(_FOUND)
    .select_from(_R.join(_FOUND, sa.true()))
    .where(_R.c.org_id == param("org_id"), _R.c.resource == param("resource"))
    .order_by(_R.c.entry_id.desc()),
    *_filters(_FOUND),
    _R.c.entry_id < param("after"),
)
"""An entry's own list of resources cannot use an index: see the migration of the table."""


@dataclass(frozen=True, slots=True)
class Served:
    """A call that has changed data. `response` is the answer for repeats: it has no secrets."""

    call: Call
    request: Message
    response: Message


async def write_entry(tx: Tx, request: Message, response: Message) -> None:
    """Write an entry that the current call has changed data.

    The request itself is not stored, since it may hold secrets. Work without a caller (tests, loops) has no entry.
    """
    call = find_call()
    if call is not None:
        await tx.execute(_INSERT, tx.org_id, *_columns(Served(call, request, response)))


async def write_entries(tx: Tx, served: Sequence[Served]) -> None:
    """The same for several calls of the transaction's tenant whose work was done together, in their order."""
    if not served:
        return
    actors, methods, resources, *others = zip(*map(_columns, served), strict=True)
    await tx.execute(_INSERT_EACH, tx.org_id, actors, methods, list(map(json.dumps, resources)), *others)


def _columns(served: Served) -> tuple[str, str, list[str], str, str | None, str | None, str, str]:
    call = served.call
    before, call.before = call.before, None
    return (
        call.subject,
        call.method,
        _resources(served.request, served.response, before),
        next(_reasons(served.request), ""),
        None if before is None else _json(before),
        _json(served.response),
        call.principal.token_id,
        call.trace_id,
    )


async def write_own_entry(tx: Tx, actor: str, method: str, resources: Sequence[str], reason: str) -> None:
    """Write an entry for a change that the service made by itself, such as switching off an object that failed."""
    await tx.execute(_INSERT, tx.org_id, actor, method, list(resources), reason, None, None, "", "")


async def page(
    tx: Tx,
    actor: str,
    resource: str,
    since: datetime | None,
    until: datetime | None,
    after: int | None,
    limit: int,
) -> list[AuditRow]:
    """This tenant's entries after `after`, newest first. `actor` and `resource` may be empty: any."""
    values = {
        "actor": actor or None,
        "since": since,
        "until": until,
        "after": after,
        "org_id": tx.org_id,
        "most": limit,
    }
    call = _OF_RESOURCE(resource=resource, **values) if resource else _ANY(**values)
    records = await tx.fetch(*call)
    return [AuditRow(**{**dict(record), "resources": tuple(record["resources"])}) for record in records]


async def sweep_audit(database: Database, days: int) -> int:
    """Delete entries older than so many days, in small transactions; returns how many. For a loop, every few minutes."""

    async def sweep(tx: Tx, limit: int) -> int:
        return len(await tx.fetch(_SWEEP, max(days, LEAST_DAYS), limit))

    return await delete_in_batches(database, sweep, batch=_SWEEP_BATCH, rounds=_SWEEP_ROUNDS)


def _json(message: Message) -> str:
    # JSON is larger than the wire form: a message that cannot fit is not converted, since a thousand of them would delay all
    # calls.
    size = message.ByteSize()
    if size <= MOST_BYTES:
        text = json.dumps(MessageToDict(message, preserving_proto_field_name=True), separators=(",", ":"))
        size = len(text)
        if size <= MOST_BYTES:
            return text
    return json.dumps({"left_out_bytes": size})


def _resources(request: Message, response: Message, before: Message | None) -> list[str]:
    found = [*_named(request), *_named(response)] or list(_mentioned(request))
    # For a deleted resource the answer has only its name; its owner is known from before.
    found += [*_owners(request), *_owners(response), *(() if before is None else _owner_of(before))]
    return list(dict.fromkeys(found))[:MOST_RESOURCES]


def _owners(message: Message) -> Iterator[str]:
    """The resources that own those in a request or its answer."""
    for field, value in message.ListFields():
        if field.message_type is not None and "name" in field.message_type.fields_by_name:
            for each in value if field.is_repeated else (value,):
                yield from _owner_of(each)


def _owner_of(resource: Message) -> Iterator[str]:
    owners = _owner_fields(resource.DESCRIPTOR)
    if owners:
        yield from (value for value in (getattr(resource, name) for name in owners) if value)


@lru_cache(1024)
def _owner_fields(message: Descriptor) -> tuple[str, ...]:
    """Kept: the options of a field are made anew each time they are read, which takes longer than all else that
    an entry needs."""
    return tuple(field.name for field in message.fields if field.GetOptions().Extensions[access_pb2.owner])


def _mentioned(message: Message) -> Iterator[str]:
    """For messages without a name, such as the rules of a user: the resource that they belong to."""
    for field, value in message.ListFields():
        if isinstance(value, str) and _NAME.fullmatch(value):
            yield value
        elif field.message_type is not None and not field.is_repeated:
            yield from _mentioned(value)


def _named(message: Message) -> Iterator[str]:
    """The names of the resources of a request or its answer: its own, and those of the messages directly in it."""
    for field, value in message.ListFields():
        values: Sequence[Any] = value if field.is_repeated else (value,)
        if field.name in ("name", "names"):
            yield from (each for each in values if each)
        elif field.message_type is not None and "name" in field.message_type.fields_by_name:
            yield from (each.name for each in values if each.name)


def _reasons(message: Message) -> Iterator[str]:
    """The reasons that the caller gave, in the request or in its resource."""
    for field, value in message.ListFields():
        if field.name == "reason" and isinstance(value, str):
            yield value
        elif field.message_type is not None and not field.is_repeated and "reason" in field.message_type.fields_by_name:
            yield from _reasons(value)
