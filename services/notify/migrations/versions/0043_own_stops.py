"""A fence also stops the pages of single users, who have passed the incident on.

Revision ID: 0043
Revises: 0042
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0043"
down_revision = "0042"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_script(op, "ALTER TABLE cancel_fences ADD COLUMN own jsonb NOT NULL DEFAULT '{}';")


def downgrade() -> None:
    run_script(op, "ALTER TABLE cancel_fences DROP COLUMN own;")
