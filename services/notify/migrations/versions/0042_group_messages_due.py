"""Group messages that are due are found without those to one receiver, of which thousands may be due at the same time.

Revision ID: 0042
Revises: 0041
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0042"
down_revision = "0041"
branch_labels = None
depends_on = None

GROUPS = """
CREATE INDEX messages_groups_due ON messages (send_time, id) WHERE state = 'scheduled' AND channel = 'group';
CREATE INDEX messages_groups_turns ON messages (org_id, send_time, id) WHERE state = 'scheduled' AND channel = 'group';
"""


def upgrade() -> None:
    run_script(op, GROUPS)


def downgrade() -> None:
    run_script(op, "DROP INDEX messages_groups_due, messages_groups_turns")
