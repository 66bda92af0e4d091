"""Schedules for what is asked about them: those that take long to read are read while no transaction is open.

A transaction keeps its connection, so it must not wait for a thread. Pages need schedules while rows are locked, and have threads
of their own (`store.schedules.on_call.load`).
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from tocsin_kit.db.pool import Database, Tx

from tocsin_escalation.app.computing import Computations, compute
from tocsin_escalation.domain.schedules.model import Schedule
from tocsin_escalation.store.schedules import on_call
from tocsin_escalation.store.schedules.on_call import Key, Read, Texts


@dataclass(frozen=True, slots=True)
class ReadInPart:
    """What a transaction has found: the schedules, or their texts, which take long to read."""

    found: Mapping[Key, Schedule] | None
    texts: Texts

    async def finish(self, db: Database, org_id: str | None) -> Mapping[Key, Schedule]:
        """The schedules. Not within a transaction. `org_id`: None for work of all tenants."""
        if self.found is not None:
            return self.found
        if org_id is None:
            read = await asyncio.to_thread(self.texts.read)
        else:
            read = await compute(org_id, self.texts.read)
        async with db.system() if org_id is None else db.transaction(org_id) as tx:
            return await read.with_people(tx)


async def begin(tx: Tx, wanted: Iterable[Key], since: datetime, until: datetime) -> ReadInPart:
    """Those of the schedules that exist, with everything that matters within [since, until)."""
    texts = await on_call.texts_of(tx, wanted, since, until)
    return ReadInPart(None if texts.is_much else await texts.read().with_people(tx), texts)


async def load(
    tx: Tx, wanted: Iterable[Key], since: datetime, until: datetime, computations: Computations
) -> dict[Key, Schedule]:
    """The same for a transaction that goes on with them. If they take long to read, it ends and starts again when they are read."""
    texts = await on_call.texts_of(tx, wanted, since, until)
    if texts.is_much:
        # Without the times, which are others when it starts again.
        read = Read(texts, computations.result(on_call.parsed, texts.by_key))
    else:
        read = texts.read()
    return await read.with_people(tx)
