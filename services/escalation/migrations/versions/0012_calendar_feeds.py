"""Calendar feeds.

Revision ID: 0012
Revises: 0011
"""

from alembic import op
from tocsin_kit.db.migrations import enable_row_security, run_script

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

TABLE = """
CREATE TABLE calendar_feeds (
  org_id text NOT NULL,
  id uuid NOT NULL,
  user_id text NOT NULL,
  schedule_id text NOT NULL,
  display_name text NOT NULL,
  secret_hash bytea NOT NULL CHECK (length(secret_hash) = 32),
  prefix text NOT NULL,
  author text NOT NULL,
  create_time timestamptz NOT NULL DEFAULT app_now(),
  last_fetch_time timestamptz,
  events jsonb NOT NULL DEFAULT '[]',
  events_version bigint NOT NULL DEFAULT 0,
  CONSTRAINT calendar_feeds_pkey PRIMARY KEY (org_id, id),
  CONSTRAINT calendar_feeds_about CHECK ((user_id = '') <> (schedule_id = ''))
);
COMMENT ON COLUMN calendar_feeds.secret_hash IS 'SHA-256 of the secret: 32 random bytes need no slow hash';
COMMENT ON COLUMN calendar_feeds.events IS 'What the feed has shown, so that it can cancel what is not true any more';
CREATE UNIQUE INDEX calendar_feeds_by_secret ON calendar_feeds (secret_hash);
CREATE INDEX calendar_feeds_by_time ON calendar_feeds (org_id, create_time, id);
"""


def upgrade() -> None:
    run_script(op, TABLE)
    enable_row_security(op, "calendar_feeds")


def downgrade() -> None:
    run_script(op, "DROP TABLE calendar_feeds")
