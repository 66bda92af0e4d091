"""What is due is found by its time, of one tenant and of all, for those sweeps in which tenants take turns.

Revision ID: 0041
Revises: 0040
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0041"
down_revision = "0040"
branch_labels = None
depends_on = None

TURNS = """
CREATE INDEX paces_turns ON paces (org_id, bundle_due, bundle) WHERE bundle IS NOT NULL;
CREATE INDEX quiet_bundles_turns ON quiet_bundles (org_id, due_time, bundle);
CREATE INDEX recurring_messages_turns ON recurring_messages (org_id, next_time, id) WHERE state = 'active';
CREATE INDEX slack_groups_turns ON slack_groups (org_id, look_time, id);
DROP INDEX paces_due, quiet_bundles_due, slack_groups_due;
CREATE INDEX paces_due ON paces (bundle_due, bundle) WHERE bundle IS NOT NULL;
CREATE INDEX quiet_bundles_due ON quiet_bundles (due_time, bundle);
CREATE INDEX slack_groups_due ON slack_groups (look_time, id);
"""
BEFORE = """
DROP INDEX paces_turns, quiet_bundles_turns, recurring_messages_turns, slack_groups_turns;
DROP INDEX paces_due, quiet_bundles_due, slack_groups_due;
CREATE INDEX paces_due ON paces (bundle_due) WHERE bundle IS NOT NULL;
CREATE INDEX quiet_bundles_due ON quiet_bundles (due_time);
CREATE INDEX slack_groups_due ON slack_groups (look_time);
"""


def upgrade() -> None:
    run_script(op, TURNS)


def downgrade() -> None:
    run_script(op, BEFORE)
