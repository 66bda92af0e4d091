"""Labels as they came of alerts that are held back, and an index by which the end of a silence with many of them is linear.

Revision ID: 0013
Revises: 0012
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A column that may be empty. The new index begins as the one that it replaces."""
    run_script(
        op,
        """ALTER TABLE alert_holds ADD COLUMN labels bytea;
           COMMENT ON COLUMN alert_holds.labels IS
             'tocsin.ingest.v1.AlertInput with nothing but its labels as they came; null: alerts.newest has them whole';
           CREATE INDEX alert_holds_of_silence_due ON alert_holds (org_id, silence_id, due_time);
           DROP INDEX alert_holds_of_silence;""",
    )


def downgrade() -> None:
    """Without them."""
    run_script(
        op,
        """CREATE INDEX alert_holds_of_silence ON alert_holds (org_id, silence_id);
           DROP INDEX alert_holds_of_silence_due;
           ALTER TABLE alert_holds DROP COLUMN labels;""",
    )
