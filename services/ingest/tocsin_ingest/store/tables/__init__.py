"""The schema of ingest: the tables as all migrations together leave them.

A migration that changes one changes this package in the same commit; tests/store/test_schema.py compares the two.
"""

from tocsin_ingest.store.tables import shared
from tocsin_ingest.store.tables.alerts import (
    alert_endings,
    alert_holds,
    alert_pauses,
    alert_thresholds,
    alerts,
    ended_firings,
    group_triggers,
    incidents,
)
from tocsin_ingest.store.tables.integrations import (
    intakes,
    integration_keys,
    integrations,
    mail_threads,
    refused_alerts,
)
from tocsin_ingest.store.tables.metadata import METADATA
from tocsin_ingest.store.tables.silences import silence_counts, silences

__all__ = [
    "METADATA",
    "alert_endings",
    "alert_holds",
    "alert_pauses",
    "alert_thresholds",
    "alerts",
    "ended_firings",
    "group_triggers",
    "incidents",
    "intakes",
    "integration_keys",
    "integrations",
    "mail_threads",
    "refused_alerts",
    "shared",
    "silence_counts",
    "silences",
]
