"""Messages that are sent again and again.

Revision ID: 0025
Revises: 0024
"""

from alembic import op
from tocsin_kit.db.migrations import enable_row_security, run_script

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

TABLE = """
CREATE TABLE recurring_messages (
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
  expire_seconds double precision,
  start_time text NOT NULL,
  time_zone text NOT NULL,
  rule text NOT NULL,
  state text NOT NULL DEFAULT 'active',
  state_reason text NOT NULL DEFAULT '',
  next_time timestamptz,
  sent_count int NOT NULL DEFAULT 0,
  latest_message uuid,
  create_time timestamptz NOT NULL DEFAULT app_now(),
  update_time timestamptz NOT NULL DEFAULT app_now(),
  CONSTRAINT recurring_messages_pkey PRIMARY KEY (id),
  CONSTRAINT recurring_messages_state CHECK (state IN ('active', 'paused', 'ended')),
  CONSTRAINT recurring_messages_next CHECK ((state = 'active') = (next_time IS NOT NULL)),
  CONSTRAINT recurring_messages_urgency CHECK (urgency IN ('high', 'low')),
  CONSTRAINT recurring_messages_to CHECK ((user_id = '') = (channel IS NOT NULL) AND (channel IS NULL) = (address = ''))
);
CREATE INDEX recurring_messages_due ON recurring_messages (next_time, id) WHERE state = 'active';
CREATE INDEX recurring_messages_living ON recurring_messages (org_id) WHERE state <> 'ended';
CREATE INDEX recurring_messages_oldest ON recurring_messages (org_id, create_time, id);
CREATE INDEX recurring_messages_ended ON recurring_messages (update_time) WHERE state = 'ended';
"""


def upgrade() -> None:
    run_script(op, TABLE)
    enable_row_security(op, "recurring_messages")


def downgrade() -> None:
    run_script(op, "DROP TABLE recurring_messages")
