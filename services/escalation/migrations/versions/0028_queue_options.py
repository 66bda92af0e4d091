"""What operators chose of the options of queues.

Revision ID: 0028
Revises: 0027
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

SCRIPT = """
CREATE TABLE queue_options (
  queue text NOT NULL,
  options bytea NOT NULL DEFAULT '',
  version bigint NOT NULL DEFAULT 0,
  update_time timestamptz NOT NULL DEFAULT app_now(),
  CONSTRAINT queue_options_pkey PRIMARY KEY (queue)
);
"""


def upgrade() -> None:
    run_script(op, SCRIPT)


def downgrade() -> None:
    run_script(op, "DROP TABLE queue_options")
