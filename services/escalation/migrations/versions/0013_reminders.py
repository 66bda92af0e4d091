"""Reminders of incidents.

Revision ID: 0013
Revises: 0012
"""

from alembic import op
from tocsin_kit.db.migrations import enable_row_security, run_script

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

TABLE = """
CREATE TABLE reminders (
  id uuid NOT NULL,
  org_id text NOT NULL,
  incident_id uuid NOT NULL,
  user_id text NOT NULL,
  text text NOT NULL,
  every_seconds int,
  next_time timestamptz,
  state text NOT NULL DEFAULT 'scheduled',
  state_reason text NOT NULL DEFAULT '',
  sent_count int NOT NULL DEFAULT 0,
  creator text NOT NULL,
  create_time timestamptz NOT NULL DEFAULT app_now(),
  CONSTRAINT reminders_pkey PRIMARY KEY (id),
  CONSTRAINT reminders_incident_fkey FOREIGN KEY (incident_id) REFERENCES escalations ON DELETE CASCADE,
  CONSTRAINT reminders_state CHECK (state IN ('scheduled', 'done', 'stopped')),
  CONSTRAINT reminders_next CHECK ((state = 'scheduled') = (next_time IS NOT NULL))
);
CREATE INDEX reminders_due ON reminders (next_time, id) WHERE state = 'scheduled';
CREATE INDEX reminders_scheduled ON reminders (org_id) WHERE state = 'scheduled';
CREATE INDEX reminders_oldest ON reminders (org_id, create_time, id);
CREATE INDEX reminders_by_incident ON reminders (incident_id, create_time, id);
"""


def upgrade() -> None:
    run_script(op, TABLE)
    enable_row_security(op, "reminders")


def downgrade() -> None:
    run_script(op, "DROP TABLE reminders")
