"""Templates of mails as HTML.

Revision ID: 0033
Revises: 0032
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_script(op, "ALTER TABLE templates ADD COLUMN html text NOT NULL DEFAULT ''")


def downgrade() -> None:
    run_script(op, "ALTER TABLE templates DROP COLUMN html")
