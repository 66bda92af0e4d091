"""When an alert joined an incident for the last time, for groups with a window.

Revision ID: 0025
Revises: 0024
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A column with a default, for which no row is written: older code leaves it out, and open incidents count as joined now."""
    run_script(
        op,
        """ALTER TABLE incidents ADD COLUMN last_join_time timestamptz NOT NULL DEFAULT app_now();
           COMMENT ON COLUMN incidents.last_join_time IS 'When an alert opened or joined it for the last time';
           COMMENT ON COLUMN incidents.group_key IS
             'Hash of tenant, integration and what its alerts agree in; its own id: no alert joins it any more';""",
    )


def downgrade() -> None:
    """Without it."""
    run_script(
        op,
        """ALTER TABLE incidents DROP COLUMN last_join_time;
           COMMENT ON COLUMN incidents.group_key IS 'Hash of tenant, integration and what its alerts agree in';""",
    )
