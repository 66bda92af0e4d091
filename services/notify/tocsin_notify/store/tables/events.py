"""Subscriptions to incident events, and their deliveries."""

from typing import Final

from sqlalchemy import (
    ARRAY,
    UUID,
    Boolean,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
)
from tocsin_kit.db.tables import NOW, TIME, check, column, foreign_key, index, primary_key

from tocsin_notify.store.tables.metadata import METADATA

subscriptions: Final = Table(
    "subscriptions",
    METADATA,
    column("id", UUID),
    column("org_id", Text),
    column("display_name", Text),
    column("url", Text),
    column("event_types", ARRAY(Text)),
    column("policies", ARRAY(Text)),
    column("least_severity", SmallInteger),
    column("disabled", Boolean),
    column("secret", LargeBinary),
    column("former_secret", LargeBinary, nullable=True),
    column("former_until", TIME, nullable=True),
    column("creator", Text),
    column("failures", Integer, default="0"),
    column("failing_since", TIME, nullable=True),
    column("failure", Text, default="''"),
    column("resume_time", TIME, nullable=True),
    column("stop_time", TIME, nullable=True),
    column("proven", Boolean, default="false"),
    column("pending", Integer, default="0"),
    column("lost", Integer, default="0"),
    column("loss_time", TIME, nullable=True),
    column("due_time", TIME, nullable=True),
    column("version", Integer, default="1"),
    column("create_time", TIME, default=NOW),
    column("update_time", TIME, default=NOW),
    primary_key("id"),
    check("(former_secret IS NULL) = (former_until IS NULL)", name="subscriptions_former"),
    check("(failures = 0) = (failing_since IS NULL)", name="subscriptions_failing"),
    index("subscriptions_oldest", "org_id", "create_time", "id"),
    index("subscriptions_due", "due_time", where="due_time IS NOT NULL AND NOT disabled AND stop_time IS NULL"),
)
"""Endpoints of a tenant that are told of its incidents. `failures`: requests in a row that failed. `due_time`: when to
check for due deliveries. `pending`: deliveries that have not ended. `lost`: events that were dropped.
"""

event_deliveries: Final = Table(
    "event_deliveries",
    METADATA,
    column("id", UUID),
    column("org_id", Text),
    column("subscription", UUID),
    column("incident", UUID, nullable=True),
    column("sequence", Integer),
    column("type", Text),
    column("event", LargeBinary),
    column("state", Text),
    column("attempts", Integer, default="0"),
    column("due_time", TIME, nullable=True),
    column("lease_until", TIME, nullable=True),
    column("since", TIME, default=NOW),
    column("create_time", TIME, default=NOW),
    column("end_time", TIME, nullable=True),
    primary_key("id"),
    foreign_key(
        ["subscription"], "subscriptions", ["id"], name="event_deliveries_subscription_fkey", ondelete="CASCADE"
    ),
    check("state IN ('pending', 'sending', 'delivered', 'failed')", name="event_deliveries_state"),
    check("(state = 'pending') = (due_time IS NOT NULL)", name="pending_delivery_has_due_time"),
    check("(state = 'sending') = (lease_until IS NOT NULL)", name="sending_delivery_has_lease"),
    check("(state IN ('delivered', 'failed')) = (end_time IS NOT NULL)", name="ended_delivery_has_end"),
    index("event_deliveries_waiting", "subscription", "create_time", "sequence", where="end_time IS NULL"),
    index("event_deliveries_of_incident", "subscription", "incident", "sequence"),
    index("event_deliveries_newest", "subscription", "create_time DESC", "sequence DESC", "id DESC"),
    index("event_deliveries_ended", "end_time", where="end_time IS NOT NULL"),
)
"""Events, each for one subscription, as escalation sent them. `since`: when stored, or last sent again by hand."""

delivery_attempts: Final = Table(
    "delivery_attempts",
    METADATA,
    column("org_id", Text),
    column("delivery_id", UUID),
    column("number", Integer),
    column("start_time", TIME),
    column("end_time", TIME, default=NOW),
    column("status", Integer),
    column("detail", Text),
    primary_key("delivery_id", "number"),
    foreign_key(
        ["delivery_id"], "event_deliveries", ["id"], name="delivery_attempts_delivery_fkey", ondelete="CASCADE"
    ),
)
"""The last requests of each delivery. A request whose process died has no row."""
