"""How many alerts of an integration its limits refused since its people were told of that.

Revision ID: 0024
Revises: 0023
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Columns with defaults: older code leaves them out, and does not report its refusals, as before."""
    run_script(
        op,
        """ALTER TABLE intakes
             ADD COLUMN refused bigint NOT NULL DEFAULT 0 CONSTRAINT intakes_refused_check CHECK (refused >= 0),
             ADD COLUMN reason text NOT NULL DEFAULT '',
             ADD COLUMN report_time timestamptz;
           COMMENT ON COLUMN intakes.refused IS 'Of a tenant: alerts that limits refused since report_time';
           CREATE INDEX intakes_untold ON intakes (report_time) WHERE refused > 0;""",
    )


def downgrade() -> None:
    """Without them."""
    run_script(
        op,
        """DROP INDEX intakes_untold;
           ALTER TABLE intakes DROP COLUMN refused, DROP COLUMN reason, DROP COLUMN report_time;""",
    )
