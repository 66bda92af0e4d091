"""Direct and scheduled messages.

A message becomes a page when it is due. It may be about no incident, or stop with one. `pages.expire_time` ends a page
that would be sent too late, or that was cancelled before its call.

Revision ID: 0012
Revises: 0011
"""

from alembic import op
from tocsin_kit.db.migrations import enable_row_security, run_script

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# Validated by 0015: reading all pages here would hold up every page meanwhile.
CHECKS = """
ALTER TABLE pages DROP CONSTRAINT pages_type, ADD CONSTRAINT pages_type CHECK
  (type IN ('new_incident', 'escalation', 'acknowledgment', 'resolution', 'test', 'verification', 'urgency_raised',
   'contact_changed'{more})) NOT VALID,
  DROP CONSTRAINT pages_incident,
  ADD CONSTRAINT pages_incident CHECK ({free}(incident IS NULL) = (type IN ('test', 'verification', 'contact_changed'))) NOT VALID;
"""
TABLE = """
ALTER TABLE pages ADD COLUMN expire_time timestamptz;
CREATE TABLE messages (
  id uuid NOT NULL,
  org_id text NOT NULL,
  sender text NOT NULL,
  user_id text NOT NULL,
  channel text,
  address text NOT NULL DEFAULT '',
  subject text NOT NULL,
  body text NOT NULL,
  about text NOT NULL,
  urgency text NOT NULL,
  send_time timestamptz NOT NULL,
  local_time text NOT NULL DEFAULT '',
  time_zone text NOT NULL DEFAULT '',
  expire_seconds double precision,
  state text NOT NULL DEFAULT 'scheduled',
  state_reason text NOT NULL DEFAULT '',
  version int NOT NULL DEFAULT 1,
  create_time timestamptz NOT NULL DEFAULT app_now(),
  update_time timestamptz NOT NULL DEFAULT app_now(),
  CONSTRAINT messages_pkey PRIMARY KEY (id),
  CONSTRAINT messages_state CHECK (state IN ('scheduled', 'released', 'cancelled', 'stopped')),
  CONSTRAINT messages_urgency CHECK (urgency IN ('high', 'low')),
  CONSTRAINT messages_to CHECK ((user_id = '') = (channel IS NOT NULL) AND (channel IS NULL) = (address = ''))
);
CREATE INDEX messages_due ON messages (send_time, id) WHERE state = 'scheduled';
CREATE INDEX messages_scheduled ON messages (org_id, send_time, id) WHERE state = 'scheduled';
CREATE INDEX messages_latest ON messages (org_id, send_time DESC, id DESC);
CREATE INDEX messages_oldest ON messages (update_time) WHERE state <> 'scheduled';
"""
BACK = """
DELETE FROM pages WHERE type = 'message';
DROP TABLE messages;
ALTER TABLE pages DROP COLUMN expire_time;
"""


def upgrade() -> None:
    run_script(op, CHECKS.format(more=", 'message'", free="type = 'message' OR ") + TABLE)
    enable_row_security(op, "messages")


def downgrade() -> None:
    run_script(op, BACK + CHECKS.format(more="", free=""))
