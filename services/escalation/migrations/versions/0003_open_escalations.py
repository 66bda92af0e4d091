"""An index of everything that is not resolved, in the order of ids: what ingest compares its record with.

It serves the audit of running escalations as well, so that the index it had goes.

Revision ID: 0003
Revises: 0002
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One index in place of the other: each one more costs every write of an escalation."""
    run_script(
        op,
        """CREATE INDEX escalations_open ON escalations (incident_id) WHERE state <> 'resolved';
        DROP INDEX escalations_running;""",
    )


def downgrade() -> None:
    """The other way round."""
    run_script(
        op,
        """CREATE INDEX escalations_running ON escalations (incident_id) WHERE state IN ('triggered', 'snoozed');
        DROP INDEX escalations_open;""",
    )
