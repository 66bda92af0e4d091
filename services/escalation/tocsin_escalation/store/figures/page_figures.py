"""Reads figures of pages: of whole days of UTC from `person_days`, of the remaining time from the quarters of an hour.

Which quarters of a day are night or working hours depends on the zone of the person. A row of `person_days` holds the quarters
with pages as 96 bits, and a zone's night is 96 bits as well: the bits in both are counted. Questions about hours or days of a
zone are answered from the quarters.
"""

from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from typing import Final

from tocsin_kit.db.pool import Tx

from tocsin_escalation.domain.figures import Group, PageFigures, Question
from tocsin_escalation.store.figures.figures import COLUMNS, FILTERED, TIMES, keys, naming_zones, ordered, outer, values

_IS_SLEEP: Final = "hour NOT BETWEEN 7 AND 21"
_IS_BUSINESS: Final = "weekday < 6 AND hour BETWEEN 8 AND 17"
_USERS: Final = "(cardinality($7::text[]) = 0 OR user_id = ANY($7))"
_CHOSEN: Final = f"""(cardinality($5::text[]) = 0 OR policy_id = ANY($5)) AND (cardinality($6::text[]) = 0 OR team = ANY($6))
  AND {_USERS}"""
_ZONE: Final = "coalesce(nullif($4, ''), nullif(u.time_zone, ''), 'UTC')"


async def of_pages(tx: Tx, question: Question, limit: int) -> list[PageFigures]:
    """At most `limit` rows, in the order of their groups. Raises TocsinError for a zone that PostgreSQL does not know."""
    parameters = values(tx, question, list(question.users), limit)
    inner = [COLUMNS[group] for group in question.groups if group in COLUMNS and group is not Group.USER]
    if any(group in TIMES for group in question.groups):
        text = f"{_hours(inner, FILTERED.format('$2', '$3'))} {_sums(question, 'hours')}"
    else:
        text = f"{_counted(inner)} {_sums(question, 'counted')}"
        parameters = (*parameters, *whole_days(question.start, question.end))
    with naming_zones():
        records = await tx.fetch(text, *parameters)
    return [
        PageFigures(
            keys(question, record),
            record["pages"],
            record["acknowledged"],
            record["interruptions"],
            record["business"],
            record["interruptions"] - record["business"] - record["sleep"],
            record["sleep"],
        )
        for record in records
        if record["pages"] is not None
    ]


