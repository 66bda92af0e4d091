"""Half of each page of escalations is left for the next versions of its rows: what becomes of their pages is written into
nearly every one within seconds, and a version beside the old one needs no entry in any index.

The table does not grow by it: without the room the second versions took as much elsewhere.

Revision ID: 0034
Revises: 0033
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_script(op, "ALTER TABLE escalations SET (fillfactor = 50)")


def downgrade() -> None:
    run_script(op, "ALTER TABLE escalations RESET (fillfactor)")
