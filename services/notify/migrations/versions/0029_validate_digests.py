"""The checks that 0028 changed hold for older rows as well.

Revision ID: 0029
Revises: 0028
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_script(op, "ALTER TABLE pages VALIDATE CONSTRAINT pages_type, VALIDATE CONSTRAINT pages_incident")


def downgrade() -> None:
    """Nothing to undo."""
