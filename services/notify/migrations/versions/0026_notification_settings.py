"""How much each user wants to get, and when.

Revision ID: 0026
Revises: 0025
"""

from alembic import op
from tocsin_kit.db.migrations import enable_row_security, run_script

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

TABLE = """
CREATE TABLE notification_settings (
  org_id text NOT NULL,
  user_id text NOT NULL,
  budget_pages integer,
  budget_window double precision,
  version integer NOT NULL DEFAULT 1,
  update_time timestamptz NOT NULL DEFAULT app_now(),
  CONSTRAINT notification_settings_pkey PRIMARY KEY (org_id, user_id),
  CONSTRAINT notification_settings_budget CHECK
    (budget_pages BETWEEN 0 AND 1000 AND budget_window BETWEEN 1 AND 86400
     AND (budget_pages IS NOT NULL OR budget_window IS NULL))
);
"""


def upgrade() -> None:
    run_script(op, TABLE)
    enable_row_security(op, "notification_settings")


def downgrade() -> None:
    run_script(op, "DROP TABLE notification_settings")
