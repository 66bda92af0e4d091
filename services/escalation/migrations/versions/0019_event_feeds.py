"""Tenants whose incident events are handed to notify.

Revision ID: 0019
Revises: 0018
"""

from alembic import op
from tocsin_kit.db.migrations import enable_row_security, run_script

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_script(
        op,
        """CREATE TABLE event_feeds (
             org_id text NOT NULL,
             update_time timestamptz NOT NULL DEFAULT app_now(),
             CONSTRAINT event_feeds_pkey PRIMARY KEY (org_id)
           );
           CREATE INDEX event_feeds_oldest ON event_feeds (update_time);""",
    )
    enable_row_security(op, "event_feeds")


def downgrade() -> None:
    run_script(op, "DROP TABLE event_feeds;")