def whole_days(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """The days of UTC that lie in [start, end) as a whole; `end` twice if there is none."""
    first, last = _midnight(start), _midnight(end)
    if first < start:
        first += timedelta(days=1)
    return (first, last) if first < last else (end, end)


def _midnight(moment: datetime) -> datetime:
    return datetime.combine(moment.astimezone(UTC).date(), time(), UTC)


def _hours(inner: list[str], where: str, of: str = "person_figures") -> str:
    """The quarters with pages and acknowledges of each person, as `hours`."""
    columns = ", ".join(["quarter", "user_id", *inner])
    # OFFSET 0: otherwise the planner would copy the conversion to each place that uses its result, and compute it each time.
    return f"""
WITH summed AS (
  SELECT {columns}, sum(pages::int) AS pages, sum(acknowledged::int) AS acknowledged
  FROM {of} WHERE {where} AND {_USERS} GROUP BY {columns}
), walls AS (
  SELECT quarter AT TIME ZONE {_ZONE} AS local, s.* FROM summed s LEFT JOIN users u ON u.org_id = $1 AND u.id = s.user_id OFFSET 0
), clocks AS (
  SELECT extract(hour FROM local)::int AS hour, extract(isodow FROM local)::int AS weekday, w.* FROM walls w OFFSET 0
), hours AS (
  SELECT (pages > 0)::int AS interruptions, (pages > 0 AND {_IS_BUSINESS})::int AS business,
    (pages > 0 AND {_IS_SLEEP})::int AS sleep, c.* FROM clocks c
)"""


def _counted(inner: list[str]) -> str:
    """The same of whole days and of the quarters around them, as `counted`."""
    columns = "".join(f", {each}" for each in ["user_id", *inner])
    numbers = "pages, acknowledged, interruptions, business, sleep"
    around = "(VALUES ($2::timestamptz, $9::timestamptz), ($10::timestamptz, $3::timestamptz)) AS r(since, until)"
    quarters = f"{around} JOIN person_figures ON quarter >= r.since AND quarter < r.until"
    return f"""{_hours(inner, f"org_id = $1 AND {_CHOSEN}", quarters)}, days AS (
  SELECT day{columns}, sum(pages)::bigint AS pages, sum(acknowledged)::bigint AS acknowledged, bit_or(quarters) AS quarters
  FROM person_days
  WHERE org_id = $1 AND day >= ($9 AT TIME ZONE 'UTC')::date AND day < ($10 AT TIME ZONE 'UTC')::date AND $9 < $10 AND {_CHOSEN}
  GROUP BY day{columns}
), zoned AS MATERIALIZED (
  SELECT {_ZONE} AS zone, d.* FROM days d LEFT JOIN users u ON u.org_id = $1 AND u.id = d.user_id
), walls_of_days AS (
  SELECT zone, day, day::timestamp AT TIME ZONE 'UTC' AT TIME ZONE zone AS first,
    (day + 1)::timestamp AT TIME ZONE 'UTC' AT TIME ZONE zone AS last
  FROM (SELECT DISTINCT zone, day FROM zoned) z OFFSET 0
), shifted AS (
  SELECT *, extract(epoch FROM first::time)::int / 900 AS quarters,
    last - first = interval '1 day' AND extract(epoch FROM first::time)::int % 900 = 0 AS steady FROM walls_of_days OFFSET 0
), masks AS MATERIALIZED (
  SELECT zone, day, CASE WHEN steady THEN {_turned(_SLEEP, "quarters", "true", "true")} ELSE {_slowly(_IS_SLEEP)} END AS sleep,
    CASE WHEN steady THEN {_turned(_BUSINESS, "quarters", "extract(isodow FROM first) < 6", "extract(isodow FROM last) < 6")}
    ELSE {_slowly(_IS_BUSINESS)} END AS business FROM shifted
), counted AS (
  SELECT {numbers}{columns} FROM hours
  UNION ALL
  SELECT pages, acknowledged, bit_count(quarters)::int, bit_count(quarters & business)::int,
    bit_count(quarters & sleep)::int{columns}
  FROM zoned JOIN masks USING (zone, day)
)"""


def _sums(question: Question, of: str) -> str:
    return f"""SELECT {outer(question)}sum(pages)::bigint AS pages, sum(acknowledged)::bigint AS acknowledged,
  sum(interruptions)::bigint AS interruptions, sum(business)::bigint AS business, sum(sleep)::bigint AS sleep
FROM {of} {ordered(question)} LIMIT $8"""


def _bits(wanted: Callable[[int], bool]) -> str:
    """A day of local time; `wanted` is evaluated for each hour."""
    return "B'" + "".join("1111" if wanted(hour) else "0000" for hour in range(24)) + "'"


_NOTHING: Final = _bits(lambda _: False)
_SLEEP: Final = _bits(lambda hour: not 7 <= hour <= 21)
_BUSINESS: Final = _bits(lambda hour: 8 <= hour <= 17)


def _turned(bits: str, by: str, today: str, tomorrow: str) -> str:
    """The bits of a day of UTC that begins so many quarters after local midnight: it ends in the next local day."""
    return f"""((CASE WHEN {today} THEN {bits} << {by} ELSE {_NOTHING} END) | (CASE WHEN {tomorrow} THEN {bits} >> (96 - {by})
      ELSE {_NOTHING} END))"""


def _slowly(condition: str) -> str:
    """The same of a day in which the clocks change: each quarter by itself."""
    return f"""(SELECT bit_or(set_bit({_NOTHING}, n, ({condition})::int)) FROM (
      SELECT n, extract(hour FROM local)::int AS hour, extract(isodow FROM local)::int AS weekday FROM (
        SELECT n, (day::timestamp + n * interval '15 minutes') AT TIME ZONE 'UTC' AT TIME ZONE zone AS local
        FROM generate_series(0, 95) n) w) h)"""
