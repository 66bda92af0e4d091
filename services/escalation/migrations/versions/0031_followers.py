"""Users who follow an incident: stored in its row, so that a change of an incident without followers needs no query.

Revision ID: 0031
Revises: 0030
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_script(op, "ALTER TABLE escalations ADD COLUMN followers jsonb NOT NULL DEFAULT '{}'")


def downgrade() -> None:
    run_script(op, "ALTER TABLE escalations DROP COLUMN followers")
