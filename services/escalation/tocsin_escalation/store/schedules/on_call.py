"""Schedules with all data that decide who is on call, for `resolve`: of any number of tenants in two queries."""

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from tocsin_kit.db.pool import Tx

from tocsin_escalation.domain.schedules.model import FixedPeriod, Imported, Mode, Override, Schedule, Scope
from tocsin_escalation.domain.schedules.questions import HORIZONS, users_of
from tocsin_escalation.store.schedules.fixed_periods import shifts_from
from tocsin_escalation.store.schedules.holiday_calendars import unknown
from tocsin_escalation.store.schedules.schedules import layers_from_json

LOOK_BACK = LOOK_AHEAD = timedelta(minutes=HORIZONS[-1])
"""The time around an instant that `standing` examines."""

Key = tuple[str, str]
"""The tenant and the schedule's id."""
Absence = tuple[str, int, int]
"""A user, and the minutes [start, end) at which they are away."""


@dataclass(frozen=True, slots=True)
class _Text:
    """A schedule as PostgreSQL returns it. An equal text is the same schedule, which is parsed once."""

    id: str
    time_zone: str
    stand_in: bool
    layers: str
    overrides: str
    periods: str
    imported: str

    @property
    def size(self) -> int:
        """In characters."""
        return len(self.layers) + len(self.overrides) + len(self.periods) + len(self.imported)

    @property
    def kept(self) -> bool:
        """Whether it is small enough to be cached after parsing."""
        return self.size <= KEPT_CHARACTERS


THREADS: Final = ThreadPoolExecutor(2, thread_name_prefix="schedules")
"""For the schedules of a page, which are parsed while rows are locked: this work does not wait for requests of callers."""
KEPT: Final = 2048
"""Schedules that are cached as long as their text is unchanged."""
KEPT_CHARACTERS: Final = 32_768
"""Larger ones are parsed each time, so that no tenant fills the memory."""
READ_AT_ONCE: Final = 100_000
"""Characters that are parsed before other tasks run: about 5 ms."""


def _minute(column: str) -> str:
    """The minute in which the time lies, as `clock.minute_of` says it.

    A cast alone rounds: what begins in the last half second of a minute would not count in it, and a page in that time would go to
    the user who was on call before.
    """
    return f"floor(extract(epoch FROM {column}) / 60)::bigint"


_LOAD: Final = f"""
SELECT s.org_id, s.id, s.time_zone, s.stand_in, s.layers,
  (SELECT coalesce(json_agg(json_build_array(o.id, {_minute("o.start_time")},
       {_minute("o.end_time")}, o.scope, o.users, o.ordinal, o.replaced, o.swap_id) ORDER BY o.ordinal), '[]')
     FROM schedule_overrides o
    WHERE o.org_id = s.org_id AND o.schedule_id = s.id AND o.end_time > $3 AND o.start_time < $4) AS overrides,
  (SELECT coalesce(json_agg(json_build_array(p.id, {_minute("p.start_time")},
       {_minute("p.end_time")}, p.shifts, p.ordinal) ORDER BY p.ordinal), '[]')
     FROM fixed_periods p
    WHERE p.org_id = s.org_id AND p.schedule_id = s.id AND p.end_time > $3 AND p.start_time < $4) AS periods,
  (SELECT coalesce(json_agg(json_build_array(c.id, c.rank, c.mode, c.shifts) ORDER BY c.create_time, c.id), '[]')
     FROM calendar_imports c WHERE c.org_id = s.org_id AND c.schedule_id = s.id) AS imported
FROM schedules s JOIN unnest($1::text[], $2::text[]) AS w(org_id, id) USING (org_id, id)
"""

_GONE: Final = f"""
WITH wanted AS (SELECT DISTINCT * FROM unnest($1::text[], $2::text[]) AS w(org_id, id))
SELECT w.org_id, w.id, NULL::bigint AS start, NULL::bigint AS "end"
  FROM wanted w LEFT JOIN users u ON u.org_id = w.org_id AND u.id = w.id WHERE u.id IS NULL OR u.disabled
UNION ALL
SELECT a.org_id, a.user_id, {_minute("a.start_time")}, {_minute("a.end_time")}
  FROM wanted w JOIN absences a ON a.org_id = w.org_id AND a.user_id = w.id AND a.end_time > $3 AND a.start_time < $4
ORDER BY 1, 2, 3
"""


@dataclass(frozen=True, slots=True)
class Gone:
    """Users of one tenant who cannot be paged, and the times at which others are away."""

    unusable: frozenset[str] = frozenset()
    absences: tuple[Absence, ...] = ()

    def among(self, users: frozenset[str]) -> "Gone":
        """Those of these users."""
        return Gone(self.unusable & users, tuple(each for each in self.absences if each[0] in users))

    def times(self) -> dict[str, tuple[tuple[int, int], ...]]:
        """When each is away."""
        found: dict[str, tuple[tuple[int, int], ...]] = {}
        for user, start, end in self.absences:
            found[user] = (*found.get(user, ()), (start, end))
        return found


_EVERYBODY_THERE: Final = Gone()


