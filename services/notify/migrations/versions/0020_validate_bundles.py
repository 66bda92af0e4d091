"""The checks that 0019 changed hold for older rows as well.

VALIDATE reads the whole table beside readers and writers. Within 0019 it would read under the lock that shuts them out.

Revision ID: 0020
Revises: 0019
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

SCRIPT = """
ALTER TABLE pages VALIDATE CONSTRAINT pages_type;
ALTER TABLE notifications VALIDATE CONSTRAINT notifications_state;
"""


def upgrade() -> None:
    run_script(op, SCRIPT)


def downgrade() -> None:
    """Nothing to undo."""
