"""Lists of notifications and dead letters, page by page."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from tocsin_kit.db.pool import SYSTEM, Tx
from tocsin_kit.db.statements import Filtered, Statement, columns_of, constant, param

from tocsin_notify.domain.page import State
from tocsin_notify.store import tables
from tocsin_notify.store.delivery.dead_letters import DeadLetterHead
from tocsin_notify.store.delivery.rows import Attempt, Shown

_N: Final = tables.notifications.alias("n")
_P: Final = tables.pages.alias("p")
_ATTEMPT: Final = tables.attempts
_LETTER: Final = tables.dead_letters
_OF_PAGE: Final = {name: _P.c[name] for name in ("type", "level", "repeat", "planned_time", "job")}
_SHOWN: Final = (
    sa.select(*columns_of(_N, Shown, **_OF_PAGE))
    .join_from(_N, _P, sa.and_(_P.c.id == _N.c.page_id, _P.c.org_id.is_not_distinct_from(_N.c.org_id)))
    .where(_N.c.org_id == param("org_id"))
)
_READ: Final = Statement(_SHOWN.where(_N.c.id == param("id")))
_OLDEST_FIRST: Final = sa.select(_ATTEMPT.c.notification_id, *columns_of(_ATTEMPT, Attempt)).order_by(
    _ATTEMPT.c.notification_id, _ATTEMPT.c.number
)
_ATTEMPTS_OF: Final = Statement(
    _OLDEST_FIRST.where(
        _ATTEMPT.c.org_id == param("org_id"), _ATTEMPT.c.notification_id == sa.any_(param("ids", sa.ARRAY(sa.UUID)))
    )
)


def _newest_first(select: "sa.Select[Any]", table: sa.FromClause) -> "sa.Select[Any]":
    order = table.c.create_time, table.c.id
    behind = sa.tuple_(*order) < sa.tuple_(param("before_time"), param("before_id"))
    return select.where(behind).order_by(*(each.desc() for each in order)).limit(param("limit"))


@lru_cache(maxsize=1 << len(State))
def _page(states: frozenset[State]) -> Filtered:
    """Literal states, so that the planner can use the index of notifications that are not sent: a rare state is found
    without reading the history."""
    select = _SHOWN.where(_N.c.state.in_([constant(state) for state in sorted(states)])) if states else _SHOWN
    return Filtered(
        _newest_first(select, _N),
        _N.c.incident == param("incident"),
        _N.c.user_id == param("user_id"),
        _N.c.page_id == param("page_id"),
    )


def _dead(*conditions: sa.ColumnElement[bool]) -> Filtered:
    select = sa.select(*columns_of(_LETTER, DeadLetterHead)).where(*conditions)
    return Filtered(_newest_first(select, _LETTER), _LETTER.c.user_id == param("user_id"))


_MINE: Final = _LETTER.c.org_id == param("org_id")
_WAITS: Final = _LETTER.c.redrive_time.is_(None)
_DEAD: Final = {True: _dead(_MINE), False: _dead(_MINE, _WAITS)}
_DEAD_OF_ALL: Final = {True: _dead(), False: _dead(_WAITS)}
"""By whether redriven ones are shown as well."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which notifications; an empty field matches all."""

    incident: UUID | None = None
    user: str = ""
    states: Collection[State] = ()
    page: UUID | None = None


async def notification(tx: Tx, id: UUID) -> tuple[Shown, list[Attempt]] | None:
    """A notification with its attempts, oldest first."""
    row = await tx.fetchrow(*_READ(org_id=tx.org_id, id=id))
    return None if row is None else (Shown(*row), (await attempts_of(tx, [id])).get(id, []))


async def attempts_of(tx: Tx, ids: Sequence[UUID]) -> dict[UUID, list[Attempt]]:
    """The attempts of several notifications, oldest first."""
    found: dict[UUID, list[Attempt]] = {}
    for notification, *row in await tx.fetch(*_ATTEMPTS_OF(org_id=tx.org_id, ids=list(ids))):
        found.setdefault(notification, []).append(Attempt(*row))
    return found


async def notifications(tx: Tx, wanted: Filter, before: tuple[datetime, UUID], limit: int) -> list[Shown]:
    """Newest first, after a (create_time, id). Only the filters given are part of the query, so each finds its index."""
    before_time, before_id = before
    page = _page(frozenset(wanted.states))(
        org_id=tx.org_id,
        before_time=before_time,
        before_id=before_id,
        limit=limit,
        incident=wanted.incident,
        user_id=wanted.user or None,
        page_id=wanted.page,
    )
    return [Shown(*row) for row in await tx.fetch(*page)]


async def dead_letters(
    tx: Tx, *, user: str, redriven: bool, before: tuple[datetime, UUID], limit: int
) -> list[DeadLetterHead]:
    """Newest first, without their jobs. A transaction of all tenants sees all of them, including those that name no
    tenant."""
    before_time, before_id = before
    values = {"before_time": before_time, "before_id": before_id, "limit": limit, "user_id": user or None}
    if tx.org_id == SYSTEM:
        page = _DEAD_OF_ALL[redriven](**values)
    else:
        page = _DEAD[redriven](org_id=tx.org_id, **values)
    return [DeadLetterHead(*row) for row in await tx.fetch(*page)]