@dataclass(frozen=True, slots=True)
class Texts:
    """Schedules as PostgreSQL gives them, with everything of them that matters within [since, until)."""

    since: datetime
    until: datetime
    by_key: Mapping[Key, _Text]

    @property
    def is_much(self) -> bool:
        """Whether `read` takes longer than other calls may wait."""
        texts = self.by_key.values()
        return sum(text.size for text in texts) > READ_AT_ONCE or any(unknown(text.layers) for text in texts)

    def read(self) -> "Read":
        """What they say."""
        return Read(self, parsed(self.by_key))


@dataclass(frozen=True, slots=True)
class Read:
    """Schedules, and whom each names."""

    texts: Texts
    found: Mapping[Key, tuple[Schedule, frozenset[str]]]

    async def with_people(self, tx: Tx) -> dict[Key, Schedule]:
        """The schedules, and who of those whom they name is gone or away."""
        named = [(org, user) for (org, _), (_, users) in self.found.items() for user in users]
        gone = await people_gone(tx, named, self.texts.since, self.texts.until)
        return {
            key: _without(schedule, gone.get(key[0], _EVERYBODY_THERE).among(users), kept=self.texts.by_key[key].kept)
            for key, (schedule, users) in self.found.items()
        }


def parsed(texts: Mapping[Key, _Text]) -> dict[Key, tuple[Schedule, frozenset[str]]]:
    """Each schedule, and whom it names."""
    return {key: _kept(text) if text.kept else _read(text) for key, text in texts.items()}


async def load(tx: Tx, wanted: Iterable[Key], since: datetime, until: datetime) -> dict[Key, Schedule]:
    """Loads those of the schedules that exist, with all data for [since, until).

    For pages, for notices of shifts, and for `store.people.directory`, by which pages are decided. Transactions of pages and
    notices have locked the rows that they decide about, so they wait for a thread of `THREADS`; each replica has few of
    them at a time. What callers ask about schedules has `app.schedules.reading`, which waits for no thread in a transaction.
    """
    texts = await texts_of(tx, wanted, since, until)
    if texts.is_much:
        read = await asyncio.get_running_loop().run_in_executor(THREADS, texts.read)
    else:
        read = texts.read()
    return await read.with_people(tx)


async def texts_of(tx: Tx, wanted: Iterable[Key], since: datetime, until: datetime) -> Texts:
    """Those of the schedules that exist, not read yet."""
    keys = list(dict.fromkeys(wanted))
    if not keys:
        return Texts(since, until, {})
    records = await tx.fetch(_LOAD, [org for org, _ in keys], [id for _, id in keys], since, until)
    return Texts(
        since,
        until,
        {
            (r["org_id"], r["id"]): _Text(
                r["id"], r["time_zone"], r["stand_in"], r["layers"], r["overrides"], r["periods"], r["imported"]
            )
            for r in records
        },
    )


async def people_gone(tx: Tx, named: Sequence[tuple[str, str]], since: datetime, until: datetime) -> dict[str, Gone]:
    """Those of the (tenant, user) pairs who cannot be paged, or are away within [since, until), by tenant."""
    pairs = list(dict.fromkeys(named))
    if not pairs:
        return {}
    unusable: dict[str, set[str]] = {}
    absences: dict[str, list[Absence]] = {}
    for record in await tx.fetch(_GONE, [org for org, _ in pairs], [user for _, user in pairs], since, until):
        org, user = record["org_id"], record["id"]
        if record["start"] is None:
            unusable.setdefault(org, set()).add(user)
        else:
            absences.setdefault(org, []).append((user, record["start"], record["end"]))
    return {
        org: Gone(frozenset(unusable.get(org, ())), tuple(absences.get(org, ())))
        for org in unusable.keys() | absences.keys()
    }


@lru_cache(KEPT)
def _kept(text: _Text) -> tuple[Schedule, frozenset[str]]:
    return _read(text)


def _without(schedule: Schedule, gone: Gone, *, kept: bool) -> Schedule:
    if gone == _EVERYBODY_THERE:
        return schedule
    return _kept_without(schedule, gone) if kept else _less(schedule, gone)


@lru_cache(KEPT)
def _kept_without(schedule: Schedule, gone: Gone) -> Schedule:
    return _less(schedule, gone)


def _less(schedule: Schedule, gone: Gone) -> Schedule:
    return replace(schedule, absences=gone.times(), unusable=gone.unusable)


def _read(text: _Text) -> tuple[Schedule, frozenset[str]]:
    schedule = Schedule(
        text.id,
        text.time_zone,
        layers_from_json(text.layers),
        tuple(
            Override(id, start, end, Scope(scope), tuple(users), ordinal, replaced, swap or "")
            for id, start, end, scope, users, ordinal, replaced, swap in _list(text.overrides)
        ),
        tuple(
            FixedPeriod(id, start, end, shifts_from(shifts), ordinal)
            for id, start, end, shifts, ordinal in _list(text.periods)
        ),
        stand_in=text.stand_in,
        imported=tuple(
            Imported(id, rank, Mode(mode), shifts_from(shifts)) for id, rank, mode, shifts in _list(text.imported)
        ),
    )
    return schedule, frozenset(users_of(schedule))


def _list(text: str) -> list[Any]:
    return [] if text == "[]" else json.loads(text)
