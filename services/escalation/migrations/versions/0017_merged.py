"""Incidents that are merged into another one.

Revision ID: 0017
Revises: 0016
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_script(
        op,
        """ALTER TABLE escalations ADD COLUMN merged_into uuid;
           ALTER TABLE escalations DROP CONSTRAINT escalations_state;
           ALTER TABLE escalations ADD CONSTRAINT escalations_state
             CHECK (state IN ('triggered', 'acknowledged', 'snoozed', 'exhausted', 'resolved', 'merged'));
           ALTER TABLE escalations ADD CONSTRAINT merged_has_target CHECK (state <> 'merged' OR merged_into IS NOT NULL);
           CREATE INDEX escalations_merged ON escalations (merged_into) WHERE state = 'merged';""",
    )


def downgrade() -> None:
    run_script(
        op,
        """SET LOCAL tocsin.org_id = '*';
           UPDATE escalations SET state = 'exhausted' WHERE state = 'merged';
           ALTER TABLE escalations DROP CONSTRAINT escalations_state;
           ALTER TABLE escalations ADD CONSTRAINT escalations_state
             CHECK (state IN ('triggered', 'acknowledged', 'snoozed', 'exhausted', 'resolved'));
           ALTER TABLE escalations DROP COLUMN merged_into;""",
    )
