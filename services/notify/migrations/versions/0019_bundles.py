"""Pages that are sent together: what each person got lately, and which pages are in which bundle.

Revision ID: 0019
Revises: 0018
"""

from alembic import op
from tocsin_kit.db.migrations import enable_row_security, run_script

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

# Validated by 0020: reading all rows here would hold up every page meanwhile.
CHECKS = """
ALTER TABLE pages DROP CONSTRAINT pages_type, ADD CONSTRAINT pages_type CHECK
  (type IN ('new_incident', 'escalation', 'acknowledgment', 'resolution', 'test', 'verification', 'urgency_raised',
   'contact_changed', 'message'{page})) NOT VALID;
ALTER TABLE notifications DROP CONSTRAINT notifications_state, ADD CONSTRAINT notifications_state CHECK
  (state IN ('pending', 'sending', 'sent', 'cancelled', 'dead'{state})) NOT VALID;
"""
TABLES = """
CREATE TABLE paces (
  org_id text NOT NULL,
  user_id text NOT NULL,
  alone timestamptz[] NOT NULL DEFAULT '{}',
  storm_until timestamptz,
  bundle uuid,
  bundle_due timestamptz,
  bundles integer NOT NULL DEFAULT 0,
  update_time timestamptz NOT NULL DEFAULT app_now(),
  CONSTRAINT paces_pkey PRIMARY KEY (org_id, user_id),
  CONSTRAINT paces_bundle CHECK ((bundle IS NULL) = (bundle_due IS NULL))
);
CREATE INDEX paces_due ON paces (bundle_due) WHERE bundle IS NOT NULL;
CREATE INDEX paces_by_bundle ON paces (bundle) WHERE bundle IS NOT NULL;
CREATE INDEX paces_oldest ON paces (update_time);
CREATE TABLE bundle_pages (
  org_id text NOT NULL,
  bundle uuid NOT NULL,
  page_id uuid NOT NULL,
  incident uuid NOT NULL,
  generation integer NOT NULL,
  CONSTRAINT bundle_pages_pkey PRIMARY KEY (page_id),
  CONSTRAINT bundle_pages_page_fkey FOREIGN KEY (page_id) REFERENCES pages (id) ON DELETE CASCADE
);
CREATE INDEX bundle_pages_by_bundle ON bundle_pages (bundle);
CREATE INDEX bundle_pages_by_incident ON bundle_pages (org_id, incident);
"""
BACK = """
UPDATE notifications SET state = 'cancelled' WHERE state = 'bundled';
DELETE FROM pages WHERE type = 'bundle';
DROP TABLE bundle_pages;
DROP TABLE paces;
"""


def upgrade() -> None:
    run_script(op, CHECKS.format(page=", 'bundle'", state=", 'bundled'") + TABLES)
    enable_row_security(op, "paces")
    enable_row_security(op, "bundle_pages")


def downgrade() -> None:
    run_script(op, BACK + CHECKS.format(page="", state=""))
