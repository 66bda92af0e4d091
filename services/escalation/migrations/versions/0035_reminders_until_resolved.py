"""Reminders that repeat although the incident is acknowledged.

Revision ID: 0035
Revises: 0034
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_script(op, "ALTER TABLE reminders ADD COLUMN until_resolved boolean NOT NULL DEFAULT false")


def downgrade() -> None:
    run_script(op, "ALTER TABLE reminders DROP COLUMN until_resolved")
