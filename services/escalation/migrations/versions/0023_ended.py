"""How many incidents were resolved in a quarter of an hour, whenever they were opened. What was resolved before is not counted.

Revision ID: 0023
Revises: 0022
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_script(op, "ALTER TABLE incident_figures ADD COLUMN ended bigint NOT NULL DEFAULT 0")


def downgrade() -> None:
    run_script(op, "DELETE FROM incident_figures WHERE opened = 0; ALTER TABLE incident_figures DROP COLUMN ended")
