"""From where an integration's keys may be used.

Revision ID: 0005
Revises: 0004
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One column; empty: from anywhere."""
    run_script(op, "ALTER TABLE integrations ADD COLUMN source_ranges text[] NOT NULL DEFAULT '{}'")


def downgrade() -> None:
    """Without it."""
    run_script(op, "ALTER TABLE integrations DROP COLUMN source_ranges")
