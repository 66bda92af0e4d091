"""Reminders without an incident, and for teams.

Revision ID: 0029
Revises: 0028
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

SCRIPT = """
ALTER TABLE reminders ALTER COLUMN incident_id DROP NOT NULL, ADD COLUMN team_id text;
"""
BACK = """
DELETE FROM reminders WHERE incident_id IS NULL OR team_id IS NOT NULL;
ALTER TABLE reminders ALTER COLUMN incident_id SET NOT NULL, DROP COLUMN team_id;
"""


def upgrade() -> None:
    run_script(op, SCRIPT)


def downgrade() -> None:
    run_script(op, BACK)
