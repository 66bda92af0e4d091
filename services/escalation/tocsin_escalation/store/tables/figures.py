"""Figures of the past."""

from typing import Final

from sqlalchemy import (
    UUID,
    BigInteger,
    Boolean,
    Date,
    SmallInteger,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import BIT
from tocsin_kit.db.tables import NOW, TIME, column, index, primary_key

from tocsin_escalation.store.tables.metadata import METADATA

counting_places: Final = Table(
    "counting_places",
    METADATA,
    column("org_id", Text),
    column("server", Text),
    column("since", TIME),
    column("transaction", BigInteger),
    column("id", BigInteger),
    column("count_time", TIME, default=NOW),
    primary_key("org_id"),
)
"""How far the timeline of each tenant is counted into figures."""

counted_incidents: Final = Table(
    "counted_incidents",
    METADATA,
    column("incident_id", UUID),
    column("org_id", Text),
    column("create_time", TIME),
    column("policy_id", Text),
    column("team", Text),
    column("severity", SmallInteger),
    column("acknowledged", Boolean, default="false"),
    column("resolved", Boolean, default="false"),
    column("exhausted", Boolean, default="false"),
    primary_key("incident_id"),
)
"""The group of each counted incident, and which of its events are counted already."""

_COUNTS: Final = ("opened", "acknowledged", "acknowledge_ms", "resolved", "resolve_ms", "exhausted", "ended")
incident_figures: Final = Table(
    "incident_figures",
    METADATA,
    column("org_id", Text),
    column("quarter", TIME),
    column("policy_id", Text),
    column("team", Text),
    column("severity", SmallInteger),
    *(column(name, BigInteger, default="0") for name in _COUNTS),
    primary_key("org_id", "quarter", "policy_id", "team", "severity"),
    index("incident_figures_by_time", "quarter"),
)
"""Of the incidents that were opened in a quarter of an hour. `ended` counts those that were resolved in it."""

person_figures: Final = Table(
    "person_figures",
    METADATA,
    column("org_id", Text),
    column("quarter", TIME),
    column("user_id", Text),
    column("policy_id", Text),
    column("team", Text),
    column("pages", BigInteger, default="0"),
    column("acknowledged", BigInteger, default="0"),
    primary_key("org_id", "quarter", "user_id", "policy_id", "team"),
    index("person_figures_by_time", "quarter"),
)
"""Of the pages and acknowledges of a user in a quarter of an hour."""

person_days: Final = Table(
    "person_days",
    METADATA,
    column("org_id", Text),
    column("day", Date, comment="Of UTC"),
    column("user_id", Text),
    column("policy_id", Text),
    column("team", Text),
    column("pages", BigInteger),
    column("acknowledged", BigInteger),
    column("quarters", BIT(96), comment="Those of the day in which pages were sent"),
    primary_key("org_id", "day", "user_id", "policy_id", "team"),
)
"""The same by days of UTC: triggers of `person_figures` keep it."""
