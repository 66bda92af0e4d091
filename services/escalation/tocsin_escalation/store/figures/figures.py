"""Reads figures of incidents."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Final

from asyncpg import InvalidParameterValueError, Record
from tocsin_kit.db.pool import Tx
from tocsin_kit.errors import invalid

from tocsin_escalation.domain.figures import Group, IncidentFigures, Keys, Question

COLUMNS: Final = {Group.POLICY: "policy_id", Group.TEAM: "team", Group.SEVERITY: "severity", Group.USER: "user_id"}
TIMES: Final = {
    Group.DAY: "local::date",
    Group.WEEK: "date_trunc('week', local)::date",
    Group.MONTH: "date_trunc('month', local)::date",
    Group.HOUR_OF_DAY: "extract(hour FROM local)::int",
    Group.DAY_OF_WEEK: "extract(isodow FROM local)::int",
}
_UNITS: Final = {
    Group.HOUR_OF_DAY: "hour",
    Group.DAY_OF_WEEK: "day",
    Group.DAY: "day",
    Group.WEEK: "week",
    Group.MONTH: "month",
}
"""The finest first."""
_FIELDS: Final = {
    Group.DAY: "first_day",
    Group.WEEK: "first_day",
    Group.MONTH: "first_day",
    Group.HOUR_OF_DAY: "hour_of_day",
    Group.DAY_OF_WEEK: "day_of_week",
    Group.POLICY: "policy",
    Group.TEAM: "team",
    Group.SEVERITY: "severity",
    Group.USER: "user",
}
FILTERED: Final = """org_id = $1 AND quarter >= {} AND quarter < {}
  AND (cardinality($5::text[]) = 0 OR policy_id = ANY($5)) AND (cardinality($6::text[]) = 0 OR team = ANY($6))"""
_SUMS: Final = ("opened", "acknowledged", "acknowledge_ms", "resolved", "resolve_ms", "exhausted")


async def of_incidents(tx: Tx, question: Question, limit: int) -> list[IncidentFigures]:
    """At most `limit` rows, in the order of their groups. Raises TocsinError for a zone that PostgreSQL does not know."""
    inner = [COLUMNS[group] for group in question.groups if group in COLUMNS]
    sums = ", ".join(f"sum({each})::bigint AS {each}" for each in _SUMS)
    added_up = f"""
  SELECT {"".join(f"{each}, " for each in inner)}{sums} FROM incident_figures
  WHERE opened > 0 AND {FILTERED.format(*_within(question))} AND (cardinality($7::int[]) = 0 OR severity = ANY($7))
  {"GROUP BY " + ", ".join(inner) if inner else "HAVING count(*) > 0"}"""
    text = f"""
{_runs(question)} SELECT {outer(question)}{sums} FROM runs CROSS JOIN LATERAL ({added_up}) f
{ordered(question)} LIMIT $8"""
    with naming_zones():
        records = await tx.fetch(text, *values(tx, question, list(question.severities), limit))
    return [
        IncidentFigures(keys(question, record), *(record[each] for each in _SUMS))
        for record in records
        if record["opened"] is not None
    ]


async def counted_until(tx: Tx) -> datetime | None:
    """Until when the tenant's timeline is counted; None before it was counted for the first time."""
    time: datetime | None = await tx.fetchval("SELECT count_time FROM counting_places WHERE org_id = $1", tx.org_id)
    return time


def values(tx: Tx, question: Question, last: Sequence[object], limit: int) -> tuple[object, ...]:
    """The values of the parameters, in their order."""
    policies, teams = list(question.policies), list(question.teams)
    return tx.org_id, question.start, question.end, question.zone, policies, teams, last, limit


@contextmanager
def naming_zones() -> Iterator[None]:
    """Raises INVALID_FIELD for a zone that PostgreSQL does not know."""
    try:
        yield
    except InvalidParameterValueError as error:
        raise invalid("time_zone", f"is not known to PostgreSQL, or that of a user is not: {error}") from error


def _within(question: Question) -> tuple[str, str]:
    return ("runs.first", "runs.last + interval '15 minutes'") if _finest(question) else ("$2", "$3")


def _finest(question: Question) -> str:
    """The unit of time within which the groups do not change; empty without groups of time."""
    units = [unit for group, unit in _UNITS.items() if group in question.groups]
    return units[0] if units else ""


def _runs(question: Question) -> str:
    """Stretches of quarters in one group: each is one index read, and the zone is computed once for a quarter.

    A clock that is set back after midnight shows the previous day a second time: then a day is two stretches.
    """
    unit = _finest(question)
    if not unit:
        return "WITH runs AS (SELECT $2::timestamptz, $3::timestamptz, $4::text)"
    return f"""WITH walls AS (
  SELECT quarter, date_trunc('{unit}', quarter AT TIME ZONE $4) AS local FROM generate_series(
    (SELECT greatest($2, min(quarter)) FROM incident_figures WHERE org_id = $1),
    (SELECT least($3::timestamptz - interval '15 minutes', max(quarter)) FROM incident_figures WHERE org_id = $1),
    '15 minutes') AS quarter
), marked AS (
  SELECT quarter, local, (local IS DISTINCT FROM lag(local) OVER (ORDER BY quarter))::int AS begins FROM walls
), numbered AS (
  SELECT quarter, local, sum(begins) OVER (ORDER BY quarter) AS run FROM marked
), runs AS MATERIALIZED (
  SELECT local, min(quarter) AS first, max(quarter) AS last FROM numbered GROUP BY run, local
)"""


def outer(question: Question) -> str:
    """The groups as columns of a result, each followed by a comma."""
    return "".join(f"{_expression(group)} AS k{n}, " for n, group in enumerate(question.groups))


def _expression(group: Group) -> str:
    return TIMES.get(group) or COLUMNS[group]


def ordered(question: Question) -> str:
    """Groups and sorts by these columns."""
    if not question.groups:
        return ""
    numbers = ", ".join(str(n) for n in range(1, len(question.groups) + 1))
    return f"GROUP BY {numbers} ORDER BY {numbers}"


def keys(question: Question, record: Record) -> Keys:
    """What these columns say."""
    return Keys(**{_FIELDS[group]: record[f"k{n}"] for n, group in enumerate(question.groups)})
