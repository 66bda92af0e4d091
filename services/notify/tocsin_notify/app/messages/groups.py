"""Messages to teams and to those who are on call in a schedule.

The rows are the record. A replica leases due group messages and asks escalation, outside of any transaction, who their
people are. In the transaction that ends the lease it makes one message for each of them, under an id that is computed
from the group message and the person. So each person gets it once, even if a process is killed or two processes do the
same: at worst escalation is asked twice. `Release` sends these messages as any other.
"""

import asyncio
import random
from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import Final
from uuid import UUID, uuid5

import grpc
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.escalation.v1.internal_service_pb2 import Receivers
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import FieldViolation, TocsinError
from tocsin_kit.ids import new_id
from tocsin_kit.logging import get_logger

from tocsin_notify.app.delivery.hints import Hints
from tocsin_notify.clients.escalation import Escalation
from tocsin_notify.domain.fairness import alternating
from tocsin_notify.domain.message import Stored, pause_after
from tocsin_notify.domain.page import DeathReason
from tocsin_notify.metrics import NotifyMetrics
from tocsin_notify.store.delivery import dead_letters
from tocsin_notify.store.delivery.dead_letters import NewDeadLetter
from tocsin_notify.store.messages import groups, messages
from tocsin_notify.store.messages.groups import Leased

_log = get_logger(__name__)

_AT_ONCE: Final = 20
"""Targets of one question, each with at most 500 users: the messages of one transaction."""
_MOST_PER_ROUND: Final = 200
_QUESTIONS_AT_ONCE: Final = 4
_LEASE: Final = 60.0
"""Longer than the call to escalation takes."""


async def missing_groups(
    db: Database, escalation: Escalation, org_id: str, targets: Sequence[str], *, of: str = "message"
) -> dict[str, TocsinError]:
    """Those of these groups that do not exist, each with its error: TEAM_NOT_FOUND or SCHEDULE_NOT_FOUND.

    Asked before the transaction that stores the names, for the field `of`. Raises SERVICE_UNAVAILABLE when escalation
    does not answer.
    """
    if not targets:
        return {}
    async with db.transaction(org_id) as tx:
        now = await tx.now()
    missing: dict[str, TocsinError] = {}
    for start in range(0, len(targets), _AT_ONCE):
        part = targets[start : start + _AT_ONCE]
        found = await escalation.resolve(org_id, part, now)
        missing |= {target: _no_group(target, of) for target, each in zip(part, found, strict=True) if not each.exists}
    return missing


async def require_group(db: Database, escalation: Escalation, org_id: str, target: str, *, of: str = "message") -> None:
    """Raises the error of `missing_groups` if the group does not exist."""
    for error in (await missing_groups(db, escalation, org_id, [target], of=of)).values():
        raise error


def _no_group(target: str, of: str) -> TocsinError:
    kind, why = target.partition("s/")[0], f"{target} does not exist; create it first"
    return TocsinError(
        ErrorReason.ERROR_REASON_TEAM_NOT_FOUND if kind == "team" else ErrorReason.ERROR_REASON_SCHEDULE_NOT_FOUND,
        f"{of}.{kind}: {why}",
        code=grpc.StatusCode.INVALID_ARGUMENT,
        metadata={"name": target},
        fields=[FieldViolation(f"{of}.{kind}", why)],
    )


