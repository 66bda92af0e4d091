"""How much users want to get, what each got lately, and what they get together: a part of `store/tables.py`."""

from sqlalchemy import ARRAY, UUID, Double, Integer, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import JSONB
from tocsin_kit.db.tables import NOW, TIME, check, column, foreign_key, index, primary_key


def notification_settings(metadata: MetaData) -> Table:
    """How much a user wants to get, when, and in which language; `users/*` is what the organisation wants for all others."""
    return Table(
        "notification_settings",
        metadata,
        column("org_id", Text),
        column("user_id", Text),
        column("budget_pages", Integer, nullable=True),
        column("budget_window", Double, nullable=True),
        column("version", Integer, default="1"),
        column("update_time", TIME, default=NOW),
        column("quiet_hours", JSONB, nullable=True),
        column("language", Text, nullable=True),
        primary_key("org_id", "user_id"),
        check(
            "budget_pages BETWEEN 0 AND 1000 AND budget_window BETWEEN 1 AND 86400 "
            "AND (budget_pages IS NOT NULL OR budget_window IS NULL)",
            name="notification_settings_budget",
        ),
    )


def paces(metadata: MetaData) -> Table:
    """What each person got lately, and the bundle that collects their further pages."""
    return Table(
        "paces",
        metadata,
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
        index("paces_due", "bundle_due", where="bundle IS NOT NULL"),
        index("paces_by_bundle", "bundle", where="bundle IS NOT NULL"),
        index("paces_oldest", "update_time"),
    )


def quiet_bundles(metadata: MetaData) -> Table:
    """The bundle in which a person's pages of low urgency wait, and when their quiet hours end as far as is known."""
    return Table(
        "quiet_bundles",
        metadata,
        column("org_id", Text),
        column("user_id", Text),
        column("bundle", UUID),
        column("due_time", TIME),
        primary_key("org_id", "user_id"),
        index("quiet_bundles_due", "due_time"),
        index("quiet_bundles_by_bundle", "bundle"),
    )


def bundle_pages(metadata: MetaData) -> Table:
    """Pages that are sent together. The bundle is the id of the page that stands for them, and that page's incident."""
    return Table(
        "bundle_pages",
        metadata,
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
