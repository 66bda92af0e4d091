"""Contact methods know whether their user is disabled.

Revision ID: 0038
Revises: 0037
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None

SCRIPT = """
ALTER TABLE contact_methods ADD COLUMN user_disabled boolean NOT NULL DEFAULT false, ADD COLUMN user_change_time timestamptz;
"""
UNDO = """
ALTER TABLE contact_methods DROP COLUMN user_disabled, DROP COLUMN user_change_time;
"""


def upgrade() -> None:
    run_script(op, SCRIPT)


def downgrade() -> None:
    run_script(op, UNDO)
