"""Reminders that come once outlast an acknowledge of their incident.

Revision ID: 0018
Revises: 0017
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

# A fence of the code before this leaves `final_generation` NULL, and stops all.
SCRIPT = """
ALTER TABLE pages ADD COLUMN outlasts boolean NOT NULL DEFAULT false;
ALTER TABLE notifications ADD COLUMN outlasts boolean NOT NULL DEFAULT false;
ALTER TABLE cancel_fences ADD COLUMN final_generation integer;
"""
UNDO = """
ALTER TABLE cancel_fences DROP COLUMN final_generation;
ALTER TABLE notifications DROP COLUMN outlasts;
ALTER TABLE pages DROP COLUMN outlasts;
"""


def upgrade() -> None:
    run_script(op, SCRIPT)


def downgrade() -> None:
    run_script(op, UNDO)
