"""Half of each page of escalations is left free for new versions of its rows. The outcomes of pages change nearly every row
within seconds, and a new version on the same page needs no new index entry.

The table does not grow by it: without the free space, the new versions took as much space elsewhere.

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
