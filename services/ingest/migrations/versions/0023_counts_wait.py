"""Since when an event that tells of duplicates waits for its delivery, which reads how many there are.

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
    """A column that may be empty: older code leaves it out."""
    run_script(
        op,
        """ALTER TABLE incidents ADD COLUMN count_waits_since timestamptz;
           COMMENT ON COLUMN incidents.count_waits_since IS
             'Since when an event waits whose delivery reads alert_count; null: none does';""",
    )


def downgrade() -> None:
    """Without it."""
    run_script(op, "ALTER TABLE incidents DROP COLUMN count_waits_since;")
