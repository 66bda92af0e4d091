"""How often an escalation was handed on to another policy because no person answered.

Revision ID: 0015
Revises: 0014
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_script(op, "ALTER TABLE escalations ADD COLUMN handed_on integer NOT NULL DEFAULT 0")


def downgrade() -> None:
    run_script(op, "ALTER TABLE escalations DROP COLUMN handed_on")
