"""The schema of notify: the tables as all migrations together leave them.

A migration that changes one changes this package in the same commit; tests/store/test_schema.py compares the two.
"""

from tocsin_notify.store.tables import shared
from tocsin_notify.store.tables.answers import link_uses, sms_senders, texts_received
from tocsin_notify.store.tables.chat import slack_groups
from tocsin_notify.store.tables.contacts import (
    contact_methods,
    notification_rules,
    notification_settings,
    rule_sets,
    verifications,
)
from tocsin_notify.store.tables.delivery import (
    IS_RECEIPTED,
    NAMES_A_SLACK_MESSAGE,
    attempts,
    dead_letters,
    notifications,
    queue_counters,
)
from tocsin_notify.store.tables.events import delivery_attempts, event_deliveries, subscriptions
from tocsin_notify.store.tables.messages import digests, messages, recurring_messages, template_sets, templates
from tocsin_notify.store.tables.metadata import METADATA
from tocsin_notify.store.tables.pages import bundle_pages, cancel_fences, paces, pages, quiet_bundles

__all__ = [
    "IS_RECEIPTED",
    "METADATA",
    "NAMES_A_SLACK_MESSAGE",
    "attempts",
    "bundle_pages",
    "cancel_fences",
    "contact_methods",
    "dead_letters",
    "delivery_attempts",
    "digests",
    "event_deliveries",
    "link_uses",
    "messages",
    "notification_rules",
    "notification_settings",
    "notifications",
    "paces",
    "pages",
    "queue_counters",
    "quiet_bundles",
    "recurring_messages",
    "rule_sets",
    "shared",
    "slack_groups",
    "sms_senders",
    "subscriptions",
    "template_sets",
    "templates",
    "texts_received",
    "verifications",
]
