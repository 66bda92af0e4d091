"""Layers of schedules whose shifts come from calendars of others.

Revision ID: 0024
Revises: 0023
"""

from alembic import op
from tocsin_kit.db.migrations import enable_row_security, run_script

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

TABLE = """
CREATE TABLE calendar_imports (
  org_id text NOT NULL,
  id uuid NOT NULL,
  schedule_id text NOT NULL,
  display_name text NOT NULL,
  url bytea NOT NULL,
  host text NOT NULL,
  time_zone text NOT NULL,
  rank integer NOT NULL,
  mode text NOT NULL,
  names jsonb NOT NULL,
  author text NOT NULL,
  create_time timestamptz NOT NULL DEFAULT app_now(),
  due_time timestamptz NOT NULL DEFAULT app_now(),
  fetch_time timestamptz,
  read_time timestamptz,
  error text NOT NULL DEFAULT '',
  shifts jsonb NOT NULL DEFAULT '[]',
  cut boolean NOT NULL DEFAULT false,
  unmatched text[] NOT NULL DEFAULT '{}',
  CONSTRAINT calendar_imports_pkey PRIMARY KEY (org_id, id),
  CONSTRAINT calendar_imports_schedule_fkey FOREIGN KEY (org_id, schedule_id) REFERENCES schedules ON DELETE CASCADE,
  CONSTRAINT calendar_imports_mode CHECK (mode IN ('mask', 'add'))
);
COMMENT ON COLUMN calendar_imports.url IS 'Encrypted: who knows it can read the calendar';
COMMENT ON COLUMN calendar_imports.shifts IS 'Of the last time that the calendar could be read';
CREATE INDEX calendar_imports_by_schedule ON calendar_imports (org_id, schedule_id);
CREATE INDEX calendar_imports_due ON calendar_imports (due_time);
"""


def upgrade() -> None:
    run_script(op, TABLE)
    enable_row_security(op, "calendar_imports")


def downgrade() -> None:
    run_script(op, "DROP TABLE calendar_imports")
