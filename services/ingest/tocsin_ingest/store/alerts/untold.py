"""Refused alerts of which people are to be told. Two tables count them, by what refused them: `refusals` and `intakes`.

Both have the columns `refused`, `reason` and `report_time`.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Untold:
    """An integration whose people are to be told of so many `refused` alerts, the last of them for this `reason`."""

    org_id: str
    integration_id: str
    refused: int
    reason: str


def take_from(table: str) -> str:
    """SQL: up to $1 integrations whose last report is an hour old or older. What they return counts as told."""
    return f"""
WITH due AS (
  SELECT org_id, integration_id, refused, reason FROM {table}
  WHERE refused > 0 AND report_time <= app_now() - interval '1 hour'
  ORDER BY report_time LIMIT $1 FOR UPDATE SKIP LOCKED
)
UPDATE {table} t SET refused = 0, report_time = app_now() FROM due d
WHERE t.org_id = d.org_id AND t.integration_id = d.integration_id
RETURNING d.org_id, d.integration_id, d.refused, d.reason
"""


def give_back_to(table: str) -> str:
    """SQL: $3 alerts of integration $2 were not told after all, and are due."""
    return f"""
UPDATE {table} SET refused = refused + $3, report_time = app_now() - interval '1 hour'
WHERE org_id = $1 AND integration_id = $2
"""
