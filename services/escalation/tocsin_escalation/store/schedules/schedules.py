"""Schedules in PostgreSQL: converts rows to the domain and back. A schedule's layers are one JSON value, with every version."""

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from asyncpg import Record
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.statements import columns_of
from tocsin_kit.logging import get_logger

from tocsin_escalation.domain.schedules.model import (
    ALWAYS,
    FOREVER,
    Counts,
    Holidays,
    Layer,
    Mode,
    Turn,
    Unit,
)
from tocsin_escalation.store import tables
from tocsin_escalation.store.people.named import Named
from tocsin_escalation.store.schedules import holiday_calendars
from tocsin_escalation.store.schedules.windows import windows_from, windows_to

_log: Final = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """A schedule as it is kept. `layers` are all versions of all layers."""

    id: str
    display_name: str
    description: str
    time_zone: str
    stand_in: bool
    layers: tuple[Layer, ...] = field(default=())
    version: int = 1
    create_time: datetime | None = None
    update_time: datetime | None = None


def layers_to_json(layers: tuple[Layer, ...]) -> str:
    """What `layers_from_json` reads."""
    return json.dumps([_layer_to(layer) for layer in layers], separators=(",", ":"))


def layers_from_json(text: str) -> tuple[Layer, ...]:
    """The layers behind `layers_to_json`. A layer that only a newer version can read is left out, with an error line: the other
    layers still count."""
    layers: list[Layer] = []
    for data in json.loads(text):
        try:
            layers.append(_layer_from(data))
        except (KeyError, TypeError, ValueError) as error:
            _log.error("layer_unreadable", layer=str(data)[:200], error=f"{type(error).__name__}: {error}")
    return tuple(layers)


def _layer_to(layer: Layer) -> dict[str, Any]:
    return {
        "id": layer.id,
        "name": layer.name,
        "rank": layer.rank,
        "mode": layer.mode,
        "turns": [[turn.unit, turn.count] for turn in layer.turns],
        "anchor": layer.anchor,
        "zone": layer.zone,
        "line_up": layer.line_up,
        "windows": windows_to(layer.windows),
        "holidays": layer.holidays and [layer.holidays.country, layer.holidays.subdivision, layer.holidays.only],
        "counts": layer.counts,
        "concurrent": layer.concurrent,
        "not_before": None if layer.not_before == ALWAYS else layer.not_before,
        "since": None if layer.since == ALWAYS else layer.since,
        "until": None if layer.until == FOREVER else layer.until,
        "shift": layer.shift,
        "ended": layer.ended,
    }


def _layer_from(data: dict[str, Any]) -> Layer:
    return Layer(
        id=data["id"],
        name=data["name"],
        rank=data["rank"],
        mode=Mode(data["mode"]),
        turns=tuple(Turn(Unit(unit), count) for unit, count in data["turns"]),
        anchor=data["anchor"],
        zone=data["zone"],
        line_up=tuple(map(tuple, data["line_up"])),
        windows=windows_from(data["windows"]),
        holidays=_holidays_from(data.get("holidays")),
        counts=Counts(data["counts"]),
        concurrent=data["concurrent"],
        not_before=ALWAYS if data["not_before"] is None else data["not_before"],
        since=ALWAYS if data["since"] is None else data["since"],
        until=FOREVER if data["until"] is None else data["until"],
        shift=data["shift"],
        ended=data["ended"],
    )


def _holidays_from(data: tuple[str, str, bool] | None) -> Holidays | None:
    if data is None:
        return None
    country, subdivision, only = data
    try:
        days = holiday_calendars.days_of(country, subdivision)
    except holiday_calendars.UnknownPlace:
        # It was known when the layer was written: a new version of the package has dropped the place.
        days = frozenset()
    return Holidays(country, subdivision, only, days)


def _row(record: Record) -> ScheduleRow:
    return ScheduleRow(**{**dict(record), "layers": layers_from_json(record["layers"])})


_TABLE: Final = Named(
    tables.schedules,
    columns_of(tables.schedules, ScheduleRow),
    _row,
    written=("display_name", "description", "time_zone", "stand_in", "layers"),
)
get: Final = _TABLE.get
page: Final = _TABLE.page
ids: Final = _TABLE.ids
delete: Final = _TABLE.delete
"""Its overrides are deleted with it."""


async def layers_of(tx: Tx, ids: Collection[str]) -> dict[str, str]:
    """The layers of those of these schedules that this tenant has, as `layers_from_json` reads them."""
    if not ids:
        return {}
    records = await tx.fetch(
        "SELECT id, layers FROM schedules WHERE org_id = $1 AND id = ANY($2::text[])", tx.org_id, list(ids)
    )
    return {record["id"]: record["layers"] for record in records}


async def insert(tx: Tx, row: ScheduleRow) -> ScheduleRow | None:
    """A new schedule; None when the id is taken."""
    record = await tx.fetchrow(*_TABLE.inserting(org_id=tx.org_id, **_written(row)))
    return _row(record) if record else None


async def update(tx: Tx, row: ScheduleRow) -> ScheduleRow:
    """A locked schedule's new values."""
    record = await tx.fetchrow(*_TABLE.updating(org_id=tx.org_id, **_written(row)))
    assert record is not None, "the row is locked by this transaction"
    return _row(record)


def _written(row: ScheduleRow) -> dict[str, object]:
    return {
        "id": row.id,
        "display_name": row.display_name,
        "description": row.description,
        "time_zone": row.time_zone,
        "stand_in": row.stand_in,
        "layers": layers_to_json(row.layers),
    }
