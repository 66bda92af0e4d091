"""Versions of calendar imports, which people may change.

Revision ID: 0025
Revises: 0024
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_script(op, "ALTER TABLE calendar_imports ADD COLUMN version integer NOT NULL DEFAULT 1")


def downgrade() -> None:
    run_script(op, "ALTER TABLE calendar_imports DROP COLUMN version")
