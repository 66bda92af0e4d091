"""A timer of a level that waits for the hours in which its policy pages incidents of its urgency.

Revision ID: 0030
Revises: 0029
"""

from alembic import op
from tocsin_kit.db.migrations import run_script

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_script(
        op,
        """ALTER TABLE timers DROP CONSTRAINT timers_kind;
           ALTER TABLE timers ADD CONSTRAINT timers_kind
             CHECK (kind IN ('level_timeout', 'ack_timeout', 'snooze_end', 'gap_hold', 'deferred'));""",
    )


def downgrade() -> None:
    run_script(
        op,
        # The version before begins the level behind the one at which an incident is.
        """UPDATE escalations e SET level = e.level - 1 FROM timers t
             WHERE t.incident_id = e.incident_id AND t.kind = 'deferred' AND t.level_end IS NULL AND e.level > 0;
           UPDATE timers SET kind = 'level_timeout' WHERE kind = 'deferred';
           ALTER TABLE timers DROP CONSTRAINT timers_kind;
           ALTER TABLE timers ADD CONSTRAINT timers_kind
             CHECK (kind IN ('level_timeout', 'ack_timeout', 'snooze_end', 'gap_hold'));""",
    )
