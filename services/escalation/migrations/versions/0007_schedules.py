"""Schedules and their overrides.

Revision ID: 0007
Revises: 0006
"""

from alembic import op
from tocsin_kit.db.migrations import enable_row_security, run_script

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE schedules (
  org_id text NOT NULL,
  id text NOT NULL,
  display_name text NOT NULL,
  description text NOT NULL,
  time_zone text NOT NULL,
  stand_in boolean NOT NULL,
  layers jsonb NOT NULL,
  version int NOT NULL DEFAULT 1,
  create_time timestamptz NOT NULL DEFAULT app_now(),
  update_time timestamptz NOT NULL DEFAULT app_now(),
  CONSTRAINT schedules_pkey PRIMARY KEY (org_id, id)
);

CREATE TABLE schedule_overrides (
  org_id text NOT NULL,
  id uuid NOT NULL,
  schedule_id text NOT NULL,
  start_time timestamptz NOT NULL,
  end_time timestamptz NOT NULL,
  scope text NOT NULL,
  replaced text NOT NULL,
  users text[] NOT NULL,
  reason text NOT NULL,
  author text NOT NULL,
  ordinal bigint GENERATED ALWAYS AS IDENTITY,
  create_time timestamptz NOT NULL DEFAULT app_now(),
  CONSTRAINT schedule_overrides_pkey PRIMARY KEY (org_id, id),
  CONSTRAINT schedule_overrides_schedule_fkey FOREIGN KEY (org_id, schedule_id) REFERENCES schedules ON DELETE CASCADE,
  CONSTRAINT schedule_overrides_scope CHECK (scope IN ('schedule', 'layer', 'person')),
  CONSTRAINT schedule_overrides_order CHECK (start_time < end_time)
);
CREATE INDEX schedule_overrides_by_schedule ON schedule_overrides (org_id, schedule_id, end_time);
CREATE INDEX schedule_overrides_by_end ON schedule_overrides (org_id, end_time, id);
"""


def upgrade() -> None:
    run_script(op, TABLES)
    for table in ("schedules", "schedule_overrides"):
        enable_row_security(op, table)


def downgrade() -> None:
    run_script(op, "DROP TABLE schedule_overrides; DROP TABLE schedules;")
