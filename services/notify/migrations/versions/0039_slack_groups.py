"""User groups of Slack that follow who is on call.

Revision ID: 0039
Revises: 0038
"""

from alembic import op
from tocsin_kit.db.migrations import enable_row_security, run_script

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None

# All tenants share one workspace, so a group is of one tenant.
TABLE = """
CREATE TABLE slack_groups (
  org_id text NOT NULL,
  id text NOT NULL,
  schedule text NOT NULL,
  disable_when_nobody boolean NOT NULL,
  members text[] NOT NULL DEFAULT '{}',
  disabled boolean NOT NULL DEFAULT false,
  look_time timestamptz NOT NULL DEFAULT app_now(),
  tries integer NOT NULL DEFAULT 0,
  success_time timestamptz,
  problem text NOT NULL DEFAULT '',
  problem_time timestamptz,
  version integer NOT NULL DEFAULT 1,
  create_time timestamptz NOT NULL DEFAULT app_now(),
  CONSTRAINT slack_groups_pkey PRIMARY KEY (org_id, id)
);
CREATE UNIQUE INDEX slack_groups_of_one_tenant ON slack_groups (id);
CREATE INDEX slack_groups_due ON slack_groups (look_time);
"""


def upgrade() -> None:
    run_script(op, TABLE)
    enable_row_security(op, "slack_groups")


def downgrade() -> None:
    run_script(op, "DROP TABLE slack_groups")
