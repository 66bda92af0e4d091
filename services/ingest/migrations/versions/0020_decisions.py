"""What was decided about an alert, and by which routing rule.

Revision ID: 0020
Revises: 0019
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A column that may be empty: older code leaves it out."""
    run_script(
        op,
        """ALTER TABLE alerts ADD COLUMN decided bytea;
           COMMENT ON COLUMN alerts.decided IS
             'tocsin.ingest.v1.AlertDecisions; null: it began before they were recorded';""",
    )


def downgrade() -> None:
    """Without it."""
    run_script(op, "ALTER TABLE alerts DROP COLUMN decided;")
