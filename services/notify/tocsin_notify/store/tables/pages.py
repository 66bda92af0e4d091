"""Pages, bundles of pages, and fences."""

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
from sqlalchemy.dialects.postgresql import JSONB
from tocsin_kit.db.tables import NOW, TIME, check, column, foreign_key, index, primary_key

from tocsin_notify.store.tables.metadata import METADATA

pages: Final = Table(
    "pages",
    METADATA,
    column("id", UUID),
    column("org_id", Text),
    column("user_id", Text),
    column("incident", UUID, nullable=True),
    column("type", Text),
    column("urgency", Text),
    column("priority", SmallInteger),
    column("level", Integer),
    column("repeat", Integer),
    column("generation", Integer),
    column("planned_time", TIME, nullable=True),
    column("channel_override", Text, nullable=True),
    column("only_method", UUID, nullable=True),
    column("job", LargeBinary),
    column("create_time", TIME, default=NOW),
    column("expire_time", TIME, nullable=True),
    column("outlasts", Boolean, default="false"),
    primary_key("id"),
    check(
        "type IN ('new_incident', 'escalation', 'acknowledgment', 'resolution', 'test', 'verification', 'urgency_raised', "
        "'contact_changed', 'message', 'bundle', 'digest')",
        name="pages_type",
    ),
    check(
        "type = 'message' OR (incident IS NULL) = (type IN ('test', 'verification', 'contact_changed', 'digest'))",
        name="pages_incident",
    ),
    check("priority IN (0, 1)", name="pages_priority"),
    index("pages_oldest", "create_time"),
)
"""Requests of escalation to reach a user, each with the job as it was received."""

paces: Final = Table(
    "paces",
    METADATA,
    column("org_id", Text),
    column("user_id", Text),
    column("alone", ARRAY(TIME), default="'{}'"),
    column("storm_until", TIME, nullable=True),
    column("bundle", UUID, nullable=True),
    column("bundle_due", TIME, nullable=True),
    column("bundles", Integer, default="0"),
    column("update_time", TIME, default=NOW),
    primary_key("org_id", "user_id"),
    check("(bundle IS NULL) = (bundle_due IS NULL)", name="paces_bundle"),
    index("paces_due", "bundle_due", "bundle", where="bundle IS NOT NULL"),
    index("paces_turns", "org_id", "bundle_due", "bundle", where="bundle IS NOT NULL"),
    index("paces_by_bundle", "bundle", where="bundle IS NOT NULL"),
    index("paces_oldest", "update_time"),
)
"""The pages that each person got lately, and the bundle that collects their further pages."""

quiet_bundles: Final = Table(
    "quiet_bundles",
    METADATA,
    column("org_id", Text),
    column("user_id", Text),
    column("bundle", UUID),
    column("due_time", TIME),
    primary_key("org_id", "user_id"),
    index("quiet_bundles_due", "due_time", "bundle"),
    index("quiet_bundles_turns", "org_id", "due_time", "bundle"),
    index("quiet_bundles_by_bundle", "bundle"),
)
"""The bundle in which a person's pages of low urgency wait, and the known end of their quiet hours."""

bundle_pages: Final = Table(
    "bundle_pages",
    METADATA,
    column("org_id", Text),
    column("bundle", UUID),
    column("page_id", UUID),
    column("incident", UUID),
    column("generation", Integer),
    primary_key("page_id"),
    foreign_key(["page_id"], "pages", ["id"], name="bundle_pages_page_fkey", ondelete="CASCADE"),
    index("bundle_pages_by_bundle", "bundle"),
    index("bundle_pages_by_incident", "org_id", "incident"),
)
"""Pages that are sent together. The bundle's id is also the id of the page that stands for them, and of that page's
incident."""

cancel_fences: Final = Table(
    "cancel_fences",
    METADATA,
    column("org_id", Text),
    column("incident", UUID),
    column("generation", Integer),
    column("reason", Text),
    column("update_time", TIME, default=NOW),
    column("followed", Boolean, default="true"),
    column("final_generation", Integer, nullable=True),
    column("own", JSONB, default="'{}'"),
    primary_key("org_id", "incident"),
    index("cancel_fences_oldest", "update_time"),
    index("cancel_fences_to_follow", "update_time", where="NOT followed"),
    index("cancel_fences_open_by_org", "org_id", "update_time", where="NOT followed"),
)
"""Fences of stopped incidents: pages up to this generation are not sent. `own`: by `users/{user}`, the generation up to which the
pages of a user are not sent who has passed the incident on, and the reason."""
