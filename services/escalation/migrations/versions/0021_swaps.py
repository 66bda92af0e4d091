"""Swaps: people exchange time on call.

Revision ID: 0021
Revises: 0020
"""

from alembic import op
from tocsin_kit.db.migrations import enable_row_security, run_script

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

TABLE = """
CREATE TABLE swaps (
  org_id text NOT NULL,
  id uuid NOT NULL,
  schedule_id text NOT NULL,
  user_id text NOT NULL,
  start_time timestamptz NOT NULL,
  end_time timestamptz NOT NULL,
  return_start_time timestamptz,
  return_end_time timestamptz,
  offered_to text[] NOT NULL,
  reason text NOT NULL,
  author text NOT NULL,
  state text NOT NULL DEFAULT 'offered',
  accepted_by text NOT NULL DEFAULT '',
  declined_by text[] NOT NULL DEFAULT '{}',
  version integer NOT NULL DEFAULT 1,
  create_time timestamptz NOT NULL DEFAULT app_now(),
  update_time timestamptz NOT NULL DEFAULT app_now(),
  CONSTRAINT swaps_pkey PRIMARY KEY (org_id, id),
  CONSTRAINT swaps_schedule_fkey FOREIGN KEY (org_id, schedule_id) REFERENCES schedules ON DELETE CASCADE,
  CONSTRAINT swaps_order CHECK (start_time < end_time),
  CONSTRAINT swaps_return CHECK (return_start_time < return_end_time),
  CONSTRAINT swaps_state CHECK (state IN ('offered', 'accepted', 'declined', 'withdrawn')),
  CONSTRAINT swaps_accepted CHECK ((state = 'accepted') = (accepted_by <> ''))
);
CREATE INDEX swaps_by_user ON swaps (org_id, user_id, end_time);
CREATE INDEX swaps_by_schedule ON swaps (org_id, schedule_id);
CREATE INDEX swaps_by_end ON swaps (org_id, end_time, id);
ALTER TABLE schedule_overrides ADD COLUMN swap_id uuid;
"""


def upgrade() -> None:
    run_script(op, TABLE)
    enable_row_security(op, "swaps")


def downgrade() -> None:
    run_script(op, "ALTER TABLE schedule_overrides DROP COLUMN swap_id; DROP TABLE swaps;")
