"""Whose a Slack account is, asked of all tenants: the app that sends a command is the operator's.

Revision ID: 0031
Revises: 0030
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

INDEX = (
    "CREATE INDEX contact_methods_by_slack ON contact_methods (address) WHERE channel = 'slack' AND delete_time IS NULL"
)


def upgrade() -> None:
    run_script(op, INDEX)


def downgrade() -> None:
    run_script(op, "DROP INDEX contact_methods_by_slack")
