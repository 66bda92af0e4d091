"""Absences of people, and periods in which a schedule's shifts are written down one by one.

Revision ID: 0008
Revises: 0007
"""

from alembic import op
from tocsin_kit.db.migrations import enable_row_security, run_script

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE absences (
  org_id text NOT NULL,
  id uuid NOT NULL,
  user_id text NOT NULL,
  start_time timestamptz NOT NULL,
  end_time timestamptz NOT NULL,
  reason text NOT NULL,
  author text NOT NULL,
  create_time timestamptz NOT NULL DEFAULT app_now(),
  CONSTRAINT absences_pkey PRIMARY KEY (org_id, id),
  CONSTRAINT absences_order CHECK (start_time < end_time)
);
CREATE INDEX absences_by_user ON absences (org_id, user_id, end_time);
CREATE INDEX absences_by_end ON absences (org_id, end_time, id);

CREATE TABLE fixed_periods (
  org_id text NOT NULL,
  id uuid NOT NULL,
  schedule_id text NOT NULL,
  start_time timestamptz NOT NULL,
  end_time timestamptz NOT NULL,
  shifts jsonb NOT NULL,
  reason text NOT NULL,
  author text NOT NULL,
  ordinal bigint GENERATED ALWAYS AS IDENTITY,
  create_time timestamptz NOT NULL DEFAULT app_now(),
  CONSTRAINT fixed_periods_pkey PRIMARY KEY (org_id, id),
  CONSTRAINT fixed_periods_schedule_fkey FOREIGN KEY (org_id, schedule_id) REFERENCES schedules ON DELETE CASCADE,
  CONSTRAINT fixed_periods_order CHECK (start_time < end_time)
);
CREATE INDEX fixed_periods_by_schedule ON fixed_periods (org_id, schedule_id, end_time);
CREATE INDEX fixed_periods_by_end ON fixed_periods (org_id, end_time, id);
"""


def upgrade() -> None:
    run_script(op, TABLES)
    for table in ("absences", "fixed_periods"):
        enable_row_security(op, table)


def downgrade() -> None:
    run_script(op, "DROP TABLE fixed_periods; DROP TABLE absences;")
