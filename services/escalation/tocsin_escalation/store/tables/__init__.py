"""The schema of escalation: the tables as all migrations together leave them.

A migration that changes one changes this package in the same commit; tests/store/test_schema.py compares the two.
"""

from tocsin_escalation.store.tables import shared
from tocsin_escalation.store.tables.access import api_keys, revocations, service_accounts
from tocsin_escalation.store.tables.figures import (
    counted_incidents,
    counting_places,
    incident_figures,
    person_days,
    person_figures,
)
from tocsin_escalation.store.tables.incidents import escalations, event_feeds, timeline, timers
from tocsin_escalation.store.tables.metadata import METADATA
from tocsin_escalation.store.tables.notices import known_shifts, reminders, shift_notice_choices, shift_notices
from tocsin_escalation.store.tables.people import policies, policy_turns, teams, users
from tocsin_escalation.store.tables.schedules import (
    absences,
    calendar_feeds,
    calendar_imports,
    fixed_periods,
    schedule_overrides,
    schedules,
    swaps,
)

__all__ = [
    "METADATA",
    "absences",
    "api_keys",
    "calendar_feeds",
    "calendar_imports",
    "counted_incidents",
    "counting_places",
    "escalations",
    "event_feeds",
    "fixed_periods",
    "incident_figures",
    "known_shifts",
    "person_days",
    "person_figures",
    "policies",
    "policy_turns",
    "reminders",
    "revocations",
    "schedule_overrides",
    "schedules",
    "service_accounts",
    "shared",
    "shift_notice_choices",
    "shift_notices",
    "swaps",
    "teams",
    "timeline",
    "timers",
    "users",
]
