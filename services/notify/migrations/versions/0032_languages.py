"""The language in which a user's messages are written.

Revision ID: 0032
Revises: 0031
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_script(op, "ALTER TABLE notification_settings ADD COLUMN language text")


def downgrade() -> None:
    run_script(op, "ALTER TABLE notification_settings DROP COLUMN language")
