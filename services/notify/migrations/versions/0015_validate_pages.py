"""The checks of pages that 0012 added hold for older rows as well.

VALIDATE reads the whole table beside readers and writers. Within 0012 it would read under the lock that shuts them out.

Revision ID: 0015
Revises: 0014
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

SCRIPT = """
ALTER TABLE pages VALIDATE CONSTRAINT pages_type;
ALTER TABLE pages VALIDATE CONSTRAINT pages_incident;
"""


def upgrade() -> None:
    run_script(op, SCRIPT)


def downgrade() -> None:
    """Nothing to undo."""
