"""Attempts name the process that made them, so that those of a dead one need not wait for the end of their lease."""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_script(op, "ALTER TABLE attempts ADD COLUMN sender bigint;")


def downgrade() -> None:
    run_script(op, "ALTER TABLE attempts DROP COLUMN sender;")