class DivideGroups:
    """One object per process; every replica may run it."""

    def __init__(self, db: Database, escalation: Escalation, hints: Hints, metrics: NotifyMetrics) -> None:
        self._db = db
        self._escalation = escalation
        self._hints = hints
        self._metrics = metrics
        self._room = asyncio.Semaphore(_QUESTIONS_AT_ONCE)

    async def everything(self) -> None:
        """Rounds until no more is due. Raises DATABASE_UNAVAILABLE: due messages stay due."""
        while await self._round():
            pass

    async def _round(self) -> int:
        """How many were due."""
        async with self._db.claim() as tx:
            leased = await groups.claim(tx, limit=_MOST_PER_ROUND, lease=_LEASE)
            now = await tx.now()
        leased.sort(key=lambda each: each.message.org_id)
        of_tenants = [list(each) for _, each in groupby(leased, key=lambda each: each.message.org_id)]
        parts = [mine[at : at + _AT_ONCE] for mine in of_tenants for at in range(0, len(mine), _AT_ONCE)]
        await asyncio.gather(
            *(self._divide(part, now) for part in alternating(parts, lambda each: each[0].message.org_id))
        )
        return len(leased)

    async def _divide(self, leased: Sequence[Leased], now: datetime) -> None:
        """Those of one tenant. A group message that fails is due again later, and holds up no other tenant."""
        org_id = leased[0].message.org_id
        async with self._room:
            try:
                late = [each for each in leased if each.expired]
                due = [each for each in leased if not each.expired]
                if late:
                    await self._db.run(org_id, lambda tx: _skip(tx, late))
                if due:
                    found = await self._escalation.resolve(org_id, [each.message.address for each in due], now)
                    await self._db.run(org_id, lambda tx: self._write(tx, due, found))
            except TocsinError as error:
                _log.warning("group_messages_wait", org_id=org_id, messages=len(leased), reason=error.reason_name)
                await self._wait(org_id, leased, error)
            except Exception:
                _log.exception("group_messages_failed", org_id=org_id, messages=len(leased))

    async def _wait(self, org_id: str, leased: Sequence[Leased], error: TocsinError) -> None:
        delays = [(each.message, pause_after(each.tries, random.random())) for each in leased]
        try:
            await self._db.run(
                org_id,
                lambda tx: groups.wait(tx, delays, f"waits for escalation, to know its receivers: {error.message}"),
            )
        except TocsinError as again:
            _log.warning("group_messages_wait_for_their_lease", org_id=org_id, reason=again.reason_name)

    async def _write(self, tx: Tx, due: Sequence[Leased], found: Sequence[Receivers]) -> None:
        """Divide those whose lease is unchanged."""
        held = await groups.hold(tx, [each.message for each in due])
        children, ends, letters = [], [], []
        for each, receivers in zip(due, found, strict=True):
            message = each.message
            if message.id not in held:
                continue
            if not receivers.users:
                why = _why_nobody(message.address, receivers)
                letters.append(
                    NewDeadLetter(
                        id=new_id(),
                        org_id=tx.org_id,
                        notification_id=None,
                        page_id=message.id,
                        user_id="",
                        incident=None,
                        reason=DeathReason.NO_CONTACT_METHOD,
                        detail=why,
                    )
                )
                ends.append((message.id, Stored.RELEASED, why))
                continue
            left = receivers.count - len(receivers.users)
            children += [(message.id, uuid5(message.id, user), user) for user in receivers.users]
            ends.append(
                (message.id, Stored.RELEASED, f"{left} more receivers got nothing: it has too many" if left else "")
            )
        await groups.divide(tx, children)
        await messages.end(tx, ends)
        if letters:
            await dead_letters.insert(tx, letters)
        tx.after_commit(lambda: self._tell(tx.org_id, [child for _, child, _ in children], letters))

    def _tell(self, org_id: str, children: Sequence[UUID], letters: Sequence[NewDeadLetter]) -> None:
        # One hint is enough: the next round reads all due messages.
        self._hints.messages([(child, 0.0) for child in children[:1]])
        for letter in letters:
            self._metrics.dead_letters.labels(letter.reason).inc()
            _log.error("nobody_to_message", org_id=org_id, detail=letter.detail)
        _log.info("group_messages", org_id=org_id, messages=len(children))


async def _skip(tx: Tx, late: Sequence[Leased]) -> None:
    held = await groups.hold(tx, [each.message for each in late])
    why = "not sent within expire_after: escalation could not be asked who the receivers are"
    await messages.end(tx, [(id, Stored.STOPPED, why) for id in sorted(held)])


def _why_nobody(target: str, receivers: Receivers) -> str:
    if not receivers.exists:
        return f"{target} does not exist any more"
    if target.startswith("teams/"):
        return f"{target} has no member who is not disabled"
    return f"nobody is on call in {target}"
